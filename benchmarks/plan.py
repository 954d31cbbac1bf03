"""`python -m benchmarks.plan --items-per-second 1e4`: how many of everything a demand needs.

Computed from what was measured on two shared cores; docs/sizing.md says what that is worth. Brokers
share nothing: each has its own workers, models are divided among them, and a model that is too
large for one is published to several in turn.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import click

from benchmarks.queueing import pool_quantile
from lmaas.broker_config.scheduling import LANES
from lmaas.workers.prefetch import prefetch

#: Messages a second of one broker on two cores: packs (to and from a classic queue with priorities)
#: and their replies (without), each measured alone, bodies of 400 bytes.
PACKS_IN: Final = 15_000
PACKS_OUT: Final = 17_000
REPLIES_IN: Final = 18_000
REPLIES_OUT: Final = 31_000
#: Bytes a second that it takes in, or gives out, when bodies are large (90 kB).
BROKER_BYTES: Final = 200e6
#: Packs a second that one producing process publishes with confirms, and items that it answers.
PRODUCER_PACKS: Final = 4_500
PRODUCER_ITEMS: Final = 50_000
#: Seconds from a publish to its reply, without the work.
ROUND_TRIP: Final = 1.1e-3
#: Bytes of a result in a reply.
RESULT_BYTES: Final = 40

#: What each lane's packs take at least, in seconds: the bound of the lane before it.
_SHORTEST: Final = (0.0, *LANES.values())[: len(LANES)]


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What is asked for. Times are seconds."""

    items_per_second: float
    #: Service time of a pack: this, and so much for each item.
    fixed_seconds: float = 0.5e-3
    item_seconds: float = 18e-6
    #: Standard deviation of a pack's service time / its mean.
    variation: float = 1.0
    item_bytes: float = 350
    #: Items of a full pack.
    pack: int = 256
    #: How long a producer gathers single calls; with 0 every pack is full, as from a file.
    linger: float = 0.002
    #: The share of the time that producers, brokers and workers may be busy.
    utilisation: float = 0.7
    #: Within this time come 99 % of the answers.
    latency: float = 0.05

    def service(self, items: float) -> float:
        """Seconds of a worker for a pack of `items`."""
        return self.fixed_seconds + self.item_seconds * items

    def gathered(self, producers: int) -> float:
        """Mean items of a pack when so many producers share the demand."""
        if not self.linger:
            return self.pack
        return min(max(self.items_per_second / producers * self.linger, 1.0), self.pack)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What it takes, in processes of one core each; a broker has two."""

    items_per_second: float
    #: Mean items of a pack.
    items: float
    packs_per_second: float
    producers: int
    brokers: int
    workers: int
    #: The share of the time that a worker is busy.
    busy: float
    #: Packs that a worker is given ahead in each lane, the running one included.
    prefetch: tuple[int, ...]
    #: Seconds within which 99 % of the answers come.
    latency: float
    #: Bytes a second that the packs bring to each broker.
    broker_bytes: float


def plan(demand: Demand) -> Plan:
    """The smallest numbers that meet the demand. Raises ValueError when none do."""
    producers = _producers(demand)
    items = demand.gathered(producers)
    packs = demand.items_per_second / items
    brokers = math.ceil(packs * broker_seconds(demand, items) / demand.utilisation)
    seconds = demand.service(items)
    workers, wait = _workers(demand, packs / brokers, seconds)
    return Plan(
        items_per_second=demand.items_per_second,
        items=items,
        packs_per_second=packs,
        producers=producers,
        brokers=brokers,
        workers=brokers * workers,
        busy=packs * seconds / (brokers * workers),
        prefetch=tuple(prefetch(max(seconds, shortest), ROUND_TRIP) for shortest in _SHORTEST),
        latency=demand.linger + ROUND_TRIP + seconds + wait,
        broker_bytes=packs * items * demand.item_bytes / brokers,
    )


def broker_seconds(demand: Demand, items: float) -> float:
    """Seconds of a broker for a pack of `items` and its reply, each in and out."""
    messages = 1 / PACKS_IN + 1 / PACKS_OUT + 1 / REPLIES_IN + 1 / REPLIES_OUT
    return messages + 2 * items * (demand.item_bytes + RESULT_BYTES) / BROKER_BYTES


def _producers(demand: Demand) -> int:
    """The fewest that can publish and take the answers."""
    rate, busy = demand.items_per_second, demand.utilisation
    return next(
        producers
        for producers in itertools.count(math.ceil(rate / (busy * PRODUCER_ITEMS)))
        if rate / demand.gathered(producers) <= producers * busy * PRODUCER_PACKS
    )


def _workers(demand: Demand, packs: float, seconds: float) -> tuple[int, float]:
    """The fewest at one broker, and the wait in seconds that 99 % of its `packs` a second keep."""
    allowed = demand.latency - demand.linger - ROUND_TRIP - seconds
    if allowed <= 0:
        raise ValueError(
            f"an answer takes {demand.latency - allowed:.3g} s without any wait: the latency goal "
            f"of {demand.latency:.3g} s needs smaller packs or a faster model"
        )
    work = packs * seconds
    return next(
        (workers, wait)
        for workers in itertools.count(math.ceil(work / demand.utilisation))
        if (wait := pool_quantile(workers, work / workers, seconds, demand.variation)) <= allowed
    )


HEADER: Final = (
    "items/s | items a pack | packs/s | producers | brokers | lanes | workers | busy | "
    f"prefetch {', '.join(LANES)} | p99 ms | MB/s a broker"
)


def table(plans: list[Plan]) -> str:
    """Plans as Markdown; the lanes are those of one model."""
    lines = [f"| {HEADER} |", "|" + " --: |" * (HEADER.count("|") + 1)]
    for it in plans:
        cells = (
            f"{it.items_per_second:,.0f}",
            f"{it.items:.0f}",
            f"{it.packs_per_second:,.0f}",
            f"{it.producers:,}",
            f"{it.brokers:,}",
            f"{it.brokers * len(LANES):,}",
            f"{it.workers:,}",
            f"{it.busy:.0%}",
            ", ".join(map(str, it.prefetch)),
            f"{it.latency * 1e3:.1f}",
            f"{it.broker_bytes / 1e6:.1f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


_MORE: Final = click.FloatRange(min=0, min_open=True)
_NOT_LESS: Final = click.FloatRange(min=0)
_SHARE: Final = click.FloatRange(min=0, max=1, min_open=True, max_open=True)


def _option(
    name: str, kind: click.ParamType[Any], text: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """`--some-name`, with the default that Demand has."""
    flag, default = f"--{name.replace('_', '-')}", getattr(Demand, name)
    return click.option(flag, type=kind, default=default, show_default=True, help=text)


@click.command()
@click.option(
    "--items-per-second",
    "rates",
    type=_MORE,
    multiple=True,
    default=(1e3, 1e4, 1e5, 1e6),
    help="A row of the table each.  [default: 1e3, 1e4, 1e5 and 1e6]",
)
@_option("fixed_seconds", _NOT_LESS, "Service time of a pack, whatever is in it.")
@_option("item_seconds", _MORE, "Service time that an item adds.")
@_option("variation", _NOT_LESS, "Standard deviation / mean of a pack's service time.")
@_option("item_bytes", _MORE, "Size of an item.")
@_option("pack", click.IntRange(min=1), "Items of a full pack.")
@_option("linger", _NOT_LESS, "Seconds that calls are gathered; 0: packs are full, as from files.")
@_option("utilisation", _SHARE, "How busy producers, brokers and workers may be.")
@_option("latency", _MORE, "Seconds within which 99 % of the answers are to come.")
def main(rates: tuple[float, ...], **demand: Any) -> None:
    """How many producers, brokers and workers a demand needs, as a Markdown table."""
    try:
        plans = [plan(Demand(items_per_second=rate, **demand)) for rate in rates]
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    click.echo(table(plans))


if __name__ == "__main__":
    main()
