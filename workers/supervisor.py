"""N worker processes: started, restarted with growing pauses, stopped together."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.context import SpawnProcess
from typing import Any, Final

from broker_config.errors import LmaasError
from workers.interrupts import interrupts_held

log = logging.getLogger(__name__)

#: Seconds before a process is started again; doubled after each bad start.
FIRST_PAUSE: Final = 0.5
#: A process that lived this many seconds has started well; its pauses begin anew.
WELL_STARTED: Final = 10.0
#: The exit code of a process that knows that starting again would not help.
PERMANENT: Final = 2
#: So many bad starts in a row are no accident.
BAD_STARTS: Final = 3


class Supervisor:
    """Keeps `count` processes of `target(*arguments)` running; both must be picklable."""

    def __init__(self, target: Callable[..., None], arguments: tuple[Any, ...], count: int) -> None:
        self._target = target
        self._arguments = arguments
        self._count = count
        self._processes: set[SpawnProcess] = set()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Ask every process to drain; `run` returns when they have ended."""
        self._stopping.set()
        for process in self._processes:
            process.terminate()

    def force(self) -> None:
        """End every process at once; the broker redelivers what they held."""
        self._stopping.set()
        for process in self._processes:
            process.kill()

    async def run(self) -> None:
        """Until `stop`. Raises LmaasError when a process does not come up, again and again."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._count):
                    group.create_task(self._keep())
        except* LmaasError as errors:
            raise errors.exceptions[0] from None
        finally:
            self.force()

    async def _keep(self) -> None:
        bad_starts = 0
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            began = time.monotonic()
            code = await self._run_one()
            if self._stopping.is_set():
                return
            if code == PERMANENT:
                raise LmaasError("a worker process cannot start; its own message is above")
            if time.monotonic() - began >= WELL_STARTED:
                bad_starts, pause = 0, FIRST_PAUSE
            bad_starts += 1
            if bad_starts >= BAD_STARTS:
                raise LmaasError(
                    f"a worker process ended {bad_starts} times soon after its start, last with "
                    f"{_how(code)}; its own message is above"
                )
            log.warning(
                "worker process ended with %s; the next one starts in %g s",
                _how(code),
                pause,
                extra={"action": "worker_restart"},
            )
            await self._pause(pause)
            pause *= 2

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass

    async def _run_one(self) -> int | None:
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=_begin, args=(self._target, self._arguments))
        with interrupts_held():
            process.start()
        self._processes.add(process)
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(process.sentinel, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(process.sentinel)
            self._processes.discard(process)
            if process.is_alive():  # we are being cancelled
                process.kill()
            process.join()
        return process.exitcode


def _begin(target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    threading.Thread(target=_drain_with_parent, daemon=True).start()
    target(*arguments)


def _drain_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"
