"""One job, calmly and then under faults; what was lost, doubled, wrong, and how long it took."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.failures import job, queues
from benchmarks.failures.comparison import compare
from benchmarks.failures.dead_items import dead_items
from benchmarks.failures.faults import Fault
from benchmarks.failures.job import Producer
from benchmarks.failures.log import Log
from benchmarks.failures.outcome import Outcome
from benchmarks.failures.poison import Poison, rows
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
    #: As the setting.
    payload_keys: str | None = None


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
        async with Stage.open(
            what.seed, what.pack_items, what.window, log, what.payload_keys
        ) as stage:
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
