"""What a broker tells of itself over a connection: what it takes, and whether it takes anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import aiormq.abc

#: Bytes of the largest message by the broker's major version (its setting max_message_size).
LARGEST_MESSAGE: Final = {3: 128 * 1024**2, 4: 16 * 1024**2}


def largest_message(properties: Mapping[str, Any]) -> int:
    """Bytes that a broker with these server properties takes, if nobody has set it otherwise."""
    version = properties.get("version", "")
    text = version.decode(errors="replace") if isinstance(version, bytes) else str(version)
    major = text.partition(".")[0]
    return LARGEST_MESSAGE.get(int(major) if major.isdecimal() else 4, LARGEST_MESSAGE[4])


def is_blocked(connection: aiormq.abc.AbstractConnection) -> bool:
    """Whether the broker has stopped reading what is published over this connection.

    It does so when its memory or disk is nearly used up, and first tells who publishes.
    """
    # aiormq only offers to wait for the end of it: who is not blocked is through at the first step.
    waiting = connection.ready().__await__()
    try:
        next(waiting)
    except StopIteration:
        return False
    waiting.close()
    return True
