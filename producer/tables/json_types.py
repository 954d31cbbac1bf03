"""Columns of JSON values as typed Arrow columns.

While a run goes on, a JSON value is a text: a string has a quote before it, any other value is its
JSON text. At the end every value of a column has been seen, and its type is

- a boolean, a string, or a 64-bit integer, when all of its values are that;
- a double, when all are numbers, some have a fraction or an exponent, and a double holds them;
- a string with each value's JSON text else: for objects, arrays, and a mixture.

Null and a missing key go with each of them; a column that has nothing else is one of strings.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from lmaas.producer.tables.arrow import arrow
from lmaas.producer.tables.cells import ABSENT, cell

#: What a value can be: a wide integer may not fit into a double, text fits into nothing else.
STRING: Final = "string"
BOOLEAN: Final = "boolean"
INTEGER: Final = "integer"
WIDE: Final = "wide integer"
DOUBLE: Final = "double"
TEXT: Final = "text"

#: The largest integer up to which a double has all of them.
_EXACT: Final = 2**53
_FIRST: Final = {'"': STRING, "t": BOOLEAN, "f": BOOLEAN, "[": TEXT, "{": TEXT}

Kinds = dict[str, set[str]]


def marked(column: Iterable[Any]) -> list[str | None]:
    """Values as texts that still say what they are."""
    return [
        f'"{value}'
        if isinstance(value, str)
        else (None if value is None or value is ABSENT else cell(value))
        for value in column
    ]


def kinds(batches: Iterable[Any], names: Iterable[str]) -> Kinds:
    """What there is in each of these columns of marked texts."""
    found: Kinds = {name: set() for name in names}
    if found:
        for batch in batches:
            for name in found:
                found[name] |= _kinds(batch.column(name))
    return found


def _kinds(texts: Any) -> set[str]:
    arrow("Parquet")
    import pyarrow.compute as pc

    firsts = pc.utf8_slice_codeunits(texts, 0, 1).unique().drop_null().to_pylist()
    seen = {_FIRST[first] for first in firsts if first in _FIRST}
    if len(seen) < len(firsts) and any(first not in _FIRST for first in firsts):
        seen |= _numbers(texts.filter(pc.match_substring_regex(texts, "^[-0-9]")))
    return seen


def _numbers(texts: Any) -> set[str]:
    pa = arrow("Parquet")
    import pyarrow.compute as pc

    whole = pc.match_substring_regex(texts, "^-?[0-9]+$")
    integers, others = texts.filter(whole), texts.filter(pc.invert(whole))
    seen = set()
    try:
        if len(integers):
            ends = pc.min_max(integers.cast(pa.int64())).as_py()
            seen.add(INTEGER if ends["min"] >= -_EXACT and ends["max"] <= _EXACT else WIDE)
        if len(others):
            finite = pc.all(pc.is_finite(others.cast(pa.float64()))).as_py()
            seen.add(DOUBLE if finite else TEXT)
    except pa.ArrowInvalid:
        seen.add(TEXT)
    return seen


def schema(given: Any, found: Kinds) -> Any:
    """The schema with the types of these columns in the place of text."""
    for name, seen in found.items():
        at = given.get_field_index(name)
        given = given.set(at, given.field(at).with_type(_type(seen)))
    return given


def typed(table: Any, found: Kinds, *, json: bool = True) -> Any:
    """The table with these columns as what they are; without `json` a string is never in quotes."""
    for name, seen in found.items():
        at = table.schema.get_field_index(name)
        column = _typed(table.column(at), seen, json=json)
        table = table.set_column(at, table.schema.field(at).with_type(column.type), column)
    return table


def _type(seen: set[str]) -> Any:
    pa = arrow("Parquet")
    if seen == {BOOLEAN}:
        return pa.bool_()
    if seen and seen <= {INTEGER, WIDE}:
        return pa.int64()
    if seen and seen <= {INTEGER, DOUBLE}:
        return pa.float64()
    return pa.string()


def _typed(column: Any, seen: set[str], *, json: bool) -> Any:
    pa = arrow("Parquet")
    import pyarrow.compute as pc

    kind = _type(seen)
    if kind != pa.string():
        return column.cast(kind)
    if seen == {STRING}:
        return pc.utf8_slice_codeunits(column, 1)
    if STRING not in seen:
        return column
    if not json:
        return pc.replace_substring_regex(column, '^"', "")
    return pa.chunked_array([[_json(text) for text in column.to_pylist()]], pa.string())


def _json(text: str | None) -> str | None:
    """JSON of a marked text."""
    if text is None or not text.startswith('"'):
        return text
    return msgspec.json.encode(text[1:]).decode()
