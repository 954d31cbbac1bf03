"""A message whose properties cannot be decoded is a message without properties, not the end.

AMQP does not say that strings are UTF-8, the broker passes on whatever bytes they have, and pamqp
raises: over a property or a header's name that is no UTF-8, a time after the year 9999, a table
in a table in a table. aiormq then closes the connection, the broker delivers the message again,
and so one message of a stranger would keep every consumer of its queue away for ever.
"""

from __future__ import annotations

import struct
from typing import Final

from pamqp import commands
from pamqp.header import ContentHeader

#: Begins the content type of such a message, which nobody else's does: to whoever reads the body
#: it is a message in an unknown format, and is treated as that.
UNREADABLE: Final = "unreadable properties"

_FIXED: Final = struct.Struct(">HHQ")
_unmarshal = ContentHeader.unmarshal


def _tolerant(header: ContentHeader, data: bytes) -> None:
    """In the place of ContentHeader.unmarshal, for the whole process."""
    try:
        _unmarshal(header, data)
    except (ValueError, TypeError, OverflowError, OSError, RecursionError, struct.error) as error:
        header.class_id, header.weight, header.body_size = _FIXED.unpack_from(data)
        reason = f"{UNREADABLE}: {error.__cause__ or error}"
        header.properties = commands.Basic.Properties(content_type=reason[:100])


def tolerate() -> None:
    """Does nothing twice."""
    ContentHeader.unmarshal = _tolerant  # type: ignore[method-assign, assignment]
