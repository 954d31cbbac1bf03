"""N worker processes: started, restarted with growing pauses, stopped together."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import signal
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Final

from lmaas.broker_config import hosts
from lmaas.broker_config.errors import LmaasError
from lmaas.broker_config.repeats import Repeats
from lmaas.broker_config.together import all_of, first_of
from lmaas.service.starting import context, end_with_parent, prepare, signals_held

log = logging.getLogger(__name__)

#: Seconds before a process is started again; doubled after each that did not live long.
FIRST_PAUSE: Final = 0.5
LAST_PAUSE: Final = 10.0
#: Seconds in which a signal that has ended a worker is heard here, too, if it went to the group.
SAME_SIGNAL: Final = 0.5
#: A process that was ready for so many seconds lived well; the next one is started at once. It is
#: a few times what a start costs: a process lost to each of many bad packs is no loss of capacity.
LIVED_WELL: Final = 2.0
#: The exit code of a process that knows that starting again would not help.
PERMANENT: Final = 2
#: So many starts in a row that were never ready are no accident.
BAD_STARTS: Final = 3

#: Characters of a reason that a process sends.
MOST_CHARACTERS: Final = 4000

#: What a process runs: its arguments, then its number from 0 and what it calls when it is ready,
#: or with the reason why it ends.
Target = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process ended."""

    #: Its exit code; the negative number of the signal that ended it.
    code: int | None
    #: Seconds that it was ready; None when it never was.
    ready: float | None
    #: Why, in its own words.
    reason: str = ""

    def __str__(self) -> str:
        if self.code is None or self.code >= 0:
            return f"exit code {self.code}"
        try:
            return f"signal {signal.Signals(-self.code).name}"
        except ValueError:  # one of the numbered signals that have no name
            return f"signal {-self.code}"


class Restarts:
    """When a process that ended is started again. Pure.

    Work can end a process that was ready, and the next one has other work: it is started however
    often that happens. One that is never ready has a cause that stays.
    """

    def __init__(self) -> None:
        self._was_ready = False
        self._bad_starts = 0
        self._short_lives = 0

    def pause(self, ending: Ending, *, others: bool = False) -> float:
        """Seconds until the next start.

        Raises LmaasError when that would be no use. But one that has been ready before does not
        end `others` that are ready: they go on, and what is wrong may be mended meanwhile.
        """
        if ending.ready is None:
            self._bad_starts += 1
            if problem := self._hopeless(ending):
                if others and self._was_ready:
                    return LAST_PAUSE
                raise LmaasError(problem)
            return _doubled(self._bad_starts - 1)
        self._was_ready = True
        self._bad_starts = 0
        if ending.ready >= LIVED_WELL:
            self._short_lives = 0
        self._short_lives += 1
        return 0.0 if self._short_lives == 1 else _doubled(self._short_lives - 2)

    def _hopeless(self, ending: Ending) -> str | None:
        if ending.code == PERMANENT:
            return "a worker process cannot start; its own message is above"
        if self._bad_starts >= BAD_STARTS:
            return (
                f"a worker process ended {self._bad_starts} times before it was ready, last "
                f"with {ending}; its own message is above"
            )
        return None


def _doubled(times: int) -> float:
    return float(min(FIRST_PAUSE * 2 ** min(times, 32), LAST_PAUSE))


class Supervisor:
    """Keeps `count` processes of a target running; it and its arguments must be picklable."""

    def __init__(
        self, target: Target, arguments: tuple[Any, ...], count: int, *modules: str
    ) -> None:
        """`modules` are what the target will import."""
        self._target = target
        self._arguments = arguments
        self._count = count
        self._context = context(target.__module__, *modules)
        self._processes: set[BaseProcess] = set()
        #: Numbers of those that are ready.
        self._ready: set[int] = set()
        #: Set once the first one is ready.
        self.has_begun = asyncio.Event()
        self._before: Callable[[], Coroutine[Any, Any, None]] | None = None
        self._reasons = Repeats()
        self._stopping = asyncio.Event()

    async def prepare(
        self,
        variables: Mapping[str, str],
        before: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        """Before `run`, if what processes are forked from is to have these variables, or something
        is to be done `before` each process is started.
        """
        self._before = before
        await asyncio.to_thread(prepare, self._context, variables)

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
            await all_of(*map(self._keep, range(self._count)))
        finally:
            self.force()

    async def _keep(self, index: int) -> None:
        restarts = Restarts()
        is_first = index == 0
        while not self._stopping.is_set():
            if self._before is not None:
                await first_of(self._before(), self._pause(None))
            if self._stopping.is_set():
                return
            ending = await self._run_one(index, is_first=is_first)
            if ending.code == 0:  # by a signal: one to the whole group is heard here in a moment
                await self._pause(SAME_SIGNAL)
            if self._stopping.is_set():
                return
            self._tell(index, ending)
            is_first = False
            pause = restarts.pause(ending, others=bool(self._ready))
            log.info(
                "worker process %d is started again in %g s",
                index,
                pause,
                extra={"action": "worker_restart", "process_index": index},
            )
            await self._pause(pause)

    def _is_ready(self, index: int) -> None:
        self._ready.add(index)
        self.has_begun.set()

    def _tell(self, index: int, ending: Ending) -> None:
        why = ""
        if ending.reason:
            is_due = self._reasons.is_due(ending.reason)
            why = f": {ending.reason}" if is_due else ", for a reason that was told"
        log.warning(
            "worker process %d ended with %s, %s%s",
            index,
            ending,
            "never ready" if ending.ready is None else f"ready for {ending.ready:.1f} s",
            why,
            extra={"action": "worker_ended", "process_index": index, "code": ending.code},
        )

    async def _pause(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass

    async def _run_one(self, index: int, *, is_first: bool) -> Ending:
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=_begin, args=(self._target, self._arguments, index, theirs, is_first)
        )
        # The process that they are forked from must outlive a SIGTERM to the whole group.
        with signals_held(signal.SIGINT, signal.SIGTERM):
            process.start()
        theirs.close()
        self._processes.add(process)
        try:
            ready, reason = await _life(process, ours, functools.partial(self._is_ready, index))
        finally:
            self._ready.discard(index)
            ours.close()
            self._processes.discard(process)
            if process.is_alive():  # we are being cancelled
                process.kill()
            process.join()
        return Ending(process.exitcode, ready, reason)


async def _life(
    process: BaseProcess, told: Connection, on_ready: Callable[[], None]
) -> tuple[float | None, str]:
    """Waits for the end of the process; the seconds that it was ready, if it ever was, and why it
    ended, if it has said so."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    since: float | None = None
    reason = ""

    def hear() -> None:
        nonlocal since, reason
        words = _heard(told)
        if words == "":
            since = time.monotonic()
            on_ready()
        elif words is None:  # nobody is there any more
            loop.remove_reader(told)
        else:
            reason = words

    loop.add_reader(told, hear)
    loop.add_reader(process.sentinel, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(process.sentinel)
        loop.remove_reader(told)
    while (words := _heard(told)) is not None:  # came in the same turn of the loop
        since, reason = (since, words) if words else (time.monotonic(), reason)
    return None if since is None else time.monotonic() - since, reason


def _heard(told: Connection) -> str | None:
    """What the process has said: "" that it is ready. None when the pipe is empty or at its end."""
    try:
        return told.recv_bytes().decode() if told.poll() else None
    except (EOFError, OSError):
        return None


def _begin(
    target: Target, arguments: tuple[Any, ...], index: int, to_us: Connection, is_first: bool
) -> None:
    end_with_parent(signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    if not is_first:
        hosts.silence()

    def tell(reason: str = "") -> None:
        with contextlib.suppress(OSError):  # the supervisor is gone
            to_us.send_bytes(reason[:MOST_CHARACTERS].encode(errors="backslashreplace"))

    target(*arguments, index, tell)
