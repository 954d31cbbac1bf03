"""Excel workbooks: what is in a cell, which sheet, and what is no workbook."""

from __future__ import annotations

import csv
import datetime
import json
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lmaas.broker_config.errors import DataError
from lmaas.producer.tables import Chunk, Dialect, Place, Table, Wanted, open_table, xlsx
from lmaas.producer.tables.chunks import CHUNK_ROWS
from tests.unit.producer.conftest import Convert

# Excel knows no time zones.
ROWS: list[list[Any]] = [
    [None, None],
    ["id", "text", "when", "n", "ok", "long", None],
    [1, "good", datetime.datetime(2024, 1, 31), 1.5, True, datetime.timedelta(hours=30)],  # noqa: DTZ001
    [],
    ["two", 'bad, "film"\nindeed', datetime.datetime(2024, 1, 31, 10, 5), 7, False],  # noqa: DTZ001
    [3, 42],
    [4, None, datetime.date(1999, 12, 31)],
]


def saved(path: Path, *sheets: list[list[Any]]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for number, rows in enumerate(sheets):
        sheet = book.create_sheet(f"Sheet {number}")
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


_opened: list[Table] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop().close()


def opened(path: Path, wanted: Wanted | None = None, **said: Any) -> Table:
    table = open_table(Place.of(str(path), dialect=Dialect(**said)), wanted or Wanted())
    _opened.append(table)
    return table


def read(path: Path, wanted: Wanted | None = None, **said: Any) -> list[Chunk]:
    table = opened(path, wanted, **said)
    try:
        return list(table.chunks)
    finally:
        table.close()


def test_cells_are_what_they_are(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.xlsx", ROWS)
    table = opened(path)
    (chunk,) = table.chunks
    table.close()
    assert table.columns == ("id", "text", "when", "n", "ok", "long")
    assert list(chunk.columns["id"]) == [1, "two", 3, 4]
    assert list(chunk.columns["when"]) == ["2024-01-31", "2024-01-31T10:05:00", None, "1999-12-31"]
    assert list(chunk.columns["n"]) == [1.5, 7, None, None]
    assert list(chunk.columns["ok"]) == [True, False, None, None]
    assert list(chunk.columns["long"]) == ["30:00:00", None, None, None]
    # A number where a text is wanted is a text, as it is in CSV, and nothing is an empty one.
    assert list(chunk.texts) == ["good", 'bad, "film"\nindeed', "42", ""]
    assert list(chunk.lines) == [3, 5, 6, 7]
    assert not chunk.faults


def test_into_other_formats(tmp_path: Path, convert: Convert) -> None:
    path = saved(tmp_path / "a.xlsx", ROWS)
    wanted = Wanted(keep=("id", "n", "ok"))
    with convert(path, "b.csv", wanted).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["1", "two", "3", "4"]
    assert [row["n"] for row in rows] == ["1.5", "7", "", ""]
    assert [row["ok"] for row in rows] == ["true", "false", "", ""]
    lines = convert(path, "b.jsonl", wanted).read_text().splitlines()
    assert json.loads(lines[0]) == (
        {"id": 1, "n": 1.5, "ok": True, "label": "x", "score": 0.5, "error": None}
    )
    table = pq.read_table(convert(path, "b.parquet", wanted))
    assert table.column("id").to_pylist() == ["1", "two", "3", "4"]
    assert table.column("n").to_pylist() == [1.5, 7.0, None, None]
    assert table.schema.field("ok").type == pa.bool_()


def test_numbers_that_json_does_not_have() -> None:
    for value in (2**80, float("inf"), float("nan")):
        assert xlsx._value(value) == str(value)
    assert xlsx._value(datetime.timedelta(seconds=-61)) == "-0:01:01"
    assert xlsx._value(datetime.time(3, 4)) == "03:04:00"


def test_the_first_sheet_that_can_be_seen_or_the_one_that_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.xlsx", [["text"], ["one"]], [["text"], ["two"]])
    assert list(read(path)[0].texts) == ["one"]
    assert list(read(path, sheet="Sheet 1")[0].texts) == ["two"]
    with pytest.raises(DataError, match=r"no sheet 'Other' \(there are: 'Sheet 0', 'Sheet 1'\)"):
        read(path, sheet="Other")
    book = openpyxl.load_workbook(path)
    book.worksheets[0].sheet_state = "hidden"
    book.save(path)
    assert list(read(path)[0].texts) == ["two"]
    with pytest.raises(DataError, match=r"--sheet is for \.xlsx"):
        Place.of("a.csv", dialect=Dialect(sheet="x"))


def test_what_formulas_came_to(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.xlsx", [["id", "text"], [1, "=CONCATENATE(1,2)"]])
    assert list(read(path)[0].texts) == [""]  # nobody has computed it
    part = "xl/worksheets/sheet1.xml"
    rewrite(
        path,
        part,
        lambda xml: xml.replace(b"<v></v>", b"<v>12</v>").replace(b"<v />", b"<v>12</v>"),
    )
    assert list(read(path)[0].texts) == ["12"]


def rewrite(path: Path, part: str, change: Callable[[bytes], bytes]) -> None:
    """Replace a part of a workbook by what `change` makes of it."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts[part] = change(parts[part])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def test_a_row_that_is_too_long_is_an_error_with_all_of_its_text(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.xlsx", [["id", "text"], [1, "a", None, "more"], [2, "b", ""]])
    (chunk,) = read(path)
    assert chunk.faults == {0: "row 2: expected 2 columns, found 4: 1\ta\t\tmore"}
    assert list(chunk.columns["id"]) == [1, 2]


def test_chunks_and_the_size_that_a_sheet_gives_itself(tmp_path: Path) -> None:
    rows = [["text"], *([f"text {n}"] for n in range(CHUNK_ROWS + 5))]
    path = saved(tmp_path / "a.xlsx", rows)
    assert opened(path).size == len(rows)
    # Some writers say that there is one cell.
    part = "xl/worksheets/sheet1.xml"
    rewrite(path, part, lambda xml: xml.replace(f"A1:A{len(rows)}".encode(), b"A1"))
    table = opened(path)
    assert table.size is None
    assert [(chunk.start, len(chunk)) for chunk in table.chunks] == [(0, 1024), (1024, 5)]


def test_duplicate_and_missing_columns(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.xlsx", [["a", "a", None, "text"], [1, 2, 3, "x"]])
    table = opened(path)
    assert table.columns == ("a", "a_2", "", "text")
    with pytest.raises(DataError, match="no column 'review'"):
        opened(path, Wanted("review"))
    for empty in ([], [[None], []]):
        with pytest.raises(DataError, match="sheet 'Sheet 0' is empty"):
            opened(saved(tmp_path / "b.xlsx", empty))


def test_what_is_no_workbook(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    for content, words in (
        (b"", "the file is empty"),
        (b"id,text\n1,good\n", r"is no .xlsx, or is damaged \(File is not a zip file\)"),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 old",
            r"old Excel \(.xls\), or protected by a password",
        ),
        (b"PAR1\x15\x04", "say --format parquet"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=words):
            opened(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", "text\n")
    with pytest.raises(DataError, match=r"is no \.xlsx, or is damaged"):
        opened(path)
    with pytest.raises(DataError, match="no such file"):
        opened(tmp_path / "b.xlsx")
    with pytest.raises(DataError, match="cannot be read from a pipe"):
        open_table(Place.of("-", "xlsx"), Wanted())
    with pytest.raises(DataError, match=r"\.xlsx compresses itself"):
        Place.of("a.xlsx.gz")
    with pytest.raises(DataError, match="is read and not written"):
        Place.to("a.xlsx")


def test_a_workbook_that_is_damaged_inside(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.xlsx", [["text"], *([f"text {n}"] for n in range(3000))])
    part = "xl/worksheets/sheet1.xml"
    rewrite(path, part, lambda xml: xml[: len(xml) // 2])
    table = opened(path)
    assert len(next(table.chunks)) == CHUNK_ROWS
    with pytest.raises(DataError, match=r"a\.xlsx: after row 1,\d+: .*damaged"):
        list(table.chunks)


def test_what_unpacks_to_too_much_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "a.xlsx", [["text"], ["x"]])
    rewrite(path, "xl/styles.xml", lambda xml: xml + b" " * (xlsx.SMALL_PART + 1))
    with pytest.raises(DataError, match=r"'xl/styles\.xml' takes 16,7.* too much to read"):
        opened(path)
    monkeypatch.setattr(xlsx, "MOST_RATIO", 10_000)
    assert list(read(path)[0].texts) == ["x"]
    monkeypatch.setattr(xlsx, "LARGE_PART", xlsx.SMALL_PART)
    with pytest.raises(DataError, match="too much to read"):
        opened(path)


def test_rows_that_no_sheet_has(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.xlsx", [["text"], ["x"]])
    part = "xl/worksheets/sheet1.xml"
    rewrite(path, part, lambda xml: xml.replace(b'r="2"', b'r="999999999"', 1))
    with pytest.raises(DataError, match="more than 1,048,576 rows"):
        read(path)


def test_without_openpyxl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "a.xlsx", [["text"]])
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(DataError, match=r"\.xlsx needs openpyxl: "):
        opened(path)
