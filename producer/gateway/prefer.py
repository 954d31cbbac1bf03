"""The header `Prefer` (RFC 7240): how long a caller wants to wait. Pure."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import Final

HEADER: Final = "Prefer"
APPLIED: Final = "Preference-Applied"


@dataclass(frozen=True)
class Preferences:
    """What we know of those that there are; others are passed over, as the RFC wants it."""

    #: Answer 202 at once, or when `wait` has passed.
    respond_async: bool = False
    #: Seconds.
    wait: float | None = None

    @classmethod
    def of(cls, header: str) -> Preferences:
        """The first one of each name counts; what cannot be read is passed over."""
        found: dict[str, str] = {}
        for part in header.split(","):
            name, _, value = part.partition(";")[0].partition("=")
            found.setdefault(name.strip().lower(), value.strip().strip('"'))
        wait = None
        with contextlib.suppress(KeyError, ValueError):
            seconds = float(found["wait"])
            wait = seconds if math.isfinite(seconds) and seconds >= 0 else None
        return cls("respond-async" in found, wait)

    def patience(self, most: float) -> float:
        """Seconds to wait for answers, `most` at most; 0: not at all."""
        if self.wait is not None:
            return min(self.wait, most)
        return 0.0 if self.respond_async else most
