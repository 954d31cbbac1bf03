"""A rate limit: a token bucket that may be overdrawn by the one that comes last. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable


class Bucket:
    """Fills by `rate` a second up to what comes in a second, at least 1."""

    __slots__ = ("_at", "_clock", "_level", "rate", "size")

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate = rate
        self.size = max(rate, 1.0)
        self._clock = clock
        self._level = self.size
        self._at = clock()

    def take(self, amount: float = 1.0) -> float:
        """0 when it was taken; else the seconds after which it may be tried again.

        One that is larger than the bucket is taken too, from a full one; those who follow wait.
        """
        wanted = min(amount, self.size)
        wait = self.wait(wanted)
        if not wait:
            self._level -= amount
        return wait

    def wait(self, amount: float) -> float:
        """Seconds until so much is there; 0 when it is."""
        lacking = amount - self.level
        return lacking / self.rate if lacking > 1e-9 else 0.0

    @property
    def level(self) -> float:
        """What may be taken now; below 0 when it is overdrawn."""
        now = self._clock()
        self._level = min(self.size, self._level + (now - self._at) * self.rate)
        self._at = now
        return self._level
