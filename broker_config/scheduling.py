"""From the size of a pack to its place in the queue: short work first, and nothing for ever.

The pure rules that both ends share. The publisher chooses lane and priority by a pack's *rank*,
in seconds; the worker orders what it holds by the key of the same rank.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

#: How packs are ordered:
#:
#: - "fifo": as they come, in one lane.
#: - "sjf": shortest job first, by the pack's own estimated seconds.
#: - "srtf": a pack of a longer job by what remains of that job; others as in "sjf".
Policy = Literal["fifo", "sjf", "srtf"]

#: Which of the workers gets a pack:
#:
#: - "prefetch": one that has room; who is slow has room less often.
#: - "round_robin": each in turn, whatever they hold.
#: - "random": any, chosen by RabbitMQ's plugin rabbitmq_random_exchange.
Balance = Literal["prefetch", "round_robin", "random"]

#: The lanes, shortest first, each with the largest rank it takes, in seconds.
LANES: Final[dict[str, float]] = {
    "instant": 0.002,
    "short": 0.02,
    "medium": 0.2,
    "long": 2.0,
    "huge": float("inf"),
}

#: Highest priority inside a lane. Cost grows with the number of levels, so they are few.
MAX_PRIORITY: Final = 4

#: A pack that is longer than its lane by this factor is moved to its own: its sender was mistaken,
#: and would keep those waiting that belong there.
FAR: Final = 4.0

#: Bounds of an estimate, in seconds.
LEAST: Final = 1e-6
MOST: Final = 3600.0


class Cost(msgspec.Struct, frozen=True):
    """Estimated service time of a pack, in seconds. All of them 0: nothing is known."""

    #: Of a pack, whatever is in it.
    fixed: float = 0.0
    #: Of each byte.
    per_byte: float = 0.0
    #: Of each item, whatever its size is.
    per_item: float = 0.0

    def estimate(self, items: int, size: int) -> float:
        """Seconds for so many items of `size` bytes together, at least LEAST and at most MOST."""
        return clamped(self.fixed + self.per_item * items + self.per_byte * size)


UNKNOWN: Final = Cost()
#: Of a model of which nothing is known: near a small one for texts on one core.
GUESS: Final = Cost(fixed=0.0005, per_byte=40e-9, per_item=10e-6)


def clamped(seconds: float) -> float:
    return min(max(seconds, LEAST), MOST)


def rank(policy: Policy, seconds: float, remaining: float | None = None) -> float:
    """Seconds by which a pack is ordered; `remaining` is what remains of its job, if it has one.

    A pack counts at least its own seconds, whatever its publisher says of the job.
    """
    if policy == "fifo":
        return 0.0
    if policy == "srtf" and remaining is not None:
        return max(seconds, clamped(remaining))
    return seconds


def lane(seconds: float) -> str:
    """The first lane whose bound is not passed."""
    return next(name for name, bound in LANES.items() if seconds <= bound)


def misplaced(came_by: str, rank: float) -> str | None:
    """The lane of a pack that is far too long for the one it came by; None when that will do."""
    return lane(rank) if rank > FAR * LANES[came_by] else None


def priority(seconds: float) -> int:
    """0..MAX_PRIORITY inside the lane, shorter is higher; each level is half as long.

    The lane's bound has priority 0, half of it 1, and so on.
    """
    bound = LANES[lane(seconds)]
    if bound == float("inf"):
        bound = 10 * LANES["long"]
    level = 0
    while level < MAX_PRIORITY and seconds <= bound / 2 ** (level + 1):
        level += 1
    return level


def place(policy: Policy, ageing: float, rank: float) -> tuple[str, int]:
    """Lane and priority of a pack.

    The broker's priorities are strict: while there is higher, lower waits. So with ageing a lane
    is in order of arrival, its oldest pack is always in some worker's hands, and the workers
    order the heads of the lanes.
    """
    if policy == "fifo":
        return next(iter(LANES)), 0
    return lane(rank), 0 if ageing else priority(rank)


def key(rank: float, arrival: float, ageing: float) -> float:
    """Smallest first in a worker's heap: linear ageing, which never has to be computed again.

    With `ageing` > 0 a pack is never overtaken by one that was published `rank / ageing` seconds
    after it, or later. `arrival` is on any clock that all packs share.
    """
    return rank + ageing * arrival
