"""Properties that keep AMQP's grammar and that pamqp cannot represent.

RabbitMQ takes any bytes for a short text and any number for a moment. pamqp raises on text that is
no UTF-8, moments after the year 9999 and headers nested hundreds deep; the channel ends with that,
and as the message stays, so does every channel that gets it. One message by a foreign program would
stop all readers of its queue for ever. After `tolerate`, what cannot be represented is told in
another way or left out, and everything else is read by pamqp as before.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import pamqp.decode

_Decoder = Callable[[bytes], tuple[int, Any]]

_short_text: Final[_Decoder] = pamqp.decode.short_str
_moment: Final[_Decoder] = pamqp.decode.timestamp
_table: Final[_Decoder] = pamqp.decode.field_table


def short_text(value: bytes) -> tuple[int, str]:
    """Bytes that are no UTF-8 are written as `\\xff`."""
    try:
        return _short_text(value)
    except UnicodeDecodeError:
        end = 1 + value[0]
        return end, value[1:end].decode(errors="backslashreplace")


def moment(value: bytes) -> tuple[int, datetime | None]:
    """None for one that no calendar has."""
    try:
        return _moment(value)
    except (ValueError, OverflowError, OSError):
        return 8, None


def table(value: bytes) -> tuple[int, dict[str, Any]]:
    """Empty when any of it cannot be represented."""
    try:
        return _table(value)
    except (ValueError, ArithmeticError, RecursionError):
        return 4 + int.from_bytes(value[:4], "big"), {}


def tolerate() -> None:
    """From now on, for every connection of this process; it may be called again."""
    methods: dict[str, Any] = pamqp.decode.METHODS
    methods |= {"shortstr": short_text, "timestamp": moment, "table": table}
    pamqp.decode.TABLE_MAPPING[b"T"] = moment
