"""What the suite found, as a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final

from benchmarks.failures.faults import Kind
from benchmarks.failures.stage import HEARTBEAT, MAX_ATTEMPTS, PACK_TIMEOUT, WORKERS, Happened
from benchmarks.failures.suite import Outcome
from benchmarks.report import Cell, Figure, Grid, Plot, Report, bars

#: Names of figures by which others find them.
LOST: Final = "rows lost"
DOUBLED: Final = "rows doubled"
WRONG: Final = "rows wrong"
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
    verdict = outcome.verdict
    none = (
        (LOST, verdict.lost),
        (DOUBLED, verdict.doubled),
        (WRONG, verdict.wrong),
        (NOT_DEAD_LETTERED, len(outcome.not_dead_lettered)),
        (MISJUDGED, len(outcome.misjudged)),
        (DEAD_LETTERED_TWICE, len(outcome.dead_lettered_twice)),
        (FOR_NOTHING, len(outcome.dead_lettered_for_nothing)),
        ("messages left in lanes and retry queues", outcome.left),
        ("processes left", len(outcome.processes)),
        ("times that the producer gave up", len(outcome.gave_up)),
    )
    return [Figure(name=name, value=value, unit="", at_most=0) for name, value in none]


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
    told = {
        "Wrong, the first ones": outcome.verdict.examples,
        "Processes left": outcome.processes,
        "What the producer said when it gave up": outcome.gave_up,
    }
    return [*tables, *listed(told)]


def listed(told: Mapping[str, Sequence[str]]) -> list[Grid]:
    """Lines under their titles; nothing under those that have none."""
    return [
        Grid(title=title, columns=[""], rows=[[line] for line in lines])
        for title, lines in told.items()
        if lines
    ]


def _row(some: list[Happened]) -> list[Cell]:
    return [
        str(some[0].fault.kind),
        len(some),
        spread([h.outage for h in some]),
        spread([h.consuming or 0.0 for h in some]),
        spread([h.pause for h in some]),
    ]


def spread(seconds: Sequence[float]) -> str:
    """The median and the longest."""
    return f"{median(seconds):.2f} / {max(seconds):.2f}"


def _plots(happened: list[Happened]) -> list[Plot]:
    pauses = {
        str(kind): max(h.pause for h in happened if h.fault.kind is kind)
        for kind in Kind
        if any(h.fault.kind is kind for h in happened)
    }
    if not pauses:
        return []
    return [bars("Longest pause in the output", "s", pauses, ours=list(pauses))]
