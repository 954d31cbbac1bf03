"""Whether a call would wait too long: foreseen from how long those before it took. No I/O.

By Little's law a call of which `n` items wait, its own and those before it, and which is answered
after `s` seconds, has seen `n / s` items a second, whatever else workers do meanwhile. At that rate
the items that wait now take so many seconds, and a call that comes now begins after them. Where
that is too long, it is refused before anything of it is done: with more calls not more are
answered, and all of them later.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from lmaas.broker_config.errors import Busy

#: Items that may wait in any case, so that a slow model has work, and is asked how fast it is.
FEW: Final = 32
#: Items that may wait while no answer has come yet.
UNKNOWN: Final = 10_000
#: Seconds after which what answers have shown counts a third.
MEMORY: Final = 2.0
#: Seconds after which who was refused may try again, at least and at most.
SOON: Final = 1.0
LATE: Final = 60.0


@dataclass(slots=True)
class _Queue:
    """The calls of one model that wait here."""

    waiting: int = 0
    #: Sums over answers that fade: items that waited, and seconds until the answer.
    items: float = 0.0
    seconds: float = 0.0
    at: float = 0.0

    @property
    def expected(self) -> float:
        """Seconds that a call waits which comes now."""
        if self.waiting <= FEW:
            return 0.0
        if not self.items:
            return 0.0 if self.waiting < UNKNOWN else math.inf
        return self.waiting * self.seconds / self.items

    def learn(self, waiting: int, items: int, seconds: float, now: float) -> None:
        fade = math.exp((self.at - now) / MEMORY)
        self.items = self.items * fade + items * waiting
        self.seconds = self.seconds * fade + items * seconds
        self.at = now


@dataclass(slots=True)
class Waiting:
    """One call."""

    model: str
    items: int
    #: Items that waited when it came, with its own.
    with_it: int
    since: float


class Congestion:
    """All calls of a gateway.

    >>> call = congestion.enter("sentiment", 3)
    >>> ...
    >>> congestion.leave(call, answered=True)
    """

    def __init__(self, longest: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`longest`: seconds that a call may be expected to wait."""
        self._longest = longest
        self._clock = clock
        self._queues: dict[str, _Queue] = {}

    def enter(self, model: str, items: int) -> Waiting:
        """A call that waits from now on. Raises Busy when it would wait too long."""
        queue = self._queues.get(model)
        if queue is None:
            queue = self._queues[model] = _Queue()
        expected = queue.expected
        if expected > self._longest:
            raise self._busy(model, queue.waiting, expected)
        queue.waiting += items
        return Waiting(model, items, queue.waiting, self._clock())

    def _busy(self, model: str, waiting: int, expected: float) -> Busy:
        told, again = "nobody knows how long", SOON
        if not math.isinf(expected):
            told, again = f"about {expected:.3g} s", expected - self._longest
        return Busy(
            f"a call of model {model!r} would wait {told}, because {waiting:,} items do, and may "
            f"wait {self._longest:g} s (setting gateway.busy_after); try again later, or send a "
            "job (POST /v1/jobs)",
            retry_after=min(max(again, SOON), LATE),
        )

    def leave(self, call: Waiting, *, answered: bool) -> None:
        """It waits no more. What was given up or refused says nothing of how long answers take."""
        queue = self._queues[call.model]
        queue.waiting -= call.items
        if answered:
            now = self._clock()
            queue.learn(call.with_it, call.items, now - call.since, now)
        elif not queue.waiting and not queue.items:
            del self._queues[call.model]  # any name may be asked for
