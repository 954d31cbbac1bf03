"""Parquet as people have it: every type of Arrow, strings that are no UTF-8, nested fields."""

from __future__ import annotations

import contextlib
import csv
import datetime
import decimal
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lmaas.broker_config.errors import DataError
from lmaas.broker_config.settings import Settings
from lmaas.producer.rows import packs_of
from lmaas.producer.tables import Place, Wanted, open_table

Convert = Callable[..., Path]
_T = pa.types

LEAVES = [
    *(pa.bool_(), pa.int8(), pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.null()),
    *(pa.date32(), pa.date64(), pa.time32("ms"), pa.time64("ns")),
    *(pa.timestamp("s"), pa.timestamp("ns"), pa.timestamp("us", "Europe/Berlin")),
    *(pa.duration("s"), pa.duration("ns")),
    *(pa.binary(), pa.binary(4), pa.large_binary(), pa.binary_view()),
    *(pa.string(), pa.large_string(), pa.string_view()),
    *(pa.decimal128(20, 3), pa.decimal256(60, 5)),
    *(pa.dictionary(pa.int8(), pa.string()), pa.dictionary(pa.int32(), pa.int64())),
    *(pa.dictionary(pa.int32(), pa.binary()), pa.dictionary(pa.int32(), pa.large_string())),
]


def nested(kind: Any) -> Iterator[Any]:
    yield pa.list_(kind)
    yield pa.large_list(kind)
    yield pa.list_(kind, 2)
    yield pa.list_view(kind)
    yield pa.struct([("x", kind), ("y", pa.int8())])
    yield pa.map_(pa.string(), kind)


def value(kind: Any) -> Any:
    """Some value of the type, with nanoseconds where it has them."""
    if _T.is_dictionary(kind):
        return value(kind.value_type)
    if _T.is_struct(kind):
        return {one.name: value(one.type) for one in kind}
    if _T.is_map(kind):
        return [(value(kind.key_type), value(kind.item_type))]
    if _T.is_nested(kind):
        return [value(kind.value_type)] * 2
    if _T.is_binary(kind) or _T.is_large_binary(kind) or _T.is_binary_view(kind):
        return b"\xff\x00"
    if _T.is_timestamp(kind) or _T.is_duration(kind):
        return 1_000_000_001
    return next(
        of(kind)
        for test, of in (
            (_T.is_boolean, lambda _: True),
            (_T.is_integer, lambda _: 7),
            (_T.is_floating, lambda _: 1.5),
            (_T.is_date, lambda _: datetime.date(2024, 5, 1)),
            (_T.is_time, lambda _: datetime.time(1, 2, 3)),
            (_T.is_fixed_size_binary, lambda _: b"abcd"),
            (_T.is_decimal, lambda kind: decimal.Decimal(300).quantize(_exponent(kind))),
            (_T.is_null, lambda _: None),
            (lambda _: True, lambda _: 'x"y'),
        )
        if test(kind)
    )


def _exponent(kind: Any) -> decimal.Decimal:
    return decimal.Decimal(1).scaleb(-kind.scale)


def columns_of(leaf: Any) -> dict[str, Any]:
    """A column of each type with this one inside, at two levels, that a file can have."""
    columns = {}
    inside = [leaf, *nested(leaf)]
    for kind in (leaf, *(deep for kind_inside in inside for deep in nested(kind_inside))):
        column = pa.array([value(kind), None], kind)
        with contextlib.suppress(pa.ArrowNotImplementedError):
            pq.write_table(pa.table({"kind": column}), io.BytesIO())
            columns[str(kind)] = column
    return columns


def _is_refused(kind: str) -> bool:
    """Whether Arrow makes something else of such values."""
    return "list_view" in kind or ("map<" in kind and "null" in kind)


@pytest.mark.parametrize("leaf", LEAVES, ids=str)
def test_each_type_is_written_or_refused_before_any_work(
    tmp_path: Path, convert: Convert, leaf: Any
) -> None:
    path = tmp_path / "a.parquet"
    columns = columns_of(leaf)
    assert len(columns) > 20
    for name in [name for name in columns if _is_refused(name)]:
        pq.write_table(pa.table({"text": ["a", "b"], name: columns.pop(name)}), path)
        with pytest.raises(DataError, match=f"column '{re.escape(name)}' has the type .*--keep"):
            open_table(Place.of(str(path)), Wanted())
    pq.write_table(pa.table({"text": ["a", "b"]} | columns), path)
    rows = [json.loads(line) for line in convert(path, "o.jsonl").read_text().splitlines()]
    assert [rows[1][name] for name in columns] == [None] * len(columns)
    assert [name for name in columns if rows[0][name] is None] == ["null"] * _T.is_null(leaf)
    assert len(list(csv.reader(convert(path, "o.csv").read_text().splitlines()))) == 3
    source, back = pq.read_table(path), pq.read_table(convert(path, "o.parquet"))
    for name in columns:
        if _T.is_dictionary(leaf):
            assert back[name].to_pylist() == source[name].to_pylist()
        else:
            assert back[name].equals(source[name])


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Strings that are no UTF-8, as some writers let pass."""
    texts = pa.array([b"good", b"b\xffd", None]).view(pa.string())
    path = tmp_path / "a.parquet"
    columns = {
        "text": texts,
        "row": pa.StructArray.from_arrays([texts, pa.array([1, 2, 3])], ["body", "n"]),
        "list": pa.ListArray.from_arrays([0, 1, 2, 3], texts),
        "map": pa.MapArray.from_arrays([0, 1, 2, 2], pa.array(["k", "k"]), texts[:2]),
    }
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize("column", ["text", "row.body"])
def test_a_string_that_is_no_utf8_is_one_rows_error(damaged: Path, column: str) -> None:
    table = open_table(Place.of(str(damaged)), Wanted(column))
    [chunk] = table.chunks
    table.close()
    found, errors = packs_of(chunk, Settings())
    assert [item.text for pack in found for item in pack] == ["good"]
    assert errors == {
        1: "invalid_utf8: not valid UTF-8 at character 1",
        2: "not_text: expected a text, got null",
    }


def test_a_string_that_is_no_utf8_is_written_again(damaged: Path, convert: Convert) -> None:
    rows = [json.loads(line) for line in convert(damaged, "o.jsonl").read_text().splitlines()]
    assert rows[1]["text"] == "b\ufffdd"
    assert rows[1]["row"] == {"body": "b\ufffdd", "n": 2}
    assert (rows[1]["list"], rows[1]["map"]) == (["b\ufffdd"], [["k", "b\ufffdd"]])
    assert b"\nb\xffd," in convert(damaged, "o.csv").read_bytes()
    back = pq.read_table(convert(damaged, "o.parquet"))
    assert back["text"].cast(pa.binary()).to_pylist() == [b"good", b"b\xffd", None]
    assert back["list"].cast(pa.list_(pa.binary())).to_pylist()[1] == [b"b\xffd"]


def test_nested_fields_have_names(tmp_path: Path, convert: Convert) -> None:
    path = tmp_path / "a.parquet"
    rows = [{"body": "a", "by": {"id": 7}}, {"body": "b", "by": None}, None]
    pq.write_table(pa.table({"review": rows, "a.b": ["x", "y", "z"], "a": [{"b": 1}] * 3}), path)
    table = open_table(Place.of(str(path)), Wanted("review.body", ("review.by.id", "a.b")))
    [chunk] = table.chunks
    table.close()
    assert chunk.texts == ["a", "b", None]
    assert {name: list(column) for name, column in chunk.columns.items()} == {
        "a.b": ["x", "y", "z"],
        "review.by.id": [7, None, None],
    }
    whole = pq.read_table(convert(path, "o.parquet", Wanted("review.body")))
    assert whole["review"].to_pylist() == rows
    with pytest.raises(DataError, match=r"no column 'review\.title'"):
        open_table(Place.of(str(path)), Wanted("review.title"))


def test_columns_of_one_name_matter_when_they_are_used(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    columns = [pa.array(["a"]), pa.array([1]), pa.array([2])]
    pq.write_table(pa.Table.from_arrays(columns, ["text", "n", "n"]), path)
    table = open_table(Place.of(str(path)), Wanted(keep=("text",)))
    assert [chunk.texts for chunk in table.chunks] == [["a"]]
    table.close()
    with pytest.raises(DataError, match="'n'"):
        open_table(Place.of(str(path)), Wanted())


def test_a_link_in_the_place_of_the_file_in_the_making_is_not_followed(
    tmp_path: Path, convert: Convert
) -> None:
    source, theirs = tmp_path / "a.csv", tmp_path / "theirs"
    source.write_text("text\nfine\n")
    (tmp_path / "o.parquet.parquet").symlink_to(theirs)
    assert pq.read_table(convert(source, "o.parquet"))["text"].to_pylist() == ["fine"]
    assert not theirs.exists()


def bomb(path: Path, column: str, rows: int) -> None:
    """A few bytes, in which each row names the same 3 MiB."""
    value = pa.array(["x" * (3 * 1024 * 1024)])
    text = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), value)
    columns: dict[str, Any] = {
        "text": text,
        "row": pa.StructArray.from_arrays([text], ["body"]),
        "list": pa.ListArray.from_arrays(list(range(rows + 1)), text),
        "map": pa.MapArray.from_arrays(
            list(range(rows + 1)), pa.array([str(row) for row in range(rows)]), text
        ),
    }
    short = pa.array(["a text"] * rows)
    source = {"short": short, column: columns[column]}
    pq.write_table(pa.table(source), path, compression="zstd", dictionary_pagesize_limit=2**30)
    assert path.stat().st_size < 20_000


@pytest.mark.parametrize("column", ["text", "row", "list", "map"])
def test_a_long_value_that_many_rows_name_is_decoded_in_parts(tmp_path: Path, column: str) -> None:
    path, rows = tmp_path / "bomb.parquet", 300
    bomb(path, column, rows)
    table = open_table(Place.of(str(path)), Wanted("short"))
    seen, largest = 0, 0
    for chunk in table.chunks:
        assert chunk.start == seen
        seen += len(chunk)
        largest = max(largest, len(chunk))
        assert str(next(iter(chunk.columns[column]))).count("x") == 3 * 1024 * 1024
    table.close()
    assert (seen, largest < 3) == (rows, True)  # 8 MiB at a time, and not 900


def test_a_row_that_is_larger_than_any_line_may_be_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    texts = ["fine", "y" * (65 * 1024 * 1024)]
    pq.write_table(pa.table({"text": texts}), path, compression="zstd")
    table = open_table(Place.of(str(path)), Wanted())
    with pytest.raises(DataError, match=r"row 2 has 68,157,44. bytes; at most 64 MiB are read"):
        list(table.chunks)
    pq.write_table(pa.table({"text": texts[1:]}), path, compression="zstd")
    table = open_table(Place.of(str(path)), Wanted())
    with pytest.raises(DataError, match=r"1 rows have 68,\d+,\d+ bytes; at most 64 MiB"):
        list(table.chunks)
