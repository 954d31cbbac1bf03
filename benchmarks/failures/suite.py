"""One job, calmly and then under faults; what was lost, doubled, wrong, and how long it took."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.failures import job, queues
from benchmarks.failures.comparison import Verdict, compare
from benchmarks.failures.dead_items import DeadItem, dead_items
from benchmarks.failures.faults import Fault
from benchmarks.failures.job import Producer
from benchmarks.failures.log import Log
from benchmarks.failures.poison import Poison, poison_of, rows
from benchmarks.failures.polling import until
from benchmarks.failures.stage import (
    CALM,
    POISONED,
    Happened,
    Stage,
    check_alive,
)
from benchmarks.failures.waits import Span, seconds, waits
from lmaas.broker_config.settings import Settings
from lmaas.workers.execution import grace

#: Seconds that the queues may take to come to rest after the last row.
REST: Final = 30.0
#: Seconds that a run may take, calm or under faults.
LIMIT: Final = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be done."""

    items: int
    seed: int
    faults: Sequence[Fault]
    #: Rows of each kind of poison, and the kinds.
    poison: int
    kinds: Sequence[Poison] = tuple(Poison)
    #: Items of a pack, and packs on their way: faults find as much at work.
    pack_items: int = Settings().pack_items
    window: int = Settings().window


@dataclass(slots=True)
class Outcome:
    """What was seen."""

    items: int
    seed: int
    calm_seconds: float = 0.0
    #: Under faults, and to the last row.
    seconds: float = 0.0
    #: Of these, how long some poison row waited for a time limit or a retry, outages aside.
    waits: float = 0.0
    happened: list[Happened] = field(default_factory=list)
    verdict: Verdict = field(default_factory=Verdict)
    poison: dict[int, Poison] = field(default_factory=dict)
    dead_items: list[DeadItem] = field(default_factory=list)
    #: Messages in lanes and retry queues, and processes, when all is over.
    left: int = 0
    processes: list[str] = field(default_factory=list)
    #: What the producer said when it gave up by itself.
    gave_up: list[str] = field(default_factory=list)

    @property
    def outages(self) -> float:
        return sum(happened.outage for happened in self.happened)

    @property
    def not_dead_lettered(self) -> set[int]:
        """Poison rows that are not in the dead letter queue with their reason."""
        found = {
            _number(one)
            for one in self.dead_items
            if one.reason and (bad := poison_of(one.text)) and one.code == bad.code
        }
        return set(self.poison) - found

    @property
    def misjudged(self) -> set[int]:
        """Poison rows that are in the dead letter queue with another reason than theirs."""
        return {
            _number(one)
            for one in self.dead_items
            if (bad := poison_of(one.text)) and one.code != bad.code
        }

    @property
    def dead_lettered_twice(self) -> set[int]:
        """Rows that are in more than one dead letter."""
        times = Counter(map(_number, self.dead_items))
        return {number for number, count in times.items() if count > 1}

    @property
    def dead_lettered_for_nothing(self) -> list[DeadItem]:
        return [one for one in self.dead_items if _number(one) not in self.poison]


def _number(one: DeadItem) -> int:
    number, _, _ = one.text.partition(" ")
    return int(number) if number.isdecimal() else -1


async def measure(
    texts: Sequence[str],
    what: Plan,
    tell: Callable[[str], None] = print,
    logs: Path | None = None,
) -> Outcome:
    """The whole suite; it ends by itself. All that was said is kept in the folder `logs`.

    Raises Hung when a run takes longer than LIMIT, or a fault is not recovered from in time.
    """
    poison = rows(what.seed, what.kinds, what.poison, what.items)
    outcome = Outcome(items=what.items, seed=what.seed, poison=poison)
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(Log(logs)) as log:
        source = Path(folder) / "reviews.csv"
        job.write(source, texts, what.items, poison)
        async with Stage.open(what.seed, what.pack_items, what.window, log) as stage:
            calm = Path(folder) / "calm.csv"
            outcome.calm_seconds = await _calm(stage, source, calm)
            tell(f"calm run: {outcome.calm_seconds:.1f} s")
            target = Path(folder) / "output.csv"
            await _stormy(stage, source, target, what.faults, outcome, tell)
        outcome.verdict = compare(job.read(calm), job.read(target), poison)
    return outcome


async def _calm(stage: Stage, source: Path, target: Path) -> float:
    async with (
        stage.workers(CALM) as workers,
        Producer.running(stage.settings, source, target, stage.log) as producer,
        stage.within(LIMIT, workers, producer),
    ):
        began = time.monotonic()
        await until(producer.done)
        seconds = time.monotonic() - began
        await workers.drained()
    return seconds


async def _stormy(
    stage: Stage,
    source: Path,
    target: Path,
    faults: Sequence[Fault],
    outcome: Outcome,
    tell: Callable[[str], None],
) -> None:
    coming = deque(faults)
    async with (
        stage.workers(POISONED) as workers,
        Producer.running(stage.settings, source, target, stage.log) as producer,
        stage.within(LIMIT, workers, producer),
    ):
        began = time.monotonic()

        async def due() -> bool:
            check_alive(workers)
            done = await producer.done()
            return done or bool(coming and producer.rows() >= coming[0].at * outcome.items)

        while not await producer.done():
            await until(due)
            if not await producer.done():
                happened = await stage.strike(coming.popleft(), workers, producer)
                outcome.happened.append(happened)
                tell(_line(happened))
                stage.log.note("fault", _line(happened))
        ended = time.monotonic()
        outcome.seconds = ended - began
        outcome.waits = seconds(
            waits(zip(workers.moments, workers.lines, strict=True), _alarm(stage.settings)),
            without=[one.span for one in outcome.happened],
            within=Span(began, ended),
        )
        outcome.gave_up = producer.gave_up
        await _rest(stage)
        await workers.drained()
        outcome.processes = await workers.left_behind()
    async with queues.connected(stage.direct) as connection:
        outcome.left = await queues.waiting(connection, stage.direct)
    outcome.dead_items = await dead_items(stage.direct)


def _alarm(settings: Settings) -> float:
    """Seconds of a run after which the system ends its process."""
    return settings.pack_timeout + grace(settings)


async def _rest(stage: Stage) -> None:
    """Packs of producers that were killed are still answered; the last retries come back.

    A worker that is told to stop before would hand some of them back.
    """

    async def empty() -> bool:
        return not await queues.unsettled(stage.node, stage.direct)

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(REST):
            await until(empty)


def _line(happened: Happened) -> str:
    parts = [f"{happened.rows:>9,} rows: {happened.fault.kind}"]
    if happened.outage:
        parts.append(f"outage {happened.outage:.2f} s")
    if happened.redelivered is not None:
        parts.append(f"{happened.held} packs with others after {happened.redelivered:.2f} s")
    if happened.consuming is not None:
        parts.append(f"all consuming after {happened.consuming:.2f} s")
    return ", ".join([*parts, f"pause {happened.pause:.2f} s"])
