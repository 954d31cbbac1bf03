"""What becomes of a pack that could not be answered: delayed retry, or dead letter. Pure.

A pack that is tried again waits in one of the retry queues, a fixed delay each, and then comes back
to its lane with the moment at which it was first published, and so keeps its place in the order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from lmaas.broker_config.codes import Code, meaning
from lmaas.broker_config.topology import delay_ms

#: Tries in all for callers that take no answer: they have most often left for good.
MAX_ATTEMPTS_UNCLAIMED: Final = 2
#: Seconds since it was published after which a pack is not tried again any more.
MAX_AGE: Final = 6 * 3600.0


def delay(
    code: str,
    attempt: int,
    *,
    delays: Sequence[str],
    most: int,
    age: float,
    left: float | None = None,
    roll: float,
) -> str | None:
    """The one of `delays` for a pack whose `attempt`-th try failed with `code`; None: give it up.

    `most` is the number of tries in all. `age` is in seconds since it was published, `left` in
    seconds until its deadline. `roll`, in [0, 1), spreads what failed together over two of the
    delays.
    """
    limit = min(most, MAX_ATTEMPTS_UNCLAIMED) if code == Code.RESULTS_GONE else most
    if not meaning(code).transient or attempt >= limit or age >= MAX_AGE:
        return None
    step = min(attempt - 1 + (roll >= 0.5), len(delays) - 1)
    chosen = delays[max(step, 0)]
    if left is not None and left <= delay_ms(chosen) / 1000:
        return None
    return chosen
