"""A TCP line to the broker that can be cut, stalled, slowed, and left half-open."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

from yarl import URL

from benchmarks.failures.frames import Held
from benchmarks.failures.polling import until

_PART: Final = 1 << 16
#: Bytes a second and direction of a slow connection.
SLOW: Final = 256 * 1024


class Line:
    """One connection: the client's end, and ours to the broker."""

    def __init__(self, client: asyncio.StreamWriter, broker: asyncio.StreamWriter) -> None:
        self.ends = (client, broker)
        self.held = Held()
        #: Whether everything that is sent vanishes.
        self.dead = False

    def reset(self) -> None:
        """Whatever is on its way is lost, and both ends are told."""
        for end in self.ends:
            end.transport.abort()


class Proxy:
    """Passes connections on to the broker, and sees what is delivered again."""

    def __init__(self, target: str) -> None:
        self._target = URL(target)
        self._lines: set[Line] = set()
        self._open = asyncio.Event()
        self._open.set()
        #: Bytes a second; 0 for as fast as it goes.
        self._speed = 0
        self.url = ""
        #: Moments at which packs were delivered again, on the monotonic clock.
        self.redeliveries: list[float] = []
        #: Moments at which connections ended, each with the packs that its client held.
        self.ended: list[tuple[float, int]] = []

    @classmethod
    @contextlib.asynccontextmanager
    async def serving(cls, target: str) -> AsyncIterator[Proxy]:
        """Listens on a port of its own of this machine; its `url` is the target's there."""
        proxy = cls(target)
        server = await asyncio.start_server(proxy._accept, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        proxy.url = str(URL(target).with_host("127.0.0.1").with_port(port))
        try:
            yield proxy
        finally:
            server.close()
            proxy.cut()
            await server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            their_reader, their_writer = await asyncio.open_connection(
                self._target.host, self._target.port
            )
        except OSError:  # the broker is down, which its clients are to see as it is
            writer.transport.abort()
            return
        line = Line(writer, their_writer)
        self._lines.add(line)
        await asyncio.gather(
            self._pump(line, reader, their_writer, writer, line.held.sent),
            self._pump(line, their_reader, writer, their_writer, self._watch(line)),
        )
        self._lines.discard(line)

    def _watch(self, line: Line) -> Callable[[bytes], None]:
        def received(content: bytes) -> None:
            self.redeliveries += [time.monotonic()] * line.held.received(content)

        return received

    async def _pump(
        self,
        line: Line,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        back: asyncio.StreamWriter,
        see: Callable[[bytes], None],
    ) -> None:
        """From `reader` to `writer`; `back` is the other way of `reader`."""
        with contextlib.suppress(ConnectionError):
            while content := await reader.read(_PART):
                await self._open.wait()
                if line.dead:
                    continue
                see(content)
                if self._speed:
                    await asyncio.sleep(len(content) / self._speed)
                writer.write(content)
                await writer.drain()
        if see == line.held.sent:  # the client's end
            self.ended.append((time.monotonic(), len(line.held)))
        # Of a dead line the other end does not hear that this one is closed, either.
        (back if line.dead else writer).close()

    def cut(self) -> None:
        """Resets every connection."""
        for line in list(self._lines):
            line.reset()

    async def stall(self, seconds: float) -> None:
        """Nothing passes; then everything goes on."""
        self._open.clear()
        try:
            await asyncio.sleep(seconds)
        finally:
            self._open.set()

    async def slow(self, seconds: float) -> None:
        self._speed = SLOW
        await asyncio.sleep(seconds)
        self._speed = 0

    async def half_open(self) -> None:
        """What is sent on today's connections vanishes; returns when both ends of all know."""
        dead = list(self._lines)
        for line in dead:
            line.dead = True

        async def gone() -> bool:
            return not any(line in self._lines for line in dead)

        await until(gone)
