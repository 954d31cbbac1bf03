"""What stands in a file, as messages can name it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from lmaas.producer.tables.cells import to_bytes

#: Names of columns in a message; the others are counted.
_LISTED: Final = 30
#: Characters of a file that a message quotes at most.
_QUOTED: Final = 100


def shown(name: str) -> str:
    """The name of a column as any format and terminal can have it: bytes that are no UTF-8 as
    `\\xff`."""
    if name.isascii():
        return name
    return to_bytes(name).decode("utf-8", "backslashreplace")


def quoted(name: str) -> str:
    """A name in quotes, as it can be copied into a shell; a long one is cut."""
    mark = '"' if "'" in name else "'"
    return f"{mark}{clipped(name)}{mark}"


def clipped(text: str, most: int = _QUOTED) -> str:
    """Text of a file as one line of a message: cut, and escaped where a terminal shows nothing."""
    more = "…" if len(text) > most else ""
    kept = shown(text[:most])
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in kept) + more


def counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(columns: Sequence[str]) -> str:
    """The names of columns that there are."""
    # Quoted, as a blank at the end of a name cannot be seen otherwise.
    names = [quoted(column) for column in columns[:_LISTED]]
    more = f", and {len(columns) - _LISTED:,} more" if len(columns) > _LISTED else ""
    return f"there are: {', '.join(names)}{more}"
