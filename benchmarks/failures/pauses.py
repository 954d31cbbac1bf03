"""How long one waits for the next."""

from __future__ import annotations

import time


class Pauses:
    """Notes the longest time between two results, from now on."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self.longest = 0.0

    def note(self) -> None:
        """Another result has come."""
        now = time.monotonic()
        self.longest = max(self.longest, now - self._last)
        self._last = now
