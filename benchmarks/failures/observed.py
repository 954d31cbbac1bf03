"""What can be seen of a worker from outside while it is under attack."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import time
from collections.abc import AsyncIterator
from typing import Final

import aiohttp
import psutil

from benchmarks.failures.processes import Process

#: Seconds between two looks, and for an answer.
LOOK: Final = 0.02
PATIENCE: Final = 60.0

_REDELIVERIES: Final = re.compile(r"^lmaas_redeliveries_total\{.*\} (\S+)$", re.MULTILINE)


class Observed:
    """Looks at a worker process all the time."""

    def __init__(self, worker: Process, port: int) -> None:
        """`port` is where the worker tells its health."""
        self._process = psutil.Process(worker.pid)
        self._url = f"http://127.0.0.1:{port}"
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE))
        self.before = self.memory
        #: Resident bytes at most, and seconds that its event loop took for an answer at most.
        self.most_memory = self.before
        self.longest = 0.0
        #: Packs that the broker delivered to it again.
        self.redelivered = 0

    @property
    def memory(self) -> int:
        """Resident bytes now; 0 when it has ended."""
        try:
            return int(self._process.memory_info().rss)
        except psutil.NoSuchProcess:
            return 0

    def begin(self) -> None:
        """Counts from here."""
        self.before = self.most_memory = self.memory
        self.longest = 0.0

    async def look(self) -> None:
        """For ever, and while the worker answers."""
        with contextlib.suppress(aiohttp.ClientError):
            while True:
                began = time.monotonic()
                try:
                    async with self._http.get(f"{self._url}/health/live") as response:
                        await response.read()
                finally:  # an answer that is still awaited at the end counts too
                    self.longest = max(self.longest, time.monotonic() - began)
                self.most_memory = max(self.most_memory, self.memory)
                await asyncio.sleep(LOOK)

    async def count(self) -> None:
        """Asks once for what the worker itself counts."""
        with contextlib.suppress(aiohttp.ClientError):
            async with self._http.get(f"{self._url}/metrics") as response:
                told = await response.text()
                self.redelivered = int(sum(map(float, _REDELIVERIES.findall(told))))

    async def close(self) -> None:
        await self._http.close()


@contextlib.asynccontextmanager
async def observed(worker: Process, port: int) -> AsyncIterator[Observed]:
    """Looks until the end of the block, and counts there."""
    seen = Observed(worker, port)
    looking = asyncio.create_task(seen.look())
    try:
        yield seen
        await seen.count()
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        await seen.close()


def free_port() -> int:
    """One that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
