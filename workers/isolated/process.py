"""The worker's end of an isolated process: start it, ask it, and find out over what it ended."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterable, Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Final

import msgspec

from lmaas.broker_config.codes import Code
from lmaas.broker_config.messages import ItemError, Reply, Request, Result
from lmaas.broker_config.seals import Seal
from lmaas.broker_config.settings import Settings
from lmaas.service.starting import context, signals_held
from lmaas.workers.isolated import child
from lmaas.workers.isolated.tasks import (
    ITEMS,
    READING,
    TOGETHER,
    Outcome,
    Progress,
    Task,
    outcomes,
)
from lmaas.workers.pack import Pack, failed_reply

log = logging.getLogger(__name__)

#: The share of `pack_timeout` that all items may take together. They are not at fault for taking
#: longer: item by item, each may take all of it.
SHARE: Final = 0.25
#: Seconds for the child to load the models.
START_TIMEOUT: Final = 60.0
#: Seconds for a child whose pipe is closed to have ended.
END_TIMEOUT: Final = 5.0


class _Ended(Exception):
    """The child is gone: why, as the error of what it was at, and what that was."""

    def __init__(self, error: ItemError, step: int) -> None:
        super().__init__(str(error))
        self.error = error
        self.step = step

    @property
    def item(self) -> int | None:
        """The place of the item that it was at; None when it was at several, or decoded."""
        return self.step - ITEMS if self.step >= ITEMS else None


class _NotStarted(Exception):
    """There is no child to run anything."""


class IsolatedProcess:
    """The child: started when it is needed, started again when it was lost. For one thread."""

    def __init__(self, settings: Settings, worker: str, versions: Mapping[str, str]) -> None:
        """`worker` is the name in the replies. `versions` are those that a child loads at its
        start, by model: the ones that are current then.
        """
        self._versions = versions
        self._settings = settings
        self._worker = worker
        self._context = context(child.__name__)
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        self._progress = Progress()
        self._stopped = False

    def answer(
        self,
        pack: Pack,
        body: bytes,
        content_type: str | None,
        model: str | None = None,
        seal: Seal | None = None,
    ) -> tuple[Pack, Reply]:
        """The pack of this body and its reply. `model` is the one whose lane it came by, `seal`
        that of the body, which only the child opens.

        An item that ends the child, or takes too long, has that error; a body over which it ends
        while it is decoded is the pack's.
        """
        if pack.error is not None:  # refused at sight
            return pack, failed_reply(pack, pack.error, self._worker)
        try:
            return self._run(Task(body, content_type, model, pack.version, "run", seal=seal))
        except _NotStarted as error:  # it may start at the next try
            pack = _refused(ItemError(code=Code.UNAVAILABLE, message=str(error)), len(body))
        except _Ended as ended:
            pack = _refused(ended.error, len(body))
        assert pack.error is not None
        return pack, failed_reply(pack, pack.error, self._worker)

    def _run(self, task: Task) -> tuple[Pack, Reply]:
        """Anew each time the child has ended. Raises _Ended when it cannot even be decoded."""
        answered: dict[int, Reply] = {}
        guilty: dict[int, ItemError] = {}
        while True:
            try:
                outcome = self._decoded(task)
                break
            except _Ended as ended:
                if ended.step == READING:
                    raise
                if (place := ended.item) is None:
                    task.singly = True
                    continue
                try:
                    answered[place] = self._again(task, place, ended)
                except _Ended as again:
                    guilty[place] = again.error
                task.without.append(place)
                task.singly = False  # most often it was the only one
        pack = _pack(outcome, len(task.body))
        if pack.request is None:
            assert pack.error is not None
            return pack, failed_reply(pack, pack.error, self._worker)
        replies = [*outcome.replies, *(([place], reply) for place, reply in answered.items())]
        return pack, _joined(pack.request, replies, guilty, self._worker)

    def _again(self, task: Task, place: int, ended: _Ended) -> Reply:
        """The reply to an item after all, when only the first end of the child was not its own."""
        if ended.error.code == Code.TIME_LIMIT:  # it had all of the time for itself
            raise ended
        alone = msgspec.structs.replace(task, action="one", place=place, singly=False, without=[])
        ((_, reply),) = self._decoded(alone).replies
        return reply

    def read(
        self,
        body: bytes,
        content_type: str | None,
        model: str | None = None,
        seal: Seal | None = None,
    ) -> Pack:
        """The pack of this body, which is only decoded."""
        try:
            task = Task(body, content_type, model, None, "read", seal=seal)
            return _pack(self._decoded(task), len(body))
        except _NotStarted as error:
            return _refused(ItemError(code=Code.UNAVAILABLE, message=str(error)), len(body))
        except _Ended as ended:
            return _refused(ended.error, len(body))

    def _decoded(self, task: Task) -> Outcome:
        """`_ask`, and once more when the child ends while it decodes."""
        try:
            return self._ask(task)
        except _Ended as ended:
            if ended.step != READING or ended.error.code == Code.TIME_LIMIT:
                raise
        return self._ask(task)

    def _ask(self, task: Task) -> Outcome:
        """Raises _Ended and _NotStarted."""
        if self._stopped:
            raise _NotStarted("the worker is stopping")
        if self._process is None or not self._process.is_alive():
            self.close()
            self._start()
        assert self._connection is not None
        self._progress.begin(READING)
        try:
            self._connection.send_bytes(msgspec.msgpack.encode(task))
            self._await_outcome(self._connection, len(task.body))
            return outcomes.decode(self._connection.recv_bytes())
        except (EOFError, OSError) as error:
            fault = ItemError(
                code=Code.POISON,
                message=f"it ended the process that ran it: {self._how_it_ended()}",
            )
            step, _ = self._progress.now()
            raise _ended(fault, step, len(task.body)) from error

    def _await_outcome(self, connection: Connection, size: int) -> None:
        """Returns when it has come. Raises _Ended when one step takes too long."""
        left = self._limit(READING)
        while not connection.poll(max(left, 0)):
            step, seconds = self._progress.now()
            limit = self._limit(step)
            if left <= 0 and seconds >= limit:
                self.close()
                fault = ItemError(
                    code=Code.TIME_LIMIT,
                    message=f"it ran longer than {limit:g} s (setting pack_timeout)",
                )
                raise _ended(fault, step, size)
            left = limit - seconds

    def _limit(self, step: int) -> float:
        """Seconds for what the child is at."""
        return self._settings.pack_timeout * (SHARE if step == TOGETHER else 1)

    def _start(self) -> None:
        self._connection, theirs = self._context.Pipe()
        arguments = (theirs, self._progress, self._settings, self._worker, {**self._versions})
        self._process = self._context.Process(target=child.serve, args=arguments, daemon=True)
        assert self._process is not None
        try:
            with signals_held(signal.SIGINT, signal.SIGTERM):
                self._process.start()
            theirs.close()  # so that the end of the child is the end of the pipe
            if not self._connection.poll(START_TIMEOUT):
                raise _NotStarted(f"no isolated process within {START_TIMEOUT:g} s")
            if problem := self._connection.recv_bytes():
                raise _NotStarted(f"it cannot be run isolated: {problem.decode()}")
        except (EOFError, OSError) as error:
            how = self._how_it_ended()
            raise _NotStarted(f"the isolated process did not start: {how}") from error
        except _NotStarted:
            self.close()
            raise

    def _how_it_ended(self) -> str:
        process = self._process
        if process is None or process.pid is None:
            return "the system has no room for it"
        process.join(END_TIMEOUT)
        self.close()
        code = process.exitcode or 0
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def close(self) -> None:
        """End the child, if there is one."""
        process, self._process = self._process, None
        if process is not None and process.pid is not None:
            process.kill()
            process.join()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def stop(self) -> None:
        """From another thread: end the child, and let `answer` start no other."""
        self._stopped = True
        process = self._process
        if process is not None and process.pid is not None:
            process.kill()


def _ended(error: ItemError, step: int, size: int) -> _Ended:
    """It is logged too."""
    ended = _Ended(error, step)
    what = "decoding" if step == READING else "its items together"
    log.warning(
        "an isolated pack of %d bytes, %s: %s",
        size,
        what if ended.item is None else f"item {ended.item + 1}",
        error,
        extra={"action": "isolated_ended", "code": error.code},
    )
    return ended


def _pack(outcome: Outcome, size: int) -> Pack:
    return Pack(outcome.request, outcome.faults, outcome.error, size)


def _refused(error: ItemError, size: int) -> Pack:
    """Nobody knows its items."""
    return Pack(None, error=error, size=size)


def _joined(
    request: Request,
    replies: Iterable[tuple[Sequence[int], Reply]],
    guilty: Mapping[int, ItemError],
    worker: str,
) -> Reply:
    """One reply of those to items at their places, and the errors of the others."""
    results = {
        place: Result(id=request.items[place].id, error=error) for place, error in guilty.items()
    }
    version: str | None = None
    refusal: ItemError | None = None
    for places, reply in replies:
        results |= zip(places, reply.results, strict=True)
        version = reply.version or version
        refusal = reply.error or refusal
    return Reply(
        model=request.model,
        version=version,
        worker=worker,
        results=[results[place] for place in range(len(request.items))],
        error=refusal,
    )
