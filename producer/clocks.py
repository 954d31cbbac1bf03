"""What workers' clocks show where this machine's clock shows something else.

A worker knows a deadline only as a moment, and of the broker neither end learns when a pack arrived
there. So each reply says what the worker's clock shows, and a client whose clock is another one
names its deadlines by the worker's.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Final

log = logging.getLogger(__name__)

#: Deadlines beyond this are none; more does not fit into a header.
_FAR: Final = 2**53


@dataclass(slots=True)
class Clocks:
    """By how much the clock of the worker that answered last is ahead of ours."""

    #: Seconds by which they may differ before it counts.
    tolerance: float
    #: Seconds; below 0 when the worker's is behind.
    ahead: float = 0.0

    def heard(self, shown_ms: object, sent: float, received: float, worker: str | None) -> None:
        """A worker's clock showed `shown_ms` at some moment between `sent` and `received`, which
        are Unix seconds by our clock.
        """
        if type(shown_ms) is not int or not 0 < shown_ms < _FAR:
            return
        shown = shown_ms / 1000
        if sent - self.tolerance <= shown <= received + self.tolerance:
            self.ahead = 0.0
            return
        # The most that it may be: a deadline that is a little late only has more work done.
        ahead = shown - sent
        if abs(ahead - self.ahead) > self.tolerance:
            log.warning(
                "this machine's clock is about %.0f s %s the clock of worker %s; deadlines are "
                "sent by the worker's. Set the clocks (NTP)",
                abs(ahead), "behind" if ahead > 0 else "ahead of", worker or "(unknown)",
                extra={"action": "clocks_differ"},
            )  # fmt: skip
        self.ahead = ahead

    def deadline_ms(self, now: float, seconds: float) -> int | None:
        """The moment `seconds` after our `now` by the worker's clock, in Unix milliseconds.

        None when it is too far away to matter.
        """
        moment = (now + self.ahead + seconds) * 1000
        return math.ceil(moment) if 0 < moment < _FAR else None
