"""Who gets a pack: what each balance, and each prefetch, costs.

Three measurements, all with worker processes on a private broker:

- one slow worker among fast ones gets packs that come when they come, then a batch of them;
- a second worker comes while packs wait at the first;
- one worker at full speed, with fixed prefetches beside the one that tunes itself, answers
  packs that wait and to which none are added.

Two cores cannot have fast and slow workers at work at once. So the workers of the first two have a
pace (see `paced`).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import statistics
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import aio_pika
import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks import paced, queueing, rig
from benchmarks.load import arrive
from benchmarks.queueing import Seconds
from benchmarks.report import Cell, Figure, Grid, Plot, Report, Series, bars
from lmaas.broker_config.messages import Item, Request
from lmaas.broker_config.scheduling import LANES
from lmaas.broker_config.settings import Settings
from lmaas.producer.client import Client

TUNED, DEALT, RANDOM, SHARED = (
    "prefetch, tuned (default)", "round_robin", "random", "one queue, by replay",
)  # fmt: skip
#: What each way to balance sets beyond the defaults. Task queues hand out 4 packs a process and
#: more; here a worker is one process.
WAYS: Final[dict[str, dict[str, Any]]] = {
    TUNED: {},
    "prefetch 8": {"prefetch": 8},
    "prefetch 32": {"prefetch": 32},
    DEALT: {"balance": "round_robin"},
    RANDOM: {"balance": "random"},
}
WORDS: Final = 60

#: Seconds a pack of the workers that have a pace. Two packs of the fast one are too long to be
#: joined; to the slow one, they still belong to the lane of the fast ones.
FAST, SLOW = 0.008, 0.064
PACES: Final = (SLOW, FAST, FAST)
#: What the packs that come ask of what all workers together can do, and for how many seconds.
LOAD, SECONDS = 0.7, 2.0
BATCH: Final = 200
#: Packs that wait when a worker is added, more than any way holds; and the ways.
WAITING: Final = 300
ADDED: Final = (TUNED, "prefetch 32", DEALT, RANDOM)
#: Workers with a pace learn theirs from so many packs at a time, for so many seconds.
CALLERS, WARM_UP = 12, 1.2

#: 0 tunes itself.
PREFETCHES: Final = (1, 2, 8, 32, 128, 0)
#: Texts of a pack -> packs that wait.
SIZES: Final = {1: 1_000, 16: 500, 256: 100}
#: Seconds at full speed before the packs that count; the best of so many runs in turn.
SETTLE, ROUNDS = 0.7, 2
#: Looks at the lanes, and seconds between them.
LOOKS, PAUSE = 5, 0.02


async def measure() -> Report:
    texts = [" ".join(review.split()[:WORDS]) for review in rig.reviews()[: max(SIZES)]]
    single = _pack(texts, 1)
    async with rig.broker() as settings:
        mixed = {way: await _mixed(_under(settings, way), single) for way in WAYS}
        added = {way: await _added(_under(settings, way), single) for way in ADDED}
        speeds = await _speeds(settings, texts)
    ideal = Mixed.of(_shared(_arrivals()), _shared(np.zeros(BATCH)))
    rows = [[way, *found.cells(ideal)] for way, found in {SHARED: ideal, **mixed}.items()]
    return Report(
        benchmark="balance",
        setting=f"one worker of {SLOW * 1e3:g} ms a pack and two of {FAST * 1e3:g} ms, then one "
        f"of {FAST * 1e3:g} ms to which another is added, all of which sleep for what is left of "
        f"that time; {_arrivals().size} packs at load {LOAD:g} as they come, then {BATCH} at once; "
        f"{WAITING} packs at the added worker's start; for speed one worker that never sleeps, "
        f"best of {ROUNDS}; texts of {WORDS} words",
        figures=[*_mixed_figures(mixed, ideal), *_added_figures(added), *_speed_figures(speeds)],
        tables=[
            Grid(title="One slow worker among three", rows=rows,
                 columns=["", "mean answer, ms", "p99, ms", "slow one's share of packs",
                          "batch, s", "batch / one queue"]),
            Grid(title=f"A second worker, {WAITING} packs waiting",
                 columns=["", "first answer after, ms", "its share", "all answered after, s"],
                 rows=[[way, *found.cells()] for way, found in added.items()]),
            _speed_grid(speeds),
        ],
        plots=[
            bars("One slow worker among three: p99 of the time to answer", "ms",
                 {SHARED: ideal.p99 * 1e3} | {way: found.p99 * 1e3 for way, found in mixed.items()},
                 ours=[TUNED], name="slow", y_scale="log"),
            _speed_plot(speeds),
        ],
    )  # fmt: skip


def _pack(texts: Sequence[str], size: int) -> Request:
    items = [Item(id=str(place), text=text) for place, text in enumerate(texts[:size])]
    return Request(model=rig.MODEL, items=items)


_numbers = itertools.count(1)


def _under(settings: Settings, way: str) -> Settings:
    """With a prefix of its own: no queue is left of another run."""
    return msgspec.structs.replace(settings, prefix=f"balance-{next(_numbers)}", **WAYS[way])


# ------------------------------------------------------------- workers and load


@contextlib.asynccontextmanager
async def _paced(settings: Settings, pace: float) -> AsyncIterator[str]:
    """The name of a worker of `pace` seconds a pack."""
    async with paced.worker(settings, a_text=pace) as child:
        yield f"{socket.gethostname()}-{child.pid}"


@dataclass(frozen=True)
class Answer:
    """Times are of the event loop's clock."""

    asked: float
    answered: float
    worker: str | None

    @property
    def took(self) -> float:
        return self.answered - self.asked


class Callers:
    """Sends one pack again and again, and notes the answers."""

    def __init__(self, client: Client, request: Request) -> None:
        self.answers: list[Answer] = []
        #: Packs that are on their way.
        self.unanswered = 0
        self.clock = asyncio.get_running_loop().time
        self._client = client
        self._request = request

    async def ask(self) -> Answer:
        asked = self.clock()
        self.unanswered += 1
        reply = await self._client.run(self._request)
        self.unanswered -= 1
        answer = Answer(asked, self.clock(), reply.worker)
        self.answers.append(answer)
        return answer

    async def play(self, arrivals: Seconds) -> list[Answer]:
        """A pack at each of these seconds from now, whatever is unanswered."""
        moments = (self.clock() + arrivals).tolist()
        return await asyncio.gather(*await arrive(moments, lambda _: self.ask()))

    async def keep(self, waiting: int, enough: Callable[[], bool]) -> None:
        """So many on their way until it is enough, then wait for their answers."""

        async def caller() -> None:
            while not enough():
                await self.ask()

        await asyncio.gather(*(caller() for _ in range(waiting)))

    async def keep_for(self, waiting: int, seconds: float) -> None:
        until = self.clock() + seconds
        await self.keep(waiting, lambda: self.clock() >= until)


# -------------------------------------------------------------- one slow worker


@dataclass(frozen=True, kw_only=True)
class Mixed:
    """What became of packs that came one by one, and of a batch; seconds."""

    mean: float
    p99: float
    #: Of the packs that came one by one.
    slow_share: float
    batch: float

    @classmethod
    def of(cls, single: tuple[Seconds, float], batch: tuple[Seconds, float]) -> Mixed:
        """From the seconds to the answers and the slow worker's share, of each."""
        took, share = single
        return cls(mean=float(took.mean()), p99=float(np.quantile(took, 0.99)), slow_share=share,
                   batch=float(batch[0].max()))  # fmt: skip

    def cells(self, ideal: Mixed) -> list[Cell]:
        times = [self.mean * 1e3, self.p99 * 1e3]
        return [*times, self.slow_share, self.batch, self.batch / ideal.batch]


def _arrivals() -> Seconds:
    """Poisson, at exactly the rate of the load, the same each time."""
    rate = LOAD * sum(1 / pace for pace in PACES)
    count = int(rate * SECONDS)
    arrivals = queueing.poisson(np.random.default_rng(7), rate, count)
    scaled: Seconds = arrivals * (count / rate / arrivals[-1])
    return scaled


def _shared(arrivals: Seconds) -> tuple[Seconds, float]:
    took, workers = shared(arrivals, PACES)
    return took, float(np.mean(workers == PACES.index(SLOW)))


def shared(arrivals: Seconds, paces: Sequence[float]) -> tuple[Seconds, NDArray[np.int_]]:
    """Seconds to each answer, and the worker's place in `paces`, with one queue that all share.

    The first worker to be free takes the oldest pack, the fastest one of several, without delay.
    """
    free = [0.0] * len(paces)
    took, workers = np.empty(arrivals.size), np.empty(arrivals.size, int)
    for pack, arrival in enumerate(arrivals.tolist()):
        starts = (max(arrival, end) for end in free)
        start, pace, worker = min(zip(starts, paces, range(len(paces)), strict=True))
        free[worker] = start + pace
        took[pack], workers[pack] = free[worker] - arrival, worker
    return took, workers


async def _mixed(settings: Settings, request: Request) -> Mixed:
    async with contextlib.AsyncExitStack() as stack:
        slow, *_ = [await stack.enter_async_context(_paced(settings, pace)) for pace in PACES]
        callers = Callers(await stack.enter_async_context(Client(settings)), request)
        await callers.keep_for(CALLERS, WARM_UP)

        async def played(arrivals: Seconds) -> tuple[Seconds, float]:
            answers = await callers.play(arrivals)
            share = statistics.mean(answer.worker == slow for answer in answers)
            return np.array([answer.took for answer in answers]), share

        return Mixed.of(await played(_arrivals()), await played(np.zeros(BATCH)))


def _mixed_figures(mixed: Mapping[str, Mixed], ideal: Mixed) -> Iterator[Figure]:
    ours, what = mixed[TUNED], "one slow worker"
    yield Figure(name=f"{what}: mean answer, tuned prefetch / one queue that all share",
                 value=ours.mean / ideal.mean, unit="")  # fmt: skip
    yield Figure(name=f"{what}: time of a batch, tuned prefetch / one queue that all share",
                 value=ours.batch / ideal.batch, unit="", at_most=1.25)  # fmt: skip
    for way in WAYS:
        if way != TUNED:
            yield Figure(name=f"{what}: mean answer, {way} / tuned prefetch",
                         value=mixed[way].mean / ours.mean, unit="")  # fmt: skip


# --------------------------------------------------------------- a worker added


@dataclass(frozen=True, kw_only=True)
class Added:
    """Of the packs that waited when the second worker was ready; seconds from then."""

    #: Until its first answer; None when it had none.
    first: float | None
    share: float
    everything: float

    def cells(self) -> list[Cell]:
        return ["never" if self.first is None else self.first * 1e3, self.share, self.everything]


async def _added(settings: Settings, request: Request) -> Added:
    async with _paced(settings, FAST), Client(settings) as client:
        callers, ready = Callers(client, request), asyncio.Event()
        await callers.keep_for(CALLERS, WARM_UP)
        waiting = asyncio.create_task(callers.keep(WAITING, ready.is_set))
        async with _paced(settings, FAST) as second:
            began = callers.clock()
            ready.set()
            await waiting
    rest = [answer for answer in callers.answers if answer.answered >= began]
    own = [answer.answered - began for answer in rest if answer.worker == second]
    return Added(first=min(own, default=None), share=len(own) / len(rest),
                 everything=max(answer.answered for answer in rest) - began)  # fmt: skip


def _added_figures(added: Mapping[str, Added]) -> Iterator[Figure]:
    what = f"a second worker, {WAITING} packs waiting"
    for way, name in ((TUNED, "tuned prefetch"), (DEALT, DEALT), (RANDOM, RANDOM)):
        goal = 0.4 if way == TUNED else None
        yield Figure(name=f"{what}: its share of them, {name}", value=added[way].share, unit="",
                     at_least=goal)  # fmt: skip
    if (first := added[TUNED].first) is not None:
        yield Figure(name=f"{what}: its first answer, tuned prefetch", value=first * 1e3, unit="ms",
                     at_most=100)  # fmt: skip


# ------------------------------------------------------- prefetch at full speed


@dataclass(frozen=True, kw_only=True)
class Speed:
    #: Items a second.
    speed: float
    #: Packs in no lane and not answered: at the worker, and some on a way.
    held: float


#: By prefetch and texts of a pack.
Speeds = Mapping[tuple[int, int], Speed]


async def _speeds(settings: Settings, texts: Sequence[str]) -> Speeds:
    """All workers are there all the time; who has nothing to do takes nothing from the others."""
    packs = {size: _pack(texts, size) for size in SIZES}
    runs: dict[tuple[int, int], list[Speed]] = {}
    async with contextlib.AsyncExitStack() as stack:
        clients = {}
        for prefetch in PREFETCHES:
            own = msgspec.structs.replace(_under(settings, TUNED), prefetch=prefetch)
            await stack.enter_async_context(rig.workers(own, 1))
            clients[prefetch] = await stack.enter_async_context(Client(own))
        for _, size, prefetch in itertools.product(range(ROUNDS), SIZES, PREFETCHES):
            found = await _speed(clients[prefetch], packs[size])
            runs.setdefault((prefetch, size), []).append(found)
    return {key: max(each, key=lambda run: run.speed) for key, each in runs.items()}


async def _speed(client: Client, request: Request) -> Speed:
    """Of the packs that wait when no more are sent, so that sending takes nothing from it."""
    callers, size = Callers(client, request), len(request.items)
    async with _depths(client.settings) as depth:
        loaded = asyncio.create_task(callers.keep_for(SIZES[size], SETTLE))
        await asyncio.sleep(SETTLE)
        began, before = callers.clock(), len(callers.answers)
        looks = []
        for _ in range(LOOKS):
            await asyncio.sleep(PAUSE)
            ready = await depth()
            looks.append(callers.unanswered - ready)
        await loaded
    packs, last = len(callers.answers) - before, callers.answers[-1].answered
    return Speed(speed=packs * size / (last - began), held=statistics.median(looks))


@contextlib.asynccontextmanager
async def _depths(settings: Settings) -> AsyncIterator[Callable[[], Any]]:
    """What says how many packs are in all lanes together and at no worker."""
    names = [settings.names.work_queue(rig.MODEL, lane) for lane in LANES]
    async with await aio_pika.connect(settings.broker_url) as connection:
        # One channel would ask for one lane after the other, while packs move on.
        channels = [await connection.channel() for _ in names]

        async def depth() -> int:
            queues = await asyncio.gather(*map(lambda c, n: c.get_queue(n), channels, names))
            return sum(queue.declaration_result.message_count or 0 for queue in queues)

        yield depth


def _best_fixed(speeds: Speeds, size: int) -> float:
    return max(speeds[prefetch, size].speed for prefetch in PREFETCHES if prefetch)


def _speed_figures(speeds: Speeds) -> Iterator[Figure]:
    for size in SIZES:
        ours, what = speeds[0, size], f"packs of {size}, tuned prefetch"
        yield Figure(name=f"{what} / the best fixed one: speed", unit="",
                     value=ours.speed / _best_fixed(speeds, size))  # fmt: skip
        yield Figure(name=f"{what}: packs that the worker holds", value=ours.held, unit="packs")


def _name(prefetch: int) -> str:
    return f"prefetch {prefetch}" if prefetch else "tuned"


def _speed_grid(speeds: Speeds) -> Grid:
    columns = [f"packs of {size}: {what}" for size in SIZES for what in ("items/s", "packs held")]
    rows: list[list[Cell]] = []
    for prefetch in PREFETCHES:
        found = [speeds[prefetch, size] for size in SIZES]
        cells = itertools.chain.from_iterable((run.speed, run.held) for run in found)
        rows.append([_name(prefetch), *cells])
    return Grid(title="Prefetch, one worker at full speed", columns=["", *columns], rows=rows)


def _speed_plot(speeds: Speeds) -> Plot:
    return Plot(
        title="Speed of one worker by prefetch",
        kind="bars",
        y="speed / best fixed prefetch",
        series=[
            Series(name=_name(prefetch),
                   y=[speeds[prefetch, size].speed / _best_fixed(speeds, size) for size in SIZES])
            for prefetch in PREFETCHES
        ],
        categories=[f"packs of {size}" for size in SIZES],
        ours=[_name(0)],
        name="speed",
    )  # fmt: skip
