"""A process beside the worker, for packs that may have ended one: it can be lost.

A pack that comes back from the broker may be why it did. It is run whole in the child first; when
that ends the child, or takes too long, item by item. An item over which the child ends is run once
more, alone: the first time it may have been the kernel, for which the child is the first to go when
memory is short, or an operator. So what ends processes costs its own items an error, and their
neighbours nothing.

The child is given all items at once and notes which one it is at, in memory that both see: a
message for each of them would wait each time until the worker's other runs let go of Python's lock.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import signal
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import RawValue
from pathlib import Path
from typing import Final

import msgspec

from lmaas.broker_config.errors import ModelError
from lmaas.broker_config.messages import (
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
from lmaas.broker_config.settings import Settings
from lmaas.workers.answering import Answerer, Pack, failed_reply, read
from lmaas.workers.repository import silence
from lmaas.workers.starting import context, end_with_parent, signals_held

log = logging.getLogger(__name__)

#: The part of `pack_timeout` that a pack is run whole for. One that takes longer is not at fault
#: for that: item by item, each may take all of it.
WHOLE: Final = 0.25
#: Seconds for the child to load the models.
START_TIMEOUT: Final = 60.0
#: Seconds for a child whose pipe is closed to have ended.
END_TIMEOUT: Final = 5.0


class _Ended(Exception):
    """The child is gone: why, as the error of what it ran, and the place of that."""

    def __init__(self, error: ItemError, place: int) -> None:
        super().__init__(str(error))
        self.error = error
        self.place = place


class _NotStarted(Exception):
    """There is no child to run anything."""


class Apart:
    """The child: started when it is needed, started again when it was lost. For one thread."""

    def __init__(self, settings: Settings, worker: str) -> None:
        """`worker` is the name in the replies."""
        #: Loaded at the start of the child.
        self.models: list[str] = []
        self._settings = settings
        self._worker = worker
        self._context = context(__name__)
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        self._progress = _Progress()
        self._stopped = False

    def answer(self, pack: Pack) -> Reply:
        """The reply to a pack; an item that ends the child, or takes too long, has that error."""
        if pack.request is None:
            assert pack.error is not None
            return failed_reply(pack, pack.error, self._worker)
        request = _with_faults(pack.request, pack.faults)
        try:
            whole = self._whole(request) if len(request.items) > 1 else None
            return whole or self._each(request)
        except _NotStarted as error:
            fault = ItemError(code=Code.UNAVAILABLE, message=str(error))
            return failed_reply(pack, fault, self._worker)

    def _whole(self, request: Request) -> Reply | None:
        """None when that ends the child."""
        try:
            return self._run([request], WHOLE * self._settings.pack_timeout)[0]
        except _Ended as ended:
            _tell(request, "whole", ended)
            return None

    def _each(self, request: Request) -> Reply:
        """Item by item; the others anew after each one over which the child has ended."""
        answered: dict[int, Reply] = {}
        guilty: dict[int, ItemError] = {}
        left = list(range(len(request.items)))
        while left:
            try:
                single = [_of_one(request, place) for place in left]
                replies = self._run(single, self._settings.pack_timeout)
                answered |= zip(left, replies, strict=True)
                break
            except _Ended as ended:
                place = left.pop(ended.place)
                _tell(request, f"item {place + 1}", ended)
                try:
                    answered[place] = self._again(request, place, ended)
                except _Ended as again:
                    guilty[place] = again.error
        return _joined(request, answered, guilty, self._worker)

    def _again(self, request: Request, place: int, ended: _Ended) -> Reply:
        """The reply to an item after all, when only the first end of the child was not its own."""
        if ended.error.code == Code.TIME_LIMIT:  # it had all of the time for itself
            raise ended
        try:
            return self._run([_of_one(request, place)], self._settings.pack_timeout)[0]
        except _Ended as again:
            _tell(request, f"item {place + 1} alone", again)
            raise

    def _run(self, requests: Sequence[Request], limit: float) -> list[Reply]:
        """One after the other, each in `limit` seconds. Raises _Ended and _NotStarted."""
        if not requests:
            return []
        if self._stopped:
            raise _NotStarted("the worker is stopping")
        if self._process is None or not self._process.is_alive():
            self.close()
            self._start()
        assert self._connection is not None
        self._progress.begin(0)
        try:
            self._connection.send_bytes(_packed(encode(request) for request in requests))
            self._await_replies(self._connection, limit)
            return [decode_reply(body, MSGPACK) for body in _unpacked(self._connection)]
        except (EOFError, OSError) as error:
            fault = ItemError(
                code=Code.POISON,
                message=f"it ended the process that ran it: {self._how_it_ended()}",
            )
            place, _ = self._progress.now()
            raise _Ended(fault, place) from error

    def _await_replies(self, connection: Connection, limit: float) -> None:
        """Returns when they have come. Raises _Ended when one request takes too long."""
        left = limit
        while not connection.poll(max(left, 0)):
            place, seconds = self._progress.now()
            if left <= 0 and seconds >= limit:
                self.close()
                fault = ItemError(
                    code=Code.TIME_LIMIT,
                    message=f"it ran longer than {limit:g} s (setting pack_timeout)",
                )
                raise _Ended(fault, place)
            left = limit - seconds

    def _start(self) -> None:
        self._connection, theirs = self._context.Pipe()
        arguments = (theirs, self._progress, self._settings, self._worker, self.models)
        self._process = self._context.Process(target=_serve, args=arguments, daemon=True)
        assert self._process is not None
        try:
            with signals_held(signal.SIGINT, signal.SIGTERM):
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


class _Progress:
    """Which request the child is at, and since when: in one word, so that both belong together."""

    _BITS: Final = 40  # of the milliseconds; the others have the place

    def __init__(self) -> None:
        self._shared = RawValue(ctypes.c_uint64)

    def begin(self, place: int) -> None:
        self._shared.value = place << self._BITS | self._clock()

    def now(self) -> tuple[int, float]:
        """The place, and for how many seconds the child has been there."""
        value = self._shared.value
        began = value & ((1 << self._BITS) - 1)
        return value >> self._BITS, (self._clock() - began) / 1000

    @staticmethod
    def _clock() -> int:
        """Milliseconds of a clock that all processes share."""
        return int(time.monotonic() * 1000)


def _tell(request: Request, what: str, ended: _Ended) -> None:
    log.warning(
        "a pack of %d for %s run apart, %s: %s",
        len(request.items),
        request.model,
        what,
        ended.error,
        extra={"action": "apart_ended", "code": ended.error.code},
    )


def _packed(bodies: Iterable[bytes]) -> bytes:
    return msgspec.msgpack.encode(list(bodies))


def _unpacked(connection: Connection) -> list[bytes]:
    return msgspec.msgpack.decode(connection.recv_bytes(), type=list[bytes])


def _with_faults(request: Request, faults: dict[int, ItemError]) -> Request:
    """What is known to be wrong already goes along with its item, and comes back as its result."""
    if not faults:
        return request
    items = [
        Item(id=item.id, error=faults[place]) if place in faults else item
        for place, item in enumerate(request.items)
    ]
    return msgspec.structs.replace(request, items=items)


def _of_one(request: Request, place: int) -> Request:
    return msgspec.structs.replace(request, items=[request.items[place]])


def _joined(
    request: Request, replies: Mapping[int, Reply], guilty: Mapping[int, ItemError], worker: str
) -> Reply:
    """One reply of those to single items, and the errors of the others, by place."""
    failed = {
        place: Result(id=request.items[place].id, error=error) for place, error in guilty.items()
    }
    answered = {place: reply.results[0] for place, reply in replies.items()}
    results = failed | answered
    versions = [reply.version for reply in replies.values() if reply.version]
    return Reply(
        model=request.model,
        version=versions[0] if versions else None,
        worker=worker,
        results=[results[place] for place in range(len(request.items))],
    )


# ------------------------------------------------------------------- the child


def _serve(
    connection: Connection, progress: _Progress, settings: Settings, worker: str, models: list[str]
) -> None:
    """Answer what comes through the pipe until its other end is closed."""
    end_with_parent(signal.SIGKILL)
    silence()
    _be_first_to_go()
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
            replies = []
            for place, body in enumerate(_unpacked(connection)):
                progress.begin(place)
                replies += answerer.answer([read(body, MSGPACK, settings)])
            connection.send_bytes(_packed(encode(reply) for reply in replies))


def _be_first_to_go() -> None:
    """What the kernel ends first, when memory is short."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")
