"""When a webhook is tried again, and what an answer to it means; pure."""

from __future__ import annotations

import datetime
import enum
import random
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

#: Seconds that a receiver can ask to be left alone for, at most.
LONGEST: Final = 86_400.0

#: Statuses that say that the receiver has too much to do.
_SLOW_DOWN: Final = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)


class Verdict(enum.Enum):
    """What one try has come to."""

    DELIVERED = "delivered"
    FAILED = "failed"
    #: It failed, and the receiver wants less of them.
    SLOW_DOWN = "slow_down"
    #: The receiver wants no more of them, ever.
    GONE = "gone"


def verdict(status: int | None) -> Verdict:
    """Of an answer, or None when there was none. A redirect is a failure as others are."""
    if status is None:
        return Verdict.FAILED
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return Verdict.DELIVERED
    if status == HTTPStatus.GONE:
        return Verdict.GONE
    return Verdict.SLOW_DOWN if status in _SLOW_DOWN else Verdict.FAILED


def retry_after(header: str | None, now: float) -> float | None:
    """Seconds, of a header `Retry-After` with seconds or a date; None without one, or of garbage.

    `now`: Unix time.
    """
    if not header:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:10]), LONGEST)
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return min(max(0.0, moment.timestamp() - now), LONGEST)


def delay(
    delays: Sequence[float], tries: int, jitter: float, asked: float | None = None
) -> float | None:
    """Seconds until the next try after so many; None: there is none.

    `asked`: what the receiver has asked for, which counts where it is longer.
    """
    if tries >= len(delays):
        return None
    return max(delays[tries] * (1 + jitter * random.random()), asked or 0.0)
