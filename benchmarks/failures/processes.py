"""Processes that are begun, listened to, and ended in every way there is."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from typing import Final

import click
import psutil

from benchmarks import rig
from benchmarks.failures.log import Log
from benchmarks.failures.polling import until
from lmaas.broker_config.settings import Settings

#: Seconds in which what should happen has to.
LIMIT: Final = 60.0
#: Seconds in which children notice that their parent has ended.
LINGER: Final = 5.0


class Process:
    """A Python process in a session of its own, whose standard error is kept."""

    def __init__(self, process: asyncio.subprocess.Process, command: str, log: Log) -> None:
        self._process = process
        self._command = command
        self._log = log
        self.pid = process.pid
        self.lines: list[str] = []
        #: time.monotonic() when each of them was heard.
        self.moments: list[float] = []
        self._told = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, settings: Settings, *command: str, log: Log | None = None) -> Process:
        """With all of the settings, and none from elsewhere; `log` hears what it says, too."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            # It tells where its threads were when it is aborted.
            env=rig.environment(settings) | {"PYTHONFAULTHANDLER": "1"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        return cls(process, " ".join(command), log or Log(None))

    async def _read(self) -> None:
        assert self._process.stderr is not None
        async for content in self._process.stderr:
            line = content.decode(errors="replace").rstrip()
            self._log.note(f"{self._command.split()[2]} {self.pid}", line)
            async with self._told:
                self.lines.append(line)
                self.moments.append(time.monotonic())
                self._told.notify_all()
        async with self._told:
            self._told.notify_all()

    def said(self, word: str) -> int:
        """Lines that have the word."""
        return sum(word in line for line in self.lines)

    async def says(self, word: str, times: int = 1) -> None:
        """Waits until so many lines have the word. Raises when the process ends before."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LIMIT), self._told:
                await self._told.wait_for(
                    lambda: self.said(word) >= times or self._reader_is_at_end()
                )
        if self.said(word) < times:
            last = "\n".join(self.lines[-20:])
            raise click.ClickException(f"{self._command} did not say {word!r}: {last}")

    def _reader_is_at_end(self) -> bool:
        return self._process.stderr is None or self._process.stderr.at_eof()

    @property
    def code(self) -> int | None:
        """The exit code; None while it runs."""
        return self._process.returncode

    def workers(self) -> list[psutil.Process]:
        """Those that it keeps, as a supervisor."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return forked_by(self.pid)
        return []

    async def ended(self) -> int:
        """Waits for its own end; the exit code."""
        code = await self._process.wait()
        await self._reader
        return code

    async def drained(self) -> int:
        """SIGTERM, and its end."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        async with asyncio.timeout(LIMIT):
            return await self.ended()

    async def killed(self) -> int:
        """SIGKILL, which its children may outlive."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        return await self.ended()

    async def aborted(self) -> None:
        """SIGABRT to it and to its children, over which they tell where their threads are."""
        with contextlib.suppress(ProcessLookupError, TimeoutError):
            os.killpg(self.pid, signal.SIGABRT)
            async with asyncio.timeout(LINGER):
                await self.ended()

    async def close(self) -> None:
        """Ends it, and whatever it has left behind."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        await self.ended()

    async def left_behind(self) -> list[str]:
        """The command lines of processes of its session that outlive it for seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                await until(self._alone)
        return self._session()

    async def _alone(self) -> bool:
        return not self._session()

    def _session(self) -> list[str]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                if os.getsid(process.pid) == self.pid and process.status() != "zombie":
                    found.append(" ".join(process.cmdline()))
        return found


def forked_by(pid: int) -> list[psutil.Process]:
    """What a process has started through its server of forks and still runs."""
    return [
        child
        for server in psutil.Process(pid).children()
        if any("forkserver" in argument for argument in server.cmdline())
        for child in server.children()
        if _runs(child)
    ]


def _runs(process: psutil.Process) -> bool:
    """It may end at any moment."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


@contextlib.asynccontextmanager
async def started(
    settings: Settings,
    *command: str,
    says: str = "ready",
    times: int = 1,
    log: Log | None = None,
) -> AsyncIterator[Process]:
    """A process that has said its word so many times; nothing of it outlives the block."""
    process = await Process.start(settings, *command, log=log)
    try:
        await process.says(says, times)
        yield process
    finally:
        await process.close()
