"""A process beside the worker, for packs that may have ended one: it can be lost.

A pack that comes back from the broker may be why it did. It is run whole in the child first; when
that ends the child, or takes too long, item by item. So what ends processes costs its own items
an error, and their neighbours nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Final

import msgspec

from broker_config.errors import ModelError
from broker_config.messages import (
    MSGPACK,
    Code,
    Item,
    ItemError,
    Reply,
    Request,
    Result,
    decode_reply,
    encode,
)
from broker_config.settings import Settings
from workers.answering import Answerer, Pack, failed_reply, read
from workers.interrupts import interrupts_held

log = logging.getLogger(__name__)

#: Seconds for the child to load the models.
START_TIMEOUT: Final = 60.0
#: Seconds for a child whose pipe is closed to have ended.
END_TIMEOUT: Final = 5.0
#: prctl(2): the signal that a process gets when its parent ends.
_PR_SET_PDEATHSIG: Final = 1


class _Ended(Exception):
    """The child is gone; why, as the error of what it ran."""

    def __init__(self, error: ItemError) -> None:
        super().__init__(str(error))
        self.error = error


class _NotStarted(Exception):
    """There is no child to run anything."""


class Apart:
    """The child: started when it is needed, started again when it was lost. For one thread."""

    def __init__(self, settings: Settings, worker: str, models: Sequence[str]) -> None:
        """`worker` is the name in the replies; `models` are loaded at the start."""
        self._settings = settings
        self._worker = worker
        self._models = list(models)
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None
        self._stopped = False

    def answer(self, pack: Pack) -> Reply:
        """The reply to a pack; an item that ends the child, or takes too long, has that error."""
        if pack.request is None:
            assert pack.error is not None
            return failed_reply(pack, pack.error, self._worker)
        request = _with_faults(pack.request, pack.faults)
        try:
            return self._whole_or_each(request)
        except _NotStarted as error:
            fault = ItemError(code=Code.UNAVAILABLE, message=str(error))
            return failed_reply(pack, fault, self._worker)

    def _whole_or_each(self, request: Request) -> Reply:
        try:
            return self._run(request)
        except _Ended as ended:
            _tell(request, ended)
            if len(request.items) == 1:
                results = [Result(id=request.items[0].id, error=ended.error)]
                return Reply(model=request.model, results=results, worker=self._worker)
        replies = [self._whole_or_each(_of_one(request, item)) for item in request.items]
        versions = [reply.version for reply in replies if reply.version]
        return Reply(
            model=request.model,
            version=versions[0] if versions else None,
            worker=self._worker,
            results=[result for reply in replies for result in reply.results],
        )

    def _run(self, request: Request) -> Reply:
        if self._stopped:
            raise _NotStarted("the worker is stopping")
        if self._process is None:
            self._start()
        assert self._connection is not None
        try:
            self._connection.send_bytes(encode(request))
            if not self._connection.poll(self._settings.pack_timeout):
                limit = self._settings.pack_timeout
                self.close()
                raise _Ended(
                    ItemError(
                        code=Code.TIME_LIMIT,
                        message=f"it ran longer than {limit:g} s (setting pack_timeout)",
                    )
                )
            return decode_reply(self._connection.recv_bytes(), MSGPACK)
        except (EOFError, OSError) as error:
            how = self._how_it_ended()
            raise _Ended(
                ItemError(code=Code.POISON, message=f"it ended the process that ran it: {how}")
            ) from error

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        arguments = (theirs, self._settings, self._worker, self._models)
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        try:
            with interrupts_held():
                self._process.start()
            theirs.close()  # so that the end of the child is the end of the pipe
            if not self._connection.poll(START_TIMEOUT):
                raise _NotStarted(f"no process to run it apart within {START_TIMEOUT:g} s")
            if problem := self._connection.recv_bytes():
                raise _NotStarted(f"it cannot be run apart: {problem.decode()}")
        except (EOFError, OSError) as error:
            how = self._how_it_ended()
            raise _NotStarted(f"the process to run it apart did not start: {how}") from error
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


def _tell(request: Request, ended: _Ended) -> None:
    log.warning(
        "a pack of %d for %s run apart: %s",
        len(request.items),
        request.model,
        ended.error,
        extra={"action": "apart_ended", "code": ended.error.code},
    )


def _with_faults(request: Request, faults: dict[int, ItemError]) -> Request:
    """What is known to be wrong already goes along with its item, and comes back as its result."""
    if not faults:
        return request
    items = [
        Item(id=item.id, error=faults[place]) if place in faults else item
        for place, item in enumerate(request.items)
    ]
    return msgspec.structs.replace(request, items=items)


def _of_one(request: Request, item: Item) -> Request:
    return msgspec.structs.replace(request, items=[item])


# ------------------------------------------------------------------- the child


def _serve(connection: Connection, settings: Settings, worker: str, models: list[str]) -> None:
    """Answer what comes through the pipe until its other end is closed."""
    _end_with_parent()
    answerer = Answerer(settings, worker)
    try:
        for model in models:
            answerer.load(model)
    except ModelError as error:
        connection.send_bytes(str(error).encode())
        return
    connection.send_bytes(b"")
    with contextlib.suppress(EOFError):
        while True:
            pack = read(connection.recv_bytes(), MSGPACK, settings)
            connection.send_bytes(encode(answerer.answer([pack])[0]))


def _end_with_parent() -> None:
    """Be what the kernel ends first, when memory is short or the worker is gone."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is None or os.getppid() != parent.pid:  # it ended before it could be asked for
        os._exit(1)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
