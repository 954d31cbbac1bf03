"""What waits and who works, as of the last second."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import msgspec
from aiohttp import web

from lmaas.broker_config.connection import Session
from lmaas.broker_config.scheduling import LANES
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.statuses import STATUS, LaneStatus, WorkerStatus, decode_status
from lmaas.producer.questions import answers

#: Seconds for which a look is good: many pages that are open cost the broker one.
FRESH: Final = 1.0
#: Seconds between two looks after which no rate is told: it would be one of long ago.
TOO_LONG: Final = 15.0


class LaneState(msgspec.Struct, frozen=True):
    """One lane of one model."""

    model: str
    lane: str
    #: Packs that wait.
    depth: int
    #: Workers that take from it.
    consumers: int
    #: About how many seconds those wait that wait; null: nobody has taken any.
    age: float | None
    #: Packs a second that workers take; null at the first look in a while.
    rate: float | None


class Lanes(msgspec.Struct, frozen=True):
    """The lanes of all models that are served, or were when somebody looked."""

    lanes: list[LaneState]
    #: Messages in the dead letter queue.
    dead_letters: int


class Workers(msgspec.Struct, frozen=True):
    """All that answer."""

    workers: list[WorkerStatus]


@dataclass(frozen=True)
class Look:
    """What was seen at one moment."""

    at: float
    workers: list[WorkerStatus]
    lanes: list[LaneState]
    dead_letters: int


class Looks:
    """Asks the broker and the workers, over a connection of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._session = Session(settings, "gateway looks")
        #: A lane whose workers are all gone is still of interest.
        self._models: set[str] = set()
        self._last: Look | None = None
        self._looking: asyncio.Task[Look] | None = None

    async def __aenter__(self) -> Self:
        await self._session.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await self._session.__aexit__(kind, error, traceback)

    async def now(self) -> Look:
        """At most FRESH seconds old. Raises BrokerUnavailable."""
        if self._last is not None and time.monotonic() - self._last.at < FRESH:
            return self._last
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(), name="look at lanes")
        return await asyncio.shield(self._looking)

    async def _look(self) -> Look:
        bodies = await answers(self._session, self._settings, STATUS)
        workers = sorted(map(decode_status, bodies), key=lambda one: one.worker)
        self._models.update(model for one in workers for model in one.models)
        names = self._settings.names
        keys = [(model, lane) for model in sorted(self._models) for lane in LANES]
        dead, *counted = await asyncio.gather(
            self._session.counts(names.dead),
            *(self._session.counts(names.work_queue(*key)) for key in keys),
        )
        counts = dict(zip(keys, counted, strict=True))
        now = time.monotonic()
        lanes = states(counts, workers, self._last, now)
        self._last = Look(now, workers, lanes, dead[0] if dead else 0)
        return self._last


#: Worker, model and lane.
_Key = tuple[str, str, str]


def states(
    counts: Mapping[tuple[str, str], tuple[int, int] | None],
    workers: Sequence[WorkerStatus],
    before: Look | None,
    now: float,
) -> list[LaneState]:
    """Of each lane, by its (ready, consumers) at the broker, and by what workers say. Pure."""
    seconds = now - before.at if before else 0.0
    is_recent = before is not None and 0 < seconds <= TOO_LONG
    known = _taken(before.workers if before else ())
    steps: defaultdict[tuple[str, str], int] = defaultdict(int)
    for key, taken in _taken(workers).items():
        # A worker counts from 0 again after its connection was lost.
        was = known[key]
        steps[key[1:]] += taken - was if taken >= was else taken
    told: defaultdict[tuple[str, str], list[LaneStatus]] = defaultdict(list)
    for one in (one for worker in workers for one in worker.lanes):
        told[one.model, one.lane].append(one)
    return [
        _state(lane, count or (0, 0), told[lane], steps[lane] / seconds if is_recent else None)
        for lane, count in counts.items()
    ]


def _taken(workers: Iterable[WorkerStatus]) -> Counter[_Key]:
    """Packs. With queues of a worker's own, a lane has several."""
    sums: Counter[_Key] = Counter()
    for worker in workers:
        for one in worker.lanes:
            sums[worker.worker, one.model, one.lane] += one.taken
    return sums


def _state(
    lane: tuple[str, str], count: tuple[int, int], told: Sequence[LaneStatus], rate: float | None
) -> LaneState:
    ready, consumers = count
    depth = ready + sum(one.own for one in told)
    age: float | None = 0.0
    if depth:
        age = max((round(one.waited, 3) for one in told if one.taken), default=None)
    return LaneState(*lane, depth, consumers, age, None if rate is None else round(rate, 3))


LOOKS: Final[web.AppKey[Looks]] = web.AppKey("looks", Looks)
