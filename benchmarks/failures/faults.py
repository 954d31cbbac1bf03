"""Which faults, when, and how long: a plan that is made of a seed. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Final


class Kind(StrEnum):
    """What is done to the system; each with what it may take away."""

    #: SIGKILL to one of the worker processes: the packs that it held.
    WORKER = "worker killed -9"
    #: SIGTERM to the broker, and its start: all connections.
    RESTART = "broker restarted"
    #: SIGKILL to the broker, and its start: what was on no disk, too.
    CRASH = "broker killed -9"
    #: Every connection is reset.
    CUT = "connections cut"
    #: Nothing passes for some seconds; then everything goes on.
    STALL = "connections stalled"
    #: Whatever is sent vanishes, for ever, and nobody is told; new connections work.
    HALF_OPEN = "connections half-open"
    #: Only a few bytes a second pass, for some seconds.
    SLOW = "connections slowed"
    #: SIGKILL to the producer, and its resumption.
    PRODUCER = "producer killed -9"


#: Kinds that last for a chosen time.
LASTING: Final = frozenset({Kind.STALL, Kind.SLOW})
#: Seconds that they last.
SHORTEST: Final = 1.0
LONGEST: Final = 4.0
#: The first and the last fault are not before or after these shares of the items.
FIRST: Final = 0.03
LAST: Final = 0.93


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that happens."""

    kind: Kind
    #: The share of the items that are answered when it happens.
    at: float
    #: How long it lasts; 0 for what has no length of its own.
    seconds: float = 0.0


def plan(seed: int, count: int) -> list[Fault]:
    """`count` faults in the order of their moments, which are spread over the run.

    Every kind comes about as often as every other.
    """
    source = Random(seed)
    kinds: list[Kind] = []
    while len(kinds) < count:
        kinds += source.sample(list(Kind), len(Kind))
    share = (LAST - FIRST) / max(1, count)
    return [
        Fault(
            kind,
            at=FIRST + share * (place + source.random()),
            seconds=source.uniform(SHORTEST, LONGEST) if kind in LASTING else 0.0,
        )
        for place, kind in enumerate(kinds[:count])
    ]
