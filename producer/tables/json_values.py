"""JSON values as the text that stands for them in the file, and fields of objects by name.

A row is a dict of `msgspec.Raw`: a value that nobody asks for is never decoded, and one that is
kept has the digits, escapes and order that it had.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import msgspec

from lmaas.producer.tables.cells import ABSENT

Row = dict[str, msgspec.Raw]

_fields = msgspec.json.Decoder(Row).decode
_decode = msgspec.json.Decoder().decode
_KINDS = {list: "an array", int: "a number", float: "a number", bool: "a boolean"}


def parsed(text: bytes, name: str) -> tuple[Row, bytes]:
    """A row, and it as one line. A string is the row that has only it, as the field `name`.

    Raises ValueError or RecursionError when it is no row.
    """
    try:
        row = _fields(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # The standard library reads lone surrogates, and with surrogateescape bytes that are no
        # UTF-8: they then spoil the value they are in and not the row.
        decoded = text.decode("utf-8", "surrogateescape")
        try:
            value = _standard.decode(decoded)
        except json.JSONDecodeError as error:
            # Not its own line and column: they are those of the row, and look like the file's.
            raise ValueError(f"{error.msg} (character {error.pos + 1})") from None
        if isinstance(value, str):
            return {name: msgspec.Raw(text)}, b"{%b:%b}" % (msgspec.json.encode(name), text)
        if not isinstance(value, dict):
            kind = _KINDS.get(type(value), "null")
            raise ValueError(f"expected an object, found {kind}") from None
        row = dict(_cut(decoded))
    if b"\n" in text or b"\r" in text:
        text = _one_line(text)
        row = parsed(text, name)[0]
    return row, text


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


# An int of more than 4,300 digits cannot be made, and nobody needs its value.
_standard = json.JSONDecoder(parse_constant=_refuse, parse_int=float)


def _cut(text: str) -> Iterator[tuple[str, msgspec.Raw]]:
    """The fields of a valid object, as msgspec would have cut them."""
    at = _token(text, _token(text, 0) + 1)
    while text[at] != "}":
        name, colon = _standard.raw_decode(text, at)
        start = _token(text, _token(text, colon) + 1)
        end = _standard.raw_decode(text, start)[1]
        yield name, msgspec.Raw(text[start:end].encode("utf-8", "surrogateescape"))
        at = _token(text, end)
        if text[at] == ",":
            at = _token(text, at + 1)


def _token(text: str, at: int) -> int:
    """Where the next token begins."""
    while text[at] in " \t\r\n":
        at += 1
    return at


def _one_line(text: bytes) -> bytes:
    """Valid JSON without its line breaks and indents: no string of JSON has a line break inside."""
    return b"".join(line.strip() for line in text.splitlines())


def field(row: Row, name: str) -> Any:
    """The Raw of a field, or ABSENT: of the row itself, or inside others by a path with dots."""
    value = row.get(name, ABSENT)
    if value is not ABSENT or "." not in name:
        return value
    outer, _, inner = name.partition(".")
    try:
        return field(_fields(row[outer]), inner)
    except (KeyError, msgspec.DecodeError, UnicodeDecodeError):
        return ABSENT


def nested_names(row: Row, depth: int = 3) -> list[str]:
    """The names of the fields inside the row's fields, as `review.body`."""
    names = []
    for outer, raw in row.items():
        try:
            inner = _fields(raw)
        except (TypeError, msgspec.DecodeError, UnicodeDecodeError):  # no object, or ABSENT
            continue
        deeper = nested_names(inner, depth - 1) if depth > 1 else []
        leaves = [name for name in inner if not any(d.startswith(f"{name}.") for d in deeper)]
        names += [f"{outer}.{name}" for name in (*leaves, *deeper)]
    return names


def python(raw: Any) -> Any:
    """What a Raw stands for; None for ABSENT."""
    if raw is ABSENT:
        return None
    try:
        return _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Text that is no UTF-8, or an integer that is too long for an int.
        return _standard.decode(bytes(raw).decode("utf-8", "surrogateescape"))


def pythons(raws: Sequence[Any]) -> list[Any]:
    """What each of them stands for."""
    try:
        return [None if raw is ABSENT else _decode(raw) for raw in raws]
    except (msgspec.DecodeError, UnicodeDecodeError):
        return [python(raw) for raw in raws]


class Field:
    """A column of JSON values: strings and None (for ABSENT too) as themselves, others as Raw."""

    def __init__(self, rows: Sequence[Row], name: str, values: Sequence[Any] | None = None) -> None:
        """`values` is what the column stands for, where that is known."""
        self._rows = rows
        self._name = name
        self._values = values

    def inner(self, name: str) -> Field:
        """The column of a field inside the values, as `body`, `author.name`."""
        return Field(self._rows, f"{self._name}.{name}")

    def part(self, begin: int, end: int) -> Field:
        values = self._values and self._values[begin:end]
        return Field(self._rows[begin:end], self._name, values)

    def names(self) -> list[str]:
        """Of the fields inside the values."""
        rows = ({self._name: raw} for raw in self.raws() if raw is not ABSENT)
        inner = dict.fromkeys(chain.from_iterable(map(nested_names, rows)))
        return [name.removeprefix(f"{self._name}.") for name in inner]

    def raws(self) -> list[Any]:
        """Raw or ABSENT of each row."""
        name = self._name
        if "." in name:
            return [field(row, name) for row in self._rows]
        return [row.get(name, ABSENT) for row in self._rows]

    def __iter__(self) -> Iterator[Any]:
        raws = self.raws()
        values = pythons(raws) if self._values is None else self._values
        return iter(
            [
                value if value is None or type(value) is str else raw
                for value, raw in zip(values, raws, strict=True)
            ]
        )
