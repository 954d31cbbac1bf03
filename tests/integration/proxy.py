"""A line to the broker that breaks."""

from __future__ import annotations

import asyncio
import contextlib

import pamqp.frame
from pamqp.commands import Connection
from yarl import URL

from tests import tls

#: What a broker says that is being shut down.
CLOSE = pamqp.frame.marshal(
    Connection.Close(320, "CONNECTION_FORCED - broker forced connection closure", 0, 0), 0
)


class Proxy:
    """A line to the broker that can be cut, go dead, or be slow; with TLS, where the broker has it,
    on both sides.
    """

    def __init__(self, target: URL, certificates: tls.Certificates | None) -> None:
        self._target = target
        self._there = certificates and certificates.of_client()
        self._writers: set[asyncio.StreamWriter] = set()
        #: Of connections that go dead, those to come too while `_stalled`.
        self._dead: set[asyncio.StreamWriter] = set()
        self._stalled = False
        self._delay = 0.0
        #: The broker closes a connection together with this of its pieces; 0: with none.
        self.closes_with = 0
        self.url = ""
        #: Connections so far.
        self.count = 0

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(self._target.host, self._target.port, ssl=self._there)
        ours = {writer, there[1]}
        self._writers |= ours
        if self._stalled:
            self._dead |= ours
        self.count += 1
        await asyncio.gather(
            self._pump(reader, there[1]), self._pump(there[0], writer, self.closes_with)
        )
        for each in ours:  # of a dead one, who knows that its own end was closed
            each.transport.abort()
        self._writers -= ours
        self._dead -= ours

    def cut(self) -> None:
        """Resets every connection, whatever is on its way on it."""
        for writer in self._writers:
            writer.transport.abort()

    def stall(self) -> None:
        """Every packet vanishes from now on, the news of a closed end too; sockets stay open."""
        self._stalled = True
        self._dead |= self._writers

    def resume(self) -> None:
        """New connections work. Those that are dead stay it."""
        self._stalled = False

    def slow(self, seconds: float) -> None:
        """Each piece of up to 64 KiB takes so long, in each direction."""
        self._delay = seconds

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pieces: int = 0
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while content := await reader.read(1 << 16):
                pieces -= 1
                if pieces == 0:
                    writer.write(content + CLOSE)
                    break
                if self._delay:
                    await asyncio.sleep(self._delay)
                if writer not in self._dead:
                    writer.write(content)
                    await writer.drain()
        if writer in self._dead:  # the other end hears nothing, not even that we are gone
            return
        writer.close()
