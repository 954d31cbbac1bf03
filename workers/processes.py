"""Processes that answer packs, each over a socket of its own.

With nothing in common between them, one that is killed in the middle of a word is noticed at once
and blocks nobody. (A `ProcessPoolExecutor` has one pipe and one lock for all, and hangs.)
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import signal
import socket
from collections import deque
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any, Final, Self

from lmaas.broker_config.errors import ModelError
from lmaas.service.starting import end_with_parent, signals_held
from lmaas.service.supervisor import Ending

#: Packs that a process has at a time: the next one is there when the first is answered.
AHEAD: Final = 2
#: Bytes of the length before each body.
_LENGTH: Final = 4
#: Seconds in which a process that has closed its socket ends.
_GRACE: Final = 5.0

#: A body in, its answer out.
Answering = Callable[[bytes], bytes]


class Processes:
    """As many as there is work for, up to `most`: one is started when no other is idle."""

    def __init__(self, most: int, begin: Callable[..., Answering], *arguments: Any) -> None:
        """Each process calls `begin(*arguments)` once; both have to be picklable."""
        self._most = most
        self._begin = begin
        self._arguments = arguments
        self._processes: list[_Process] = []
        self._room = asyncio.Semaphore(AHEAD * most)
        self._choosing = asyncio.Lock()

    async def run(self, body: bytes) -> bytes:
        """The answer to a body. Raises ModelError when a process has ended."""
        async with self._room:
            async with self._choosing:
                process = await self._chosen()
            return await process.answer(body)

    async def _chosen(self) -> _Process:
        least = min(self._processes, key=lambda one: one.load, default=None)
        if least is None or (least.load and len(self._processes) < self._most):
            least = await _Process.start(self._begin, self._arguments)
            self._processes.append(least)
        return least

    async def close(self) -> None:
        """End them, whatever they are at."""
        for process in self._processes:
            process.end()
        for process in self._processes:
            await process.ended()


class _Process:
    def __init__(
        self, process: BaseProcess, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        #: In the order in which they were sent, which is that of the answers.
        self._waiting: deque[asyncio.Future[bytes]] = deque()
        self._why: ModelError | None = None
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, begin: Callable[..., Answering], arguments: tuple[Any, ...]) -> Self:
        ours, theirs = socket.socketpair()
        with theirs:
            process = multiprocessing.get_context("spawn").Process(
                target=_serve, args=(theirs, begin, arguments), daemon=True
            )
            # What the whole group gets is for us to decide on.
            with signals_held(signal.SIGINT, signal.SIGTERM):
                process.start()
        try:
            return cls(process, *await asyncio.open_unix_connection(sock=ours))
        except BaseException:
            ours.close()
            process.kill()
            process.join()
            raise

    @property
    def load(self) -> int:
        return len(self._waiting)

    async def answer(self, body: bytes) -> bytes:
        if self._why:
            raise self._why
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.append(answered)
        self._writer.write(len(body).to_bytes(_LENGTH) + body)
        return await answered

    async def _read(self) -> None:
        """Hand the answers on, until the process ends: then everybody who waits is told."""
        try:
            while True:
                length = int.from_bytes(await self._reader.readexactly(_LENGTH))
                body = await self._reader.readexactly(length)
                answered = self._waiting.popleft()
                if not answered.done():  # else nobody waits any more
                    answered.set_result(body)
        except (asyncio.IncompleteReadError, OSError):
            await asyncio.to_thread(self._process.join, _GRACE)
        ending = Ending(self._process.exitcode, None)
        advice = "; out of memory? try fewer --processes" if ending.code == -signal.SIGKILL else ""
        self._why = ModelError(f"a process that classifies ended ({ending}{advice})")
        for answered in self._waiting:
            if not answered.done():
                answered.set_exception(self._why)

    def end(self) -> None:
        self._reading.cancel()
        self._writer.close()
        self._process.kill()

    async def ended(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await self._reading
        await asyncio.to_thread(self._process.join)


def _serve(
    connection: socket.socket, begin: Callable[..., Answering], arguments: tuple[Any, ...]
) -> None:
    """What a process does: answer one body after the other, until its parent closes the socket."""
    end_with_parent(signal.SIGKILL)
    answer = begin(*arguments)
    with connection, connection.makefile("rwb") as stream, contextlib.suppress(BrokenPipeError):
        while length := stream.read(_LENGTH):
            body = answer(stream.read(int.from_bytes(length)))
            stream.write(len(body).to_bytes(_LENGTH) + body)
            stream.flush()
