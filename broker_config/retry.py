"""What becomes of a pack that could not be answered: put off, or parked. Pure.

A pack that is put off waits in one of the retry queues, a fixed delay each, and then comes back to
its lane with the moment at which it was first published, so that it keeps its place in the order.
"""

from __future__ import annotations

from typing import Final

from lmaas.broker_config.messages import Code
from lmaas.broker_config.topology import RETRY_DELAYS

#: What may be gone the next time, perhaps on another worker. Everything else stays as it is.
TRANSIENT: Final = frozenset({Code.OUT_OF_MEMORY, Code.UNAVAILABLE, Code.RESULTS_GONE})
#: What is not the sender's to mend: an item that fails so is parked, for people to look at. A pack
#: that is refused as a whole is parked too; items that are no good texts are only answered.
PARKED: Final = TRANSIENT | {Code.POISON, Code.TIME_LIMIT, Code.INTERNAL}
#: Tries in all for callers that take no answer: they have most often left for good.
MAX_ATTEMPTS_UNCLAIMED: Final = 2
#: Seconds since it was published after which a pack is not put off any more.
MAX_AGE: Final = 6 * 3600.0

_LADDER: Final = tuple(RETRY_DELAYS)


def delay(
    code: str, attempt: int, *, most: int, age: float, left: float | None = None, roll: float
) -> str | None:
    """The retry queue for a pack whose `attempt`-th try failed with `code`; None: give it up.

    `most` is the number of tries in all. `age` is in seconds since it was published, `left` in
    seconds until its deadline. `roll`, in [0, 1), spreads what failed together over two steps of
    the ladder.
    """
    limit = min(most, MAX_ATTEMPTS_UNCLAIMED) if code == Code.RESULTS_GONE else most
    if code not in TRANSIENT or attempt >= limit or age >= MAX_AGE:
        return None
    step = min(attempt - 1 + (roll >= 0.5), len(_LADDER) - 1)
    chosen = _LADDER[max(step, 0)]
    if left is not None and left <= RETRY_DELAYS[chosen] / 1000:
        return None
    return chosen
