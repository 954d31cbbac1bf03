"""What the suite has seen, and what it says of it. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from benchmarks.failures.comparison import Verdict, damage, examples
from benchmarks.failures.dead_items import DeadItem
from benchmarks.failures.faults import Kind
from benchmarks.failures.poison import Poison, poison_of
from benchmarks.failures.stage import HEARTBEAT, MAX_ATTEMPTS, PACK_TIMEOUT, WORKERS, Happened
from benchmarks.report import Cell, Figure, Grid, Plot, Report, bars, listed, none, spread

#: Names of figures by which others find them.
ROWS: Final = "rows"
NOT_DEAD_LETTERED: Final = "poison rows not dead-lettered with their reason"
MISJUDGED: Final = "poison rows dead-lettered with another reason"
DEAD_LETTERED_TWICE: Final = "rows in more than one dead letter"
FOR_NOTHING: Final = "items dead-lettered for nothing"
CALM: Final = "calm run"
RATIO: Final = "time under faults, without the outages / calm run"
RATIO_WITHOUT_WAITS: Final = "the same, without these waits"
PAUSE: Final = "longest pause in the output after a fault"
#: Kinds after which the broker itself comes back.
_OF_BROKER: Final = (Kind.RESTART, Kind.CRASH)


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


def report(outcome: Outcome) -> Report:
    return Report(
        benchmark="failures",
        setting=f"{outcome.items:,} IMDB reviews through the queue by `lmaas classify --resume`, "
        f"{WORKERS} workers, all connections through a proxy; {len(outcome.happened)} faults one "
        f"at a time and {len(outcome.poison)} poison rows, seed {outcome.seed}; heartbeats of "
        f"{HEARTBEAT} s, `pack_timeout` of {PACK_TIMEOUT:g} s, `max_attempts` of {MAX_ATTEMPTS}",
        figures=[*_counts(outcome), *_times(outcome)],
        tables=[*_tables(outcome)],
        plots=_plots(outcome.happened),
    )


def _counts(outcome: Outcome) -> list[Figure]:
    others = {
        NOT_DEAD_LETTERED: len(outcome.not_dead_lettered),
        MISJUDGED: len(outcome.misjudged),
        DEAD_LETTERED_TWICE: len(outcome.dead_lettered_twice),
        FOR_NOTHING: len(outcome.dead_lettered_for_nothing),
        "messages left in lanes and retry queues": outcome.left,
        "processes left": len(outcome.processes),
        "times that the producer gave up": len(outcome.gave_up),
    }
    return [*damage(ROWS, [outcome.verdict]), *none(others)]


def _times(outcome: Outcome) -> list[Figure]:
    killed = [h.redelivered for h in outcome.happened if h.redelivered is not None]
    back = [
        h.consuming
        for h in outcome.happened
        if h.fault.kind in _OF_BROKER and h.consuming is not None
    ]
    under_faults = outcome.seconds - outcome.outages
    figures = [
        Figure(name=CALM, value=outcome.calm_seconds, unit="s"),
        Figure(name="run under faults", value=outcome.seconds, unit="s"),
        Figure(name="outages in it", value=outcome.outages, unit="s"),
        Figure(name=RATIO, value=under_faults / outcome.calm_seconds, unit=""),
        Figure(name="time limits and retries that poison rows waited for", value=outcome.waits,
               unit="s"),
        Figure(name=RATIO_WITHOUT_WAITS,
               value=(under_faults - outcome.waits) / outcome.calm_seconds, unit="", at_most=1.5),
        Figure(name=PAUSE, value=max((h.pause for h in outcome.happened), default=0.0), unit="s"),
    ]  # fmt: skip
    if killed:
        name = "worker killed -9: its packs with another"
        figures += [
            Figure(name=f"{name}, median", value=median(killed), unit="s"),
            Figure(name=f"{name}, longest", value=max(killed), unit="s", at_most=1),
        ]
    if back:
        figures.append(
            Figure(name="broker back: all workers consuming, longest", value=max(back), unit="s",
                   at_most=5)
        )  # fmt: skip
    return figures


def _tables(outcome: Outcome) -> list[Grid]:
    by_kind = [[h for h in outcome.happened if h.fault.kind is kind] for kind in Kind]
    tables = [
        Grid(
            title="Faults; seconds are the median and the longest",
            columns=[
                "",
                "times",
                "outage",
                "all consuming again after",
                "longest pause in the output",
            ],
            rows=[_row(some) for some in by_kind if some],
        ),
        Grid(
            title="Poison",
            columns=["", "rows", "in the dead letter queue, items"],
            rows=[
                [kind.name, rows, sum(kind in one.text for one in outcome.dead_items)]
                for kind, rows in Counter(outcome.poison.values()).items()
            ],
        ),
    ]
    lines = {
        **examples([outcome.verdict]),
        "Processes left": outcome.processes,
        "What the producer said when it gave up": outcome.gave_up,
    }
    return [*tables, *listed(lines)]


def _row(some: list[Happened]) -> list[Cell]:
    return [
        str(some[0].fault.kind),
        len(some),
        spread([h.outage for h in some]),
        spread([h.consuming or 0.0 for h in some]),
        spread([h.pause for h in some]),
    ]


def _plots(happened: list[Happened]) -> list[Plot]:
    pauses = {
        str(kind): max(h.pause for h in happened if h.fault.kind is kind)
        for kind in Kind
        if any(h.fault.kind is kind for h in happened)
    }
    if not pauses:
        return []
    return [bars("Longest pause in the output", "s", pauses, ours=list(pauses))]
