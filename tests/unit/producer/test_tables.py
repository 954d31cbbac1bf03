"""Every format in and out: what is kept, what becomes an error, and what is refused."""

from __future__ import annotations

import bz2
import csv
import datetime
import gzip
import io
import json
import lzma
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmaas.broker_config.errors import DataError
from lmaas.producer.tables import Answers, Chunk, Place, Table, Wanted, encoding, open_table
from lmaas.producer.tables.chunks import CHUNK_BYTES, CHUNK_ROWS
from lmaas.producer.tables.compression import compressor

RESULTS = ("label", "score", "error")


def read(path: Path, wanted: Wanted | None = None) -> tuple[Table, list[Chunk]]:
    table = open_table(Place.of(str(path)), wanted or Wanted())
    try:
        return table, list(table.chunks)
    finally:
        table.close()


def texts_of(path: Path, wanted: Wanted | None = None) -> list[Any]:
    return [text for chunk in read(path, wanted)[1] for text in chunk.texts]


def answers(count: int) -> Answers:
    return Answers(["positive"] * count, [0.75] * count, [None] * count)


def converted(path: Path, target: Path, wanted: Wanted | None = None) -> Path:
    """The file with answers, in another format."""
    table = open_table(Place.of(str(path)), wanted or Wanted())
    try:
        how = encoding(Place.of(str(target)), table, RESULTS)
        rows = [how.rows(chunk, answers(len(chunk))) for chunk in table.chunks]
    finally:
        table.close()
    target.write_bytes(how.header() + b"".join(rows))
    whole = how.finish(target)
    return whole.replace(target)


def json_rows(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def csv_rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(), newline="")))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.csv", ("csv", "")),
        ("a.b.TSV.GZ", ("tsv", ".gz")),
        ("a.ndjson.zst", ("jsonl", ".zst")),
        ("a.parquet", ("parquet", "")),
        ("a.txt.xz", ("text", ".xz")),
        ("-", ("text", "")),
    ],
)
def test_format_is_that_of_the_suffix(path: str, expected: tuple[str, str]) -> None:
    place = Place.of(path)
    assert (place.format, place.compression) == expected


@pytest.mark.parametrize("path", ["reviews", "reviews.xyz", "reviews.gz"])
def test_unknown_suffix_lists_the_known_ones(path: str) -> None:
    known = r"the suffix says no format.*\.csv \.tsv .*\.parquet.* say it with"
    with pytest.raises(DataError, match=rf"there is no such file, and {known} --format$"):
        Place.of(path)
    with pytest.raises(DataError, match=rf"{path}: {known} --output-format$"):
        Place.to(path)


def test_compressed_parquet_is_refused() -> None:
    with pytest.raises(DataError, match="compresses itself"):
        Place.of("a.parquet.gz")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'text,n\n"one, ""two""\nthree",1\nfour,2\n'),
        ("a.jsonl", '{"text": "one, \\"two\\"\\nthree", "n": "1"}\n\n{"text": "four", "n": "2"}\n'),
    ],
)
def test_texts_and_columns(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    table, [chunk] = read(path)
    assert list(chunk.texts) == ['one, "two"\nthree', "four"]
    assert table.columns == ("text", "n")
    assert list(chunk.columns["n"]) == ["1", "2"]
    assert list(chunk.lines)[1] == (3 if name == "a.jsonl" else 4)


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_byte_order_mark(tmp_path: Path, ending: str, mark: str) -> None:
    for name, header in (("a.csv", "text" + ending), ("a.txt", "")):
        path = tmp_path / name
        path.write_bytes(f"{mark}{header}one{ending}two{ending}".encode())
        assert texts_of(path) == ["one", "two"]


def test_an_empty_line_of_text_is_a_row(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\n\nthree")
    assert texts_of(path) == ["one", "", "three"]


def test_ragged_rows_are_faults_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('id,text\n1,"a\nb"\n2\n3,c,d\n4,e\n')
    _, [chunk] = read(path)
    assert chunk.faults == {
        1: "line 4: expected 2 columns, found 1: 2",
        2: "line 5: expected 2 columns, found 3: 3,c,d",
    }
    assert list(chunk.columns["id"]) == ["1", "2", "3", "4"]
    assert chunk.texts[3] == "e"


def test_broken_json_lines_are_faults(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n{"text": \n["b"]\nnull\n{"text": NaN}\n{"text": 7}\n{"n": 1}\n')
    _, [chunk] = read(path)
    assert list(chunk.faults) == [1, 2, 3, 4]
    assert chunk.faults[2] == 'line 3: expected an object, found an array: ["b"]'
    assert [chunk.texts[i] for i in (0, 5, 6)] == ["a", 7, None]


def test_deep_json_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n{"text": ' + "[" * 100_000 + "\n")
    _, [chunk] = read(path)
    assert list(chunk.faults) == [1]


def test_invalid_utf8_spoils_its_own_value(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"id,text\n\xff,one\n2,t\xfe\xfewo\n")
    _, [chunk] = read(path)
    assert chunk.texts[0] == "one"
    with pytest.raises(UnicodeEncodeError):
        chunk.texts[1].encode()
    out = converted(path, tmp_path / "out.csv").read_bytes()
    assert (
        out == b"id,text,label,score,error\n\xff,one,positive,0.75,\n2,t\xfe\xfewo,positive,0.75,\n"
    )
    rows = json_rows(converted(path, tmp_path / "o.jsonl"))
    assert [row["id"] for row in rows] == ["\ufffd", "2"]
    table = pq.read_table(converted(path, tmp_path / "o.parquet"))
    assert table["text"].to_pylist() == ["one", "t\ufffd\ufffdwo"]


def test_lone_surrogates_of_json(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "k": {"x": ["\\ud800"]}}\n{"text": "b", "k": "\\ud800"}\n')
    first, second = json_rows(converted(path, tmp_path / "o.jsonl"))
    assert (first["k"], second["k"]) == ({"x": ["\ud800"]}, "\ud800")
    rows = csv_rows(converted(path, tmp_path / "o.csv"))
    assert [row["k"] for row in rows] == ['{"x": ["\\ud800"]}', "\ufffd"]


def test_nul_bytes_go_through(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"text\na\0b\n")
    assert texts_of(path) == ["a\0b"]
    assert (
        converted(path, tmp_path / "o.csv")
        .read_bytes()
        .startswith(b"text,label,score,error\na\0b,")
    )


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
def test_compressed_members_follow_each_other(tmp_path: Path, suffix: str) -> None:
    compress = compressor(suffix)
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(compress(b"one\ntw") + compress(b"o\n") + compress(b""))
    assert texts_of(path) == ["one", "two"]
    cut = path.read_bytes()[:-4] if suffix != ".zst" else compress(b"x" * 99)[:-4]
    path.write_bytes(cut)
    with pytest.raises(DataError, match=r"damaged or cut off after line"):
        read(path)


def test_standard_tools_read_what_is_compressed() -> None:
    assert gzip.decompress(compressor(".gz")(b"one")) == b"one"
    assert bz2.decompress(compressor(".bz2")(b"one")) == b"one"
    assert lzma.decompress(compressor(".xz")(b"one")) == b"one"


def test_chunks_are_bounded_in_rows_and_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("x\n" * (CHUNK_ROWS + 1))
    assert [(c.start, len(c)) for c in read(path)[1]] == [(0, CHUNK_ROWS), (CHUNK_ROWS, 1)]
    path = tmp_path / "a.csv"
    path.write_text("text\n" + ("x" * (CHUNK_BYTES // 2) + "\n") * 3)
    assert [len(chunk) for chunk in read(path)[1]] == [2, 1]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["x" * 1_000_000] * 9}), path, use_dictionary=False)
    assert max(len(chunk) for chunk in read(path)[1]) <= 4


def test_missing_columns_are_named_with_those_there_are(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,review\n1,a\n")
    with pytest.raises(DataError, match=r"no column 'text'.*--text-column.*'id', 'review'"):
        read(path)
    with pytest.raises(DataError, match=r"no column 'x' to keep.*'id', 'review'"):
        read(path, Wanted("review", ("x",)))
    table, [chunk] = read(path, Wanted("review", ("id",)))
    assert table.columns == ("id",) == tuple(chunk.columns)


ROWS_OF_PAIRS = [{"id": 1, "one": "a", "two": "b"}, {"id": 2, "one": "c", "two": None}]


def save_pairs(path: Path) -> None:
    """ROWS_OF_PAIRS in the format of the path; nested in the field `both` in `.json`."""
    match path.suffix:
        case ".parquet":
            pq.write_table(pa.Table.from_pylist(ROWS_OF_PAIRS), path)
        case ".xlsx":
            book = openpyxl.Workbook()
            book.active.append(["id", "one", "two"])
            for row in ROWS_OF_PAIRS:
                book.active.append(list(row.values()))
            book.save(path)
        case ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in ROWS_OF_PAIRS))
        case ".json":
            path.write_text(json.dumps([{"id": row["id"], "both": row} for row in ROWS_OF_PAIRS]))
        case _:
            between = "\t" if path.suffix == ".tsv" else ";"
            rows = (["id", "one", "two"], ["1", "a", "b"], ["2", "c", ""])
            path.write_text("".join(between.join(row) + "\n" for row in rows))


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json", "a.parquet", "a.xlsx"])
@pytest.mark.parametrize("keep", [None, ("id",)])
def test_second_texts_are_read_beside_the_first(
    tmp_path: Path, name: str, keep: tuple[str, ...] | None
) -> None:
    path = tmp_path / name
    save_pairs(path)
    one, two = ("both.one", "both.two") if name == "a.json" else ("one", "two")
    table, [chunk] = read(path, Wanted(one, keep, pair=two))
    empty = None if name in {"a.jsonl", "a.json", "a.parquet"} else ""
    assert (list(chunk.texts), list(chunk.pairs or ())) == (["a", "c"], ["b", empty])
    assert keep is None or table.columns == keep == tuple(chunk.columns)
    assert read(path, Wanted(one, keep))[1][0].pairs is None
    with pytest.raises(DataError, match=r"no column 'no'; .* second texts with --pair-column \(t"):
        read(path, Wanted(one, keep, pair="no"))
    with pytest.raises(DataError, match=r"has the first texts; name another one with --pair-col"):
        read(path, Wanted(one, keep, pair=one))


def test_second_texts_are_texts(tmp_path: Path) -> None:
    rows = [{"text": "a", "both": {"two": "b"}}]
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(rows[0]))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for each in (path, tmp_path / "a.parquet"):
        told = r"'both' is an object and no text; .* with --pair-column \(there are: 'both.two'\)"
        with pytest.raises(DataError, match=told):
            read(each, Wanted(pair="both"))


def test_lines_and_files_of_text_have_no_second_ones(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n")
    with pytest.raises(DataError, match=r"plain text because of \.txt, so there is no column 'x'"):
        read(tmp_path / "a.txt", Wanted(pair="x"))
    for column, told in (("file", "there is no column 'file'"), ("text", "has the first texts")):
        with pytest.raises(DataError, match=told):
            read(tmp_path, Wanted(pair=column))


@pytest.mark.parametrize("name", ["a.csv", "a.txt", "a.jsonl", "a.csv.gz"])
def test_empty_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(DataError, match="the file is empty"):
        read(tmp_path / name)


def test_a_table_that_is_called_txt(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("id\treview\n1\tgood\n")
    words = r"plain text because of \.txt, so there is no column 'review'; .*--format tsv"
    for wanted in (Wanted("review"), Wanted(keep=("review",))):
        with pytest.raises(DataError, match=words):
            read(path, wanted)


def test_one_column_is_no_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text\na,b\n")
    assert read(path)[1][0].faults == {0: "line 2: expected 1 column, found 2: a,b"}


def test_header_only(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,text\n")
    assert read(path)[1] == []
    assert converted(path, tmp_path / "o.csv").read_text() == "id,text,label,score,error\n"
    table = pq.read_table(converted(path, tmp_path / "o.parquet"))
    assert table.column_names == ["id", "text", "label", "score", "error"]
    assert len(table) == 0


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "missing.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match="there is no file in it"):
        read(tmp_path / "folder.csv")
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "missing.parquet")


def test_no_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"text\n" * 100)
    with pytest.raises(DataError, match="is not Parquet"):
        read(path)


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    when = datetime.datetime(2024, 5, 1, 12, 30, tzinfo=datetime.UTC)
    source = pa.table(
        {
            "text": ["a", None],
            "day": pa.array([when, None], pa.timestamp("ns", "UTC")),
            "n": pa.array([1, 2], pa.uint8()),
            "kind": pa.array(["x", "y"]).dictionary_encode(),
            "tags": [["p"], []],
        }
    )
    path = tmp_path / "a.parquet"
    pq.write_table(source, path)
    out = pq.read_table(converted(path, tmp_path / "o.parquet"))
    assert out.schema.field("day").type == pa.timestamp("ns", "UTC")
    assert out.schema.field("n").type == pa.uint8()
    assert out["kind"].to_pylist() == ["x", "y"]
    assert out["tags"].to_pylist() == [["p"], []]
    rows = json_rows(converted(path, tmp_path / "o.jsonl"))
    assert rows[0]["n"] == 1
    assert rows[0]["day"].startswith("2024-05-01 12:30:00")
    assert rows[1]["day"] is None
    (first, _) = csv_rows(converted(path, tmp_path / "o.csv"))
    assert first["tags"] == '["p"]'


@pytest.mark.parametrize("values", [[1, 2], [b"a", b"b"], [["a"], ["b"]]])
def test_parquet_texts_of_another_type_go_on_as_they_are(tmp_path: Path, values: list[Any]) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": values}), path)
    assert texts_of(path) == values


def test_json_values_in_other_formats(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"text": "a", "v": {"b": [1, null]}, "big": 123456789012345678901234567890}\n'
        '{"text": "b", "v": true}\n'
    )
    same = json_rows(converted(path, tmp_path / "o.jsonl"))
    assert same[0]["v"] == {"b": [1, None]}
    assert same[0]["big"] == 123456789012345678901234567890
    assert "big" not in same[1]
    rows = csv_rows(converted(path, tmp_path / "o.csv"))
    assert [row["v"] for row in rows] == ['{"b": [1, null]}', "true"]
    table = pq.read_table(converted(path, tmp_path / "o.parquet"))
    assert table["big"].to_pylist() == ["123456789012345678901234567890", None]


def test_a_json_key_that_comes_late(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n' * CHUNK_ROWS + '{"text": "b", "late": 1}\n')
    assert converted(path, tmp_path / "o.jsonl").read_text().endswith('"error":null}\n')
    with pytest.raises(DataError, match="'late', near line 1025"):
        converted(path, tmp_path / "o.csv")
    assert converted(path, tmp_path / "o.csv", Wanted(keep=("text",))).is_file()


def test_plain_text_output_is_one_line_a_row(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text\n"a\tb\nc"\n')
    assert converted(path, tmp_path / "o.txt").read_text() == "positive\t0.75\t\ta b c\n"


@pytest.mark.parametrize("name", ["o.csv", "o.jsonl", "o.txt"])
def test_a_score_has_the_same_digits_everywhere(tmp_path: Path, name: str) -> None:
    chunk = Chunk(0, {"text": ["a"]}, ["a"], [1], {})
    table = Table("a", ("text",), iter(()), lambda: None)
    how = encoding(Place.of(name), table, ("label", "score", "scores", "error"))
    line = how.rows(chunk, Answers(["x"], [1e-06], [None], ['{"x":1e-06}']))
    assert line.count(b"1e-06") == 2


cells = st.text(st.characters(codec="utf-8"), max_size=20)


@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=5))
def test_csv_is_read_back_as_it_was(rows: list[tuple[str, str]]) -> None:
    columns = list(zip(*rows, strict=True))
    chunk = Chunk(0, dict(zip("ab", columns, strict=True)), columns[0], range(len(rows)), {})
    table = Table("o.csv", ("a", "b"), iter(()), lambda: None)
    how = encoding(Place.of("o.csv"), table, RESULTS)
    written = (how.header() + how.rows(chunk, answers(len(rows)))).decode()
    back = list(csv.reader(io.StringIO(written, newline=""), strict=True))
    assert back == [["a", "b", *RESULTS], *([*row, "positive", "0.75", ""] for row in rows)]


def test_csv_is_quoted_only_where_it_must_be(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('"text","n"\n"a b","1"\n"a,b","say ""x"""\n')
    assert converted(path, tmp_path / "o.csv").read_text() == (
        'text,n,label,score,error\na b,1,positive,0.75,\n"a,b","say ""x""",positive,0.75,\n'
    )


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_chunks_that_begin_at_a_mark_are_the_same(tmp_path: Path, name: str, mark: str) -> None:
    path = tmp_path / name
    comma = "," if name == "a.csv" else "\t"
    rows = [f"{place}{comma}a film" for place in range(5_000)]
    rows[7] = f'7{comma}"of two\nlines"'
    rows[1_023] = f'1023{comma}"never closed'  # gives back what it took, over the border
    rows[2_047] = f"2047{comma}too{comma}many"
    rows[3_000] = ""
    path.write_text(f"{mark}id{comma}text\n" + "\n".join(rows), encoding="utf-8")
    _, whole = read(path)
    assert len(whole) >= 5
    for place, chunk in enumerate(whole):
        table = open_table(Place.of(str(path)), Wanted())
        assert chunk.mark is not None
        assert table.skip is not None
        table.skip(chunk.mark)
        rest = list(table.chunks)
        table.close()
        assert list(map(parts, rest)) == list(map(parts, whole[place + 1 :]))


def parts(chunk: Chunk) -> tuple[Any, ...]:
    columns = {name: list(column) for name, column in chunk.columns.items()}
    return chunk.start, columns, list(chunk.texts), list(chunk.lines), chunk.faults, chunk.mark


@pytest.mark.parametrize("name", ["a.csv.gz", "a.txt", "a.jsonl"])
def test_what_is_read_from_its_beginning_has_no_marks(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    content = b"id,text\n1,a\n" if "csv" in name else b'{"text": "a"}\n'
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    _, (chunk,) = read(path)
    assert chunk.mark is None
