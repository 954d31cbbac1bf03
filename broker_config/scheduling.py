"""From the size of a pack to its lane and priority: short work first."""

from __future__ import annotations

from typing import Final

import msgspec

#: The lanes, shortest first, each with the longest estimated service time it takes, in seconds.
LANES: Final[dict[str, float]] = {"short": 0.05, "medium": 0.5, "long": float("inf")}

#: Highest priority inside a lane. Cost grows with the number of levels, so they are few.
MAX_PRIORITY: Final = 4


class Cost(msgspec.Struct, frozen=True):
    """Estimated service time of a pack: a line in its bytes of text."""

    #: Seconds a pack, whatever is in it.
    fixed: float = 0.0005
    #: Seconds a byte. The default is near a small text model on one core.
    per_byte: float = 40e-9

    def estimate(self, size: int) -> float:
        """Seconds for `size` bytes, at least a microsecond and at most an hour."""
        return min(max(self.fixed + self.per_byte * size, 1e-6), 3600.0)


def lane(seconds: float) -> str:
    """The first lane whose bound is not passed."""
    return next(name for name, bound in LANES.items() if seconds <= bound)


def priority(seconds: float) -> int:
    """0..MAX_PRIORITY inside the lane, shorter is higher; each level is half as long.

    The lane's bound has priority 0, half of it 1, and so on.
    """
    bound = LANES[lane(seconds)]
    if bound == float("inf"):
        bound = 16 * LANES["medium"]
    level = 0
    while level < MAX_PRIORITY and seconds <= bound / 2 ** (level + 1):
        level += 1
    return level
