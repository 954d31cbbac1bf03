"""What was measured: counts and times as they come, and the figures that are made of them."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec

from lmaas.broker_config.messages import Result
from lmaas.broker_config.scheduling import LANES, lane


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """How long answers took, in seconds; a percentile is None where they were too few to say."""

    p50: float | None
    p95: float | None
    p99: float | None
    max: float

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Self:
        """Of at least one answer."""
        ordered = sorted(seconds)
        return cls(
            p50=percentile(ordered, 50),
            p95=percentile(ordered, 95),
            p99=percentile(ordered, 99),
            max=ordered[-1],
        )


def percentile(ordered: Sequence[float], percent: int) -> float | None:
    """The value that `percent` of 100 stay below, on a line between the two that are next to it.

    None when there are so few values that it would only be the largest one by another name.
    """
    if len(ordered) * (100 - percent) < 100:
        return None
    below, part = divmod((len(ordered) - 1) * percent, 100)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * part / 100


@dataclass(slots=True)
class Tally:
    """What became of the items of one load, while it runs."""

    answered: int = 0
    #: Why items were not classified -> how many: an item's error code, or an exception's name.
    failures: Counter[str] = field(default_factory=Counter)
    #: How long each request took that classified anything, in seconds.
    seconds: list[float] = field(default_factory=list)

    def add(self, results: Sequence[Result], seconds: float | None = None) -> None:
        """The answers of one request, and how long it took if that is to count."""
        errors = [result.error.code for result in results if result.error is not None]
        self.failures.update(errors)
        self.answered += len(results) - len(errors)
        if seconds is not None and len(errors) < len(results):
            self.seconds.append(seconds)

    def fail(self, error: Exception, items: int) -> None:
        """A request that has no answers."""
        if items:
            self.failures[type(error).__name__] += items

    def merge(self, other: Tally) -> None:
        """Add what became of other items."""
        self.answered += other.answered
        self.failures.update(other.failures)
        self.seconds += other.seconds


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of load. A single call is one item."""

    items: int
    #: Of the items.
    failed: int
    failures: dict[str, int]
    #: From the first item's departure to the last answer.
    seconds: float
    #: Classified items.
    items_per_second: float
    #: Of requests that were answered; None where they were not timed, or there were none.
    latency_seconds: Latency | None = None


class Bulk(Phase, frozen=True, kw_only=True):
    """One long stream of texts."""

    #: Items of a pack, at most.
    pack_items: int


class SizeClass(Phase, frozen=True, kw_only=True):
    """The packs of one size class in a mixed load."""

    #: For what a worker took for the packs on average; the policy may have sent them elsewhere.
    lane: str
    packs: int
    #: The sizes in the class.
    pack_items: list[int]


def said(failures: Mapping[str, int]) -> str:
    """For people: "internal: 3, TimeLimitExceeded: 1"."""
    return ", ".join(f"{reason}: {count:,}" for reason, count in failures.items())


def phase(tally: Tally, seconds: float) -> Phase:
    return Phase(**_figures(tally, seconds))


def bulk_of(tally: Tally, seconds: float, pack_items: int) -> Bulk:
    return Bulk(**_figures(tally, seconds), pack_items=pack_items)


@dataclass(slots=True)
class Size:
    """What became of the packs of one size."""

    #: Seconds that one is thought to take a worker.
    expected: float
    packs: int = 0
    #: Seconds that they took a worker.
    costs: list[float] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)

    @property
    def lane(self) -> str:
        return lane(statistics.fmean(self.costs) if self.costs else self.expected)


def size_classes(sizes: Mapping[int, Size], seconds: float) -> list[SizeClass]:
    """A class a lane, shortest first, of the sizes that belong there. Keys: items of a pack."""
    classes = []
    for name in LANES:
        members = {items: size for items, size in sizes.items() if size.lane == name}
        if members:
            classes.append(_size_class(name, members, seconds))
    return classes


def _size_class(name: str, members: Mapping[int, Size], seconds: float) -> SizeClass:
    tally = Tally()
    for size in members.values():
        tally.merge(size.tally)
    return SizeClass(
        **_figures(tally, seconds),
        lane=name,
        packs=sum(size.packs for size in members.values()),
        pack_items=sorted(members),
    )


def _figures(tally: Tally, seconds: float) -> dict[str, Any]:
    failed = tally.failures.total()
    return {
        "items": tally.answered + failed,
        "failed": failed,
        "failures": dict(tally.failures.most_common()),
        "seconds": seconds,
        "items_per_second": tally.answered / seconds,
        "latency_seconds": Latency.of(tally.seconds) if tally.seconds else None,
    }


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All figures of one run. Times are seconds, as their names say."""

    #: When it began: RFC 3339, UTC.
    began: str
    #: Without its password.
    broker: str
    model: str
    version: str | None
    policy: str
    #: "made up", or the file.
    texts: str
    #: Different texts that were sent, and texts of the file that could not be.
    texts_used: int
    texts_left_out: int
    mean_text_bytes: float
    callers: int
    #: Workers that answered in the mixed load.
    workers: int
    #: One single call after the other.
    unloaded: Phase
    #: `callers` at the same time, each with one single call after the other.
    concurrent: Phase
    #: A short bulk that says how large the packs can be; None when it was not needed.
    rehearsal: Bulk | None
    bulk: Bulk
    mixed: list[SizeClass]

    @property
    def phases(self) -> dict[str, Phase]:
        """By what they are called in the table and in the picture."""
        return {
            "single calls, one at a time": self.unloaded,
            f"single calls, {self.callers:,} at a time": self.concurrent,
            f"bulk, packs of {self.bulk.pack_items:,}": self.bulk,
            **{_name(each): each for each in self.mixed},
        }

    @property
    def items(self) -> int:
        return sum(each.items for each in self._all)

    @property
    def failed(self) -> int:
        return sum(each.failed for each in self._all)

    @property
    def failures(self) -> dict[str, int]:
        """Of all phases, the most frequent first."""
        total: Counter[str] = Counter()
        for each in self._all:
            total.update(each.failures)
        return dict(total.most_common())

    @property
    def _all(self) -> list[Phase]:
        """The rehearsal too: what failed there is not hidden."""
        return [*self.phases.values(), *([self.rehearsal] if self.rehearsal else [])]


def _name(one: SizeClass) -> str:
    return f"mixed, {one.lane}: packs of {', '.join(map(str, one.pack_items))}"
