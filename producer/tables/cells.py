"""Values as text that a file can have, and what a cell has where a value is no text."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

#: A cell that its row does not have, as the key of another JSON line.
ABSENT: Final = msgspec.UNSET

# What "surrogateescape" makes of bytes that are no UTF-8 is U+DC80..U+DCFF; JSON escapes can
# name the others too, and no encoding takes those.
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_NO_BYTE = re.compile("[\ud800-\udc7f\udd00-\udfff]")


def cell(value: object) -> str:
    """A value as text: strings as they are, nothing as "", and all else as JSON writes it."""
    if isinstance(value, str):
        return value
    if value is None or value is ABSENT:
        return ""
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, msgspec.Raw):
        return bytes(value).decode("utf-8", "surrogateescape")
    text = msgspec.json.encode(well_formed(value)).decode()
    return text[1:-1] if text.startswith('"') else text  # dates and decimals need no quotes


def ranking(scores: dict[str, float]) -> str:
    """Label -> probability as a JSON object, numbers written as in the other columns."""
    pairs = (f"{msgspec.json.encode(label).decode()}:{p!r}" for label, p in scores.items())
    return f"{{{','.join(pairs)}}}"


def to_bytes(text: str) -> bytes:
    """UTF-8, with bytes that were no UTF-8 as they were read."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return _NO_BYTE.sub("\ufffd", text).encode("utf-8", "surrogateescape")


def to_utf8(text: str) -> bytes:
    """UTF-8, with U+FFFD for what could not be decoded."""
    return well_formed(text).encode()  # type: ignore[no-any-return]


def well_formed(value: Any) -> Any:
    """The value with U+FFFD for whatever no UTF-8 text can hold, however deep."""
    if isinstance(value, str):
        return value if value.isascii() else _LONE_SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {well_formed(key): well_formed(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [well_formed(inner) for inner in value]
    return value
