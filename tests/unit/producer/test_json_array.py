"""Items of a JSON array, however the bytes come and whatever is wrong with them."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmaas.broker_config.errors import DataError
from lmaas.producer.tables import json_array
from lmaas.producer.tables.inputs import Input
from lmaas.producer.tables.json_array import Items


class Slow(io.BytesIO):
    """Hands out a few bytes at a time."""

    def __init__(self, data: bytes, at_once: int) -> None:
        super().__init__(data)
        self.at_once = at_once

    def read1(self, size: int | None = -1, /) -> bytes:
        return self.read(self.at_once)


def items(data: bytes, at_once: int = 1024) -> Items:
    return Items(Input("a.json", Slow(data, at_once), None, None))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@settings(deadline=None)  # a machine may be busy
@given(st.lists(values), st.integers(1, 50), st.sampled_from([None, 2]), st.booleans())
def test_items_are_those_of_the_whole(
    given: list[Any], at_once: int, indent: int | None, escaped: bool
) -> None:
    data = json.dumps(given, indent=indent, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    found = [item for item in items(data, at_once) if isinstance(item, bytes)]
    assert [json.loads(item) for item in found] == given
    assert all(item in data for item in found)


def test_lines_and_numbers_are_those_of_the_items() -> None:
    reader = items(b'[\n  {"a":\n 1},\n\n  2\n,\n3]')
    assert [(item, reader.number, reader.item) for item in reader] == [
        (b'{"a":\n 1}', 2, 1),
        (b"2", 5, 2),
        (b"3", 7, 3),
    ]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"[]", []),
        (b" [ \n ] \n", []),
        (b"[1,]", [b"1"]),
        (b"[1]\n[2,3]", [b"1", b"2", b"3"]),
        (b'["a\\\\", "b\\"]"]', [b'"a\\\\"', b'"b\\"]"']),
        (b"[1}, {]: 2]", [b"1}", b"{]: 2"]),
        (b"[1,,2]", [b"1", "nothing stands between two commas", b"2"]),
        (b"[1] x", [b"1", "something stands after the array, which is not an array"]),
        (b"[1, 2", [b"1", b"2", "the array is never closed; is the file cut off?"]),
        (b"[1,", [b"1", "the array is never closed; is the file cut off?"]),
        (b'[1, "a]', [b"1", b'"a]', "the array is never closed; is the file cut off?"]),
    ],
)
def test_what_is_wrong_costs_no_other_item(data: bytes, expected: list[bytes | str]) -> None:
    for at_once in (1, 3, 1024):
        assert list(items(data, at_once)) == expected


def test_an_item_without_end_stops_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_array, "LINE_BYTES", 1 << 20)
    with pytest.raises(DataError, match=r"item 2, which begins on line 2, .* quote or a bracket"):
        list(items(b'["a",\n"' + b"x" * (3 << 20)))
