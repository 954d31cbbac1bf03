"""Load: callers in a loop, calls that come by chance, and processes that make them.

Callers in a loop (a closed loop) call again when they have an answer, so that they ask as fast as
they are answered. Calls that come by chance (an open loop) come at their moments, whatever is
unanswered, and each takes the time from its moment to its answer: a process that is late with a
call has its caller wait.

One process that makes all calls, reads all answers and takes the times would be the first thing
that is busy, and would measure itself. `Generators` divide a load among processes, each of which
has a client of its own.

    with Generators(settings, texts) as generators:
        capacity = (await generators.play(Closed(512), seconds=4)).rate
        found = await generators.play(Open(0.9 * capacity), seconds=4)
        print(found.percentile(50))
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from threading import Barrier
from typing import Any, Final, Self, TypeVar

import numpy as np

from benchmarks import queueing, rig
from benchmarks.queueing import Seconds
from lmaas.broker_config.settings import Settings
from lmaas.producer.client import Client

Call = Callable[[str], Awaitable[object]]
T = TypeVar("T")

#: Seconds of calls before those that count.
WARM_UP: Final = 1.0
#: Seconds after which what does not answer, or does not start, is given up.
PATIENCE: Final = 30.0
#: Processes that make a load together: as many as are not the first thing that is busy (see
#: `Calls.late`). Each is a client, which may send a pack every `linger` seconds: more of them are
#: more messages for the same calls.
PROCESSES: Final = 2


@dataclass(frozen=True)
class Calls:
    """The calls whose moments were in the `seconds` that count, one a place."""

    seconds: float
    #: When a call was to be made, on the monotonic clock.
    due: Seconds
    #: From then to its answer, in seconds.
    took: Seconds
    #: From then until it was made.
    late: Seconds

    @property
    def rate(self) -> float:
        """Calls a second."""
        return self.due.size / self.seconds

    def percentile(self, percent: float) -> float:
        """Of the seconds that calls took."""
        return float(np.percentile(self.took, percent))

    @classmethod
    def together(cls, parts: Sequence[Calls]) -> Self:
        """Those of processes that made a load together."""
        columns = [(part.due, part.took, part.late) for part in parts]
        return cls(parts[0].seconds, *map(np.concatenate, zip(*columns, strict=True)))


class _Recorder:
    """Makes calls and notes those that count."""

    def __init__(self, call: Call, seconds: float) -> None:
        self.start = time.monotonic() + WARM_UP
        self.end = self.start + seconds
        self._seconds = seconds
        self._call = call
        self._rows: list[tuple[float, float, float]] = []

    async def make(self, text: str, due: float) -> None:
        late = time.monotonic() - due
        await self._call(text)
        if due >= self.start:
            self._rows.append((due, time.monotonic() - due, late))

    @property
    def calls(self) -> Calls:
        return Calls(self._seconds, *np.array(self._rows).reshape(-1, 3).T)


async def closed(call: Call, texts: Sequence[str], callers: int, seconds: float) -> Calls:
    """What `callers` get, each of which calls again when it has its answer."""
    recorder = _Recorder(call, seconds)

    async def caller(first: int) -> None:
        for place in itertools.count(first, callers):
            due = time.monotonic()
            if due >= recorder.end:
                return
            await recorder.make(texts[place % len(texts)], due)

    async with asyncio.timeout(WARM_UP + seconds + PATIENCE):
        await asyncio.gather(*map(caller, range(callers)))
    return recorder.calls


async def opened(
    call: Call, texts: Sequence[str], rate: float, seconds: float, rng: np.random.Generator
) -> Calls:
    """What calls get of which `rate` a second come by chance (Poisson)."""
    recorder = _Recorder(call, seconds)
    came = queueing.poisson_within(rng, rate, WARM_UP + seconds)
    moments = (recorder.start - WARM_UP + came).tolist()

    def begin(place: int) -> Coroutine[Any, Any, None]:
        return recorder.make(texts[place % len(texts)], moments[place])

    async with asyncio.timeout(WARM_UP + seconds + PATIENCE):
        await asyncio.gather(*await arrive(moments, begin))
    return recorder.calls


async def arrive(
    moments: Sequence[float], begin: Callable[[int], Coroutine[Any, Any, T]]
) -> list[asyncio.Task[T]]:
    """The tasks of `begin(place)`, each begun at its moment, whatever has become of the others.

    Moments are of the monotonic clock, which is the loop's, and rise. A thread keeps the time,
    because a loop's timers are a millisecond apart.
    """
    loop = asyncio.get_running_loop()
    tasks: list[asyncio.Task[T]] = []
    given_up = threading.Event()

    def start(place: int) -> None:
        tasks.append(loop.create_task(begin(place)))

    def keep_time() -> None:
        for place, moment in enumerate(moments):
            if given_up.wait(max(0.0, moment - time.monotonic())):
                return
            loop.call_soon_threadsafe(start, place)

    try:
        await asyncio.to_thread(keep_time)  # its end is told after the last start
    finally:
        given_up.set()
    return tasks


# -------------------------------------------------------------------- processes


@dataclass(frozen=True)
class Closed:
    """So many callers in a loop."""

    callers: int

    def share(self, number: int, processes: int) -> Closed:
        """Of one of the processes."""
        return Closed(len(range(number, self.callers, processes)))

    async def play(self, call: Call, texts: Sequence[str], seconds: float, seed: int) -> Calls:
        return await closed(call, texts, self.callers, seconds)


@dataclass(frozen=True)
class Open:
    """So many calls a second that come by chance."""

    rate: float

    def share(self, _number: int, processes: int) -> Open:
        """Of one of the processes: what several come with by chance is by chance together."""
        return Open(self.rate / processes)

    async def play(self, call: Call, texts: Sequence[str], seconds: float, seed: int) -> Calls:
        return await opened(call, texts, self.rate, seconds, np.random.default_rng(seed))


class Generators:
    """Processes that make a load together, each with a client and a part of the texts."""

    def __init__(
        self, settings: Settings, texts: Sequence[str], processes: int = PROCESSES
    ) -> None:
        self._settings = settings
        self._texts = texts
        self._processes = processes
        context = multiprocessing.get_context("spawn")
        # Who waits for the others takes no second part: each process has one.
        self._pool = ProcessPoolExecutor(
            processes, context, _prepare, (context.Barrier(processes),)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    async def play(self, load: Closed | Open, seconds: float) -> Calls:
        """All calls. Raises what a call raised."""
        loop, every = asyncio.get_running_loop(), self._processes
        parts = [
            loop.run_in_executor(
                self._pool, _play, self._settings, self._texts[number::every],
                load.share(number, every), seconds, number,
            )
            for number in range(every)
        ]  # fmt: skip
        return Calls.together(await asyncio.gather(*parts))


#: In a process: where it waits for the others.
_together: Final[list[Barrier]] = []


def _prepare(together: Barrier) -> None:
    _together.append(together)


def _play(
    settings: Settings, texts: Sequence[str], load: Closed | Open, seconds: float, seed: int
) -> Calls:
    """In a process."""
    (together,) = _together

    async def play() -> Calls:
        async with Client(settings) as client:

            async def call(text: str) -> object:
                return await client.classify(rig.MODEL, text)

            try:
                await call(texts[0])  # connected
                await asyncio.to_thread(together.wait, PATIENCE)
            except BaseException:
                together.abort()
                raise
            return await load.play(call, texts, seconds, seed)

    return asyncio.run(play())
