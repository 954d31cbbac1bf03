"""`lmaas worker` as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable

from tests.integration.lanes import LIMIT


class Process:
    """`lmaas worker` as a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid
        self.lines: list[str] = []
        self._told = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            async with self._told:
                self.lines.append(line.decode())
                self._told.notify_all()

    async def says(self, word: str, times: int = 1) -> None:
        """Waits until so many lines have the word."""
        async with asyncio.timeout(LIMIT), self._told:
            await self._told.wait_for(lambda: sum(word in line for line in self.lines) >= times)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def send_to_group(self, number: signal.Signals) -> None:
        """As a terminal does it at Ctrl-C, and systemd."""
        os.killpg(self.pid, number)

    async def ended(self) -> int:
        """The exit code."""
        async with asyncio.timeout(LIMIT):
            code = await self._process.wait()
            await self._reader
        return code

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self.ended()


StartWorker = Callable[..., Awaitable[Process]]
