"""What a log says again and again: once, and then at a slow pace. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

#: Seconds after which the same words are said again.
PACE: Final = 60.0


class Repeats:
    """Tells what is new from what was said within the last PACE seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said: dict[str, float] = {}

    def is_due(self, words: str) -> bool:
        """Whether these words are to be said now; they count as said then."""
        now = self._clock()
        self._said = {one: at for one, at in self._said.items() if now - at < PACE}
        if words in self._said:
            return False
        self._said[words] = now
        return True
