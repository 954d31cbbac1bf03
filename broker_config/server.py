"""What a broker tells of itself over a connection: what it takes, and whether it takes anything."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary

import aiormq.abc
import aiormq.connection

log = logging.getLogger(__name__)

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


def alarm(connection: aiormq.abc.AbstractConnection) -> str:
    """The broker's reason for blocking: `low on memory`, `low on disk` or both."""
    return _alarms.get(connection, "memory or disk alarm")


_alarms: WeakKeyDictionary[object, str] = WeakKeyDictionary()


class _Alarms(logging.Filter):
    """Reads aiormq's log, the only place where it tells the reason, and tells it in our own."""

    def filter(self, record: logging.LogRecord) -> bool:
        told, arguments = str(record.msg), record.args
        if "blocked" not in told or not isinstance(arguments, tuple):
            return logging.getLogger("aiormq").isEnabledFor(record.levelno)
        connection = arguments[0]
        if "was blocked by" in told:
            reason = _alarms[connection] = str(arguments[1])
            log.warning(
                "the broker blocks publishers: %s", reason, extra={"action": "broker_blocked"}
            )
        else:
            log.warning("the broker takes messages again", extra={"action": "broker_unblocked"})
        return False


# Its level is here, so that the reason is heard where aiormq's own lines are not wanted.
aiormq.connection.log.setLevel(logging.WARNING)
aiormq.connection.log.addFilter(_Alarms())
