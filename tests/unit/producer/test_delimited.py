"""CSV and TSV as people have them: delimiters, encodings, headers, quotes."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmaas.broker_config.codes import Code
from lmaas.broker_config.errors import DataError
from lmaas.broker_config.item_errors import text_error
from lmaas.broker_config.settings import Settings
from lmaas.producer.rows import packs_of
from lmaas.producer.tables import (
    Answers,
    Chunk,
    Dialect,
    Place,
    Table,
    Wanted,
    encoding,
    open_table,
)
from lmaas.producer.tables import dialect as dialects
from lmaas.producer.tables.chunks import CHUNK_BYTES
from lmaas.producer.tables.records import ROW_BYTES

Content = str | bytes


def saved(folder: Path, name: str, content: Content) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path: Path, wanted: Wanted | None = None, **said: Any) -> tuple[Table, list[Chunk]]:
    table = open_table(Place.of(str(path), dialect=Dialect(**said)), wanted or Wanted())
    try:
        return table, list(table.chunks)
    finally:
        table.close()


def rows_of(path: Path, wanted: Wanted | None = None, **said: Any) -> list[tuple[Any, ...]]:
    _, chunks = read(path, wanted, **said)
    return [row for chunk in chunks for row in zip(*chunk.columns.values(), strict=True)]


def written(path: Path, name: str, wanted: Wanted | None = None, **said: Any) -> bytes:
    """The file in another format; each row has the label x, or the fault that it has."""
    table = open_table(Place.of(str(path), dialect=Dialect(**said)), wanted or Wanted())
    how = encoding(Place.of(name), table, ("label", "score", "error"))
    parts = [how.header()]
    for chunk in table.chunks:
        errors = [chunk.faults.get(position) for position in range(len(chunk))]
        labels = [None if error else "x" for error in errors]
        scores = [None if error else 0.5 for error in errors]
        parts.append(how.rows(chunk, Answers(labels, scores, errors)))
    table.close()
    return b"".join(parts)


# Delimiters


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("rows", ["", '1{}good\n2{}"bad{}\nbad"\n'])
def test_a_delimiter_is_found(tmp_path: Path, delimiter: str, rows: str) -> None:
    path = saved(tmp_path, "a.csv", ("id{}text\n" + rows).replace("{}", delimiter))
    table, _ = read(path)
    assert (table.delimiter, table.columns) == (delimiter, ("id", "text"))
    assert rows_of(path) == ([("1", "good"), ("2", f"bad{delimiter}\nbad")] if rows else [])


def test_semicolons_with_commas_in_the_texts(tmp_path: Path) -> None:
    path = saved(
        tmp_path, "a.csv", "id;review, long;price\n1;good, but, long;2,50\n2;x, y, z;1,00\n"
    )
    assert rows_of(path, Wanted("review, long")) == [
        ("1", "good, but, long", "2,50"),
        ("2", "x, y, z", "1,00"),
    ]
    assert written(path, "o.csv", Wanted("review, long")).startswith(
        b"id;review, long;price;label;score;error\n1;good, but, long;2,50;x;0.5;\n"
    ), "who has semicolons gets them"


def test_the_wanted_columns_decide(tmp_path: Path) -> None:
    """Each line has one comma and one semicolon, so that counting says nothing."""
    path = saved(tmp_path, "a.csv", "id;review,x\n1;good,2\n2;bad,3\n")
    assert rows_of(path, Wanted("review,x")) == [("1", "good,2"), ("2", "bad,3")]
    assert rows_of(path, Wanted("x")) == [("1;good", "2"), ("2;bad", "3")]


@pytest.mark.parametrize(
    "content",
    [
        "a,b;c\n1,2;3\n",  # both fit, and none has the column
        "a,text;c|d\n1;2|3\n4|5;6\n",  # the one that has it fits no row
    ],
)
def test_what_cannot_be_told_is_asked_for(tmp_path: Path, content: str) -> None:
    path = saved(tmp_path, "a.csv", content)
    with pytest.raises(DataError, match=r"cannot tell what is between .*--delimiter ';'"):
        read(path)


def test_a_named_delimiter(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.csv", "a~text\n1~x, y;z\n")
    assert rows_of(path, delimiter="~") == [("1", "x, y;z")]
    path = saved(tmp_path, "a.csv", "id\ttext,x\n1\tgood\n")
    assert rows_of(path, Wanted("text,x"), delimiter="tab") == [("1", "good")]
    for wrong in ("", ",,", '"', "\n"):
        with pytest.raises(DataError, match="a delimiter is one character"):
            Dialect(wrong)
    for name in ("a.jsonl", "a.txt", "a.parquet"):
        with pytest.raises(DataError, match="--delimiter and --quotes are for CSV and TSV"):
            Place.of(name, dialect=Dialect(";"))


def test_the_line_for_excel_is_no_row(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.csv", "sep=;\r\nid;text\r\n1;a,b\r\n")
    assert rows_of(path) == rows_of(path, delimiter=";") == [("1", "a,b")]
    assert list(read(path)[1][0].lines) == [3]


def test_one_column_needs_no_delimiter(tmp_path: Path) -> None:
    assert rows_of(saved(tmp_path, "a.csv", "text\na;b\nc|d\n")) == [("a;b",), ("c|d",)]
    assert rows_of(saved(tmp_path, "a.tsv", "text\na;b\nc,d\n")) == [("a;b",), ("c,d",)]


def test_tsv_without_tabs_is_told(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.tsv", "id;text\n1;good\n")
    with pytest.raises(DataError, match=r"no tab in the header.*--delimiter"):
        read(path)
    assert rows_of(path, delimiter=";") == [("1", "good")]


def test_a_quote_at_the_end_of_the_sample_is_no_vote() -> None:
    lines = ["id;text,x\n", '1;"a\n', "b,c\n"]
    assert dialects.found(lines, {"id"}, quotes=True, whole=False) == ";"


fields = st.text("abc ,;|\t\"'\n", max_size=12)


@given(st.sampled_from(dialects.DELIMITERS), st.lists(st.tuples(fields, fields), min_size=1))
def test_a_delimiter_is_never_guessed_wrong(delimiter: str, rows: list[tuple[str, str]]) -> None:
    """Whatever well-formed rows have in them."""
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows([("id", "text"), *rows])
    lines = file.getvalue().splitlines(keepends=True)
    assert dialects.found(lines, {"text"}, quotes=True, whole=True) == delimiter


# Encodings


@pytest.mark.parametrize("mark", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("named", [True, False])
def test_byte_order_marks_are_found(tmp_path: Path, mark: str, named: bool) -> None:
    text = "id\ttext\r\n1\tcafé 😀\r\n"
    path = saved(tmp_path, "a.tsv", ("\ufeff" + text).encode(mark))
    said = {"encoding": mark[:6].rstrip("-")} if named else {}
    assert rows_of(path, **said) == [("1", "café 😀")]
    assert (
        written(path, "o.tsv").decode() == "id\ttext\tlabel\tscore\terror\n1\tcafé 😀\tx\t0.5\t\n"
    )
    lines = saved(tmp_path, "a.txt", ("\ufeff" + "één\nzwei\n").encode(mark))
    assert rows_of(lines) == [("één",), ("zwei",)]


@pytest.mark.parametrize("name", ["cp1252", "latin-1", "utf-16-le", "utf-16", "shift_jis", "utf-8"])
def test_a_named_encoding(tmp_path: Path, name: str) -> None:
    text = "id;text\n1;good\n" if name == "shift_jis" else "id;Ünï\n1;café\n"
    path = saved(tmp_path, "a.csv", text.encode(name))
    _, column, _, value = text.replace("\n", ";").removesuffix(";").split(";")
    assert rows_of(path, Wanted(column), encoding=name) == [("1", value)]


def test_utf16_of_any_size(tmp_path: Path) -> None:
    text = "text\tid\n" + "".join(f"😀 {n} {'é' * 997}\t{n}\n" for n in range(5_000))
    path = saved(tmp_path, "a.tsv", ("\ufeff" + text).encode("utf-16-le"))
    _, chunks = read(path)
    assert [row[1] for row in rows_of(path)] == [str(n) for n in range(5_000)]
    assert max(sum(map(len, chunk.texts)) for chunk in chunks) <= CHUNK_BYTES
    assert all("\ufffd" not in one for chunk in chunks for one in chunk.texts)


@pytest.mark.parametrize("mark", ["utf-16-le", "utf-16-be"])
def test_tabs_in_utf16_are_of_excel_and_have_quotes(tmp_path: Path, mark: str) -> None:
    text = '\ufeffNr\tText\r\n1\t"two\nlines"\r\n2\t"a ""word"""\r\n'
    path = saved(tmp_path, "a.tsv", text.encode(mark))
    assert rows_of(path, Wanted("Text")) == [("1", "two\nlines"), ("2", 'a "word"')]
    assert rows_of(path, Wanted("Text"), quotes=False)[-1] == ("2", '"a ""word"""')


def test_tabs_in_utf8_have_quotes_as_text(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.tsv", '\ufeffNr\tText\n1\t"one"\n')
    assert rows_of(path, Wanted("Text")) == [("1", '"one"')]


def test_what_cannot_be_decoded_is_the_error_of_its_row(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.csv", b"id,text\n1,caf\xe9\n2,a\x81b\n")
    texts = [row[1] for row in rows_of(path, encoding="cp1252")]
    assert [text_error(text, 99) and text_error(text, 99).code for text in texts] == [  # type: ignore[union-attr]
        None,
        Code.INVALID_UTF8,
    ]
    assert written(path, "o.csv", encoding="cp1252").decode().splitlines()[1:] == [
        "1,café,x,0.5,",
        "2,a\ufffdb,x,0.5,",
    ]
    broken = codecs.BOM_UTF16_LE + "text\nab\nc".encode("utf-16-le") + b"\x00\xd8d\x00\n\x00e"
    path = saved(tmp_path, "a.csv", broken)
    [good, bad, last] = [row[0] for row in rows_of(path)]
    assert good == "ab"
    assert text_error(bad, 99).code == text_error(last, 99).code == Code.INVALID_UTF8  # type: ignore[union-attr]


def test_encodings_that_cannot_be(tmp_path: Path) -> None:
    for name in ("nonsense", "rot13", "base64", "a\0"):
        with pytest.raises(DataError, match="there is no encoding"):
            Dialect(encoding=name)
    path = saved(tmp_path, "a.csv", "\ufefftext\na\n")
    with pytest.raises(DataError, match=r"byte order mark of utf-8, so it is not cp1252"):
        read(path, encoding="cp1252")
    path = saved(tmp_path, "a.csv", "text\na\n".encode("utf-16-le"))
    with pytest.raises(DataError, match=r"NUL bytes.*--encoding utf-16-le"):
        read(path)
    with pytest.raises(DataError, match="Parquet has an encoding of its own"):
        Place.of("a.parquet", dialect=Dialect(encoding="utf-8"))


# Headers


def test_headers_that_are_not_utf8_are_told_by_position(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.csv", b"text,\xe9,\xe8,\\xe8\ngood film,1,2,3\n")
    assert written(path, "o.csv").splitlines()[0] == b"text,\xe9,\xe8,\\xe8,label,score,error"
    assert rows_of(path) == [("good film", "1", "2", "3")]
    [row] = [json.loads(line) for line in written(path, "o.jsonl").splitlines()]
    assert list(row.items())[:4] == [
        ("text", "good film"),
        ("\\xe9", "1"),
        ("\\xe8", "2"),
        ("\\xe8_2", "3"),
    ]
    assert rows_of(path, Wanted(keep=("\\xe9",))) == [("1",)]
    assert rows_of(path, Wanted(keep=("\udce9",))) == [("1",)], "as a terminal gives it"
    with pytest.raises(DataError, match=r"there are: 'text', '\\xe9', '\\xe8', '\\xe8'\)"):
        read(path, Wanted("review"))
    assert rows_of(path, Wanted(keep=(r"\xe9",))) == [("1",)], "as the message has it"


def test_a_file_of_another_encoding_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = b"".join(b"%d,caf\xe9\n" % number for number in range(300))
    path = saved(tmp_path, "a.csv", b"id,text\n1,good\n" + rows)
    [chunk] = read(path)[1]
    [told] = caplog.records
    assert "a.csv: line 3 is not UTF-8; its bytes are kept" in told.getMessage()
    assert "--encoding cp1252" in told.getMessage()
    packs, errors = packs_of(chunk, Settings())
    assert [len(pack) for pack in packs] == [1]
    assert errors[1].startswith("invalid_utf8: not valid UTF-8 at character 3; if the file has")
    assert errors[1].endswith("for example --encoding cp1252 (over HTTP: encoding=cp1252)")
    caplog.clear()
    assert read(path, encoding="cp1252")[1][0].texts[1] == "café"
    assert not caplog.records
    path = saved(tmp_path, "a.txt", b"good\nbad\xe9\n\xe9\n")
    assert read(path)[1][0].encoded
    assert [record.getMessage()[len(str(path)) :][:8] for record in caplog.records] == [": line 2"]


def test_the_wrong_encoding_is_not_called_damage(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.csv", "text\ngood film\n")
    with pytest.raises(DataError, match=r"a\.csv: is not utf-16 .*leave out --encoding"):
        read(path, encoding="utf-16")
    (tmp_path / "texts").mkdir()
    saved(tmp_path / "texts", "a.txt", "good film")
    [chunk] = read(tmp_path / "texts", encoding="utf-16")[1]
    assert "is not utf-16" in chunk.faults[0]


# Line ends


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.txt", "a.csv.gz"])
@pytest.mark.parametrize("codec", ["utf-8", "utf-16"])
def test_line_ends_of_excel_for_mac(tmp_path: Path, name: str, codec: str) -> None:
    lines = ["text", *(f"film {number} é" for number in range(2_000)), ""]
    content = "\r".join(lines).encode(codec)
    path = saved(tmp_path, name, gzip.compress(content) if name.endswith(".gz") else content)
    texts = [text for chunk in read(path)[1] for text in chunk.texts]
    assert texts == (lines[:-1] if name == "a.txt" else lines[1:-1])


def test_a_cr_beside_line_feeds_is_no_line_end(tmp_path: Path) -> None:
    assert rows_of(saved(tmp_path, "a.csv", 'text\n"a\rb"\n')) == [("a\rb",)]
    late = "text\r\n" + "x" * 2_000_000 + "\r\n"
    assert len(rows_of(saved(tmp_path, "a.csv", late))) == 1
    mixed = "text\r" + "a\r" * 2_000_000 + "b\r\nc\n"
    assert len(rows_of(saved(tmp_path, "a.csv", mixed))) == 2_000_002


def test_columns_of_one_name(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.csv", "a,a,text,,,a_2\n1,2,good,3,4,5\n")
    assert read(path)[0].columns == ("a", "a_3", "text", "", "_2", "a_2")
    assert written(path, "o.csv").decode() == (
        "a,a,text,,,a_2,label,score,error\n1,2,good,3,4,5,x,0.5,\n"
    )
    assert json.loads(written(path, "o.jsonl"))["a_3"] == "2"
    assert written(path, "o.parquet")
    for wanted in (Wanted("a"), Wanted(keep=("a",))):
        with pytest.raises(DataError, match="columns 1, 2 are all called 'a'"):
            read(path, wanted)


def test_names_are_quoted_where_they_are_listed(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.csv", "Review Text ,id\na,1\n")
    with pytest.raises(DataError, match=r"'Review Text';.*there are: 'Review Text ', 'id'\)"):
        read(path, Wanted("Review Text"))
    path = saved(tmp_path, "a.csv", ",".join(f"c{n}" for n in range(1_000)) + "\n")
    with pytest.raises(DataError, match=r"'c29', and 970 more\)$"):
        read(path)


def test_a_header_that_cannot_be_read(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.csv", 'id,"text\n1,a\n')
    with pytest.raises(DataError, match=r'header cannot be read: line 1: .*never closed.*"text'):
        read(path)
    path = saved(tmp_path, "a.csv", b'"\x01\xff\n' * 10_000)
    with pytest.raises(DataError, match="header cannot be read") as found:
        read(path)
    assert str(found.value).isprintable()
    path = saved(tmp_path, "a.csv", "\x1b" + "a" * 10_000 + ",b\n1,2\n")
    with pytest.raises(DataError, match=r"'\\x1ba+…', 'b'\)$") as found:
        read(path)
    assert len(str(found.value)) < 400


# Quotes


def test_quotes_are_text_in_tsv(tmp_path: Path) -> None:
    content = '"id\ttext\n1\tgood\n2\t"Great\n3\t"Superb" acting\r\n4\tfun"\n5\t""\n6\ta\rb\n'
    path = saved(tmp_path, "a.tsv", content)
    table, chunks = read(path, Wanted("text"))
    assert table.columns == ('"id', "text")
    assert list(chunks[0].texts) == ["good", '"Great', '"Superb" acting', 'fun"', '""', "a\rb"]
    lines = content.replace("\r\n", "\n").split("\n")[1:-1]
    assert written(path, "o.tsv").decode().split("\n")[1:-1] == [
        f"{line}\tx\t0.5\t" for line in lines
    ]


def test_tsv_with_quotes(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.tsv", 'id\ttext\n1\t"one, ""two""\nthree"\n')
    assert rows_of(path, quotes=True) == [("1", 'one, "two"\nthree')]
    assert b'"one, ""two""\nthree"' in written(path, "o.tsv", quotes=True)
    faults = read(path)[1][0].faults
    assert list(faults) == [1]
    assert "say --quotes" in faults[1]


def test_faults_in_tsv_have_no_tab(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.tsv", "id\ttext\n1\ta\tb\n2\tc\n")
    first, second = written(path, "o.tsv").decode().splitlines()[1:]
    assert first == "1\ta\t\t\tline 2: expected 2 columns, found 3: 1\\ta\\tb"
    assert second == "2\tc\tx\t0.5\t"


def test_csv_without_quotes(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.csv", 'id,text\n1,"good\n2,"bad"\n')
    assert rows_of(path, quotes=False) == [("1", '"good'), ("2", '"bad"')]


def test_a_loose_quote_costs_its_own_line(tmp_path: Path) -> None:
    content = 'id,text\n1,good\n2,"Bad\n3,fun\n4,"Superb" acting\n5,nice\n6,"x\n7,y\n'
    path = saved(tmp_path, "a.csv", content)
    _, [chunk] = read(path)
    assert chunk.faults == {
        1: "line 3: the quote that opens here closes inside line 5 (the lines after it, to 5, are "
        'read on their own): 2,"Bad',
        3: "line 5: ',' expected after '\"': 4,\"Superb\" acting",
        5: "line 7: the quote that opens here is never closed (the lines after it, to 8, are read "
        'on their own): 6,"x',
    }
    texts = [text for position, text in enumerate(chunk.texts) if position not in chunk.faults]
    assert texts == ["good", "fun", "nice", "y"]
    assert list(chunk.lines) == [2, 3, 4, 5, 6, 7, 8]


def test_two_loose_quotes_do_not_join_rows_silently(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.csv", 'id,text\n1,a\n2,"Great\n3,boring\n4,fun"\n5,b\n')
    _, [chunk] = read(path)
    assert chunk.faults == {
        1: "lines 3 to 5: in quotes, yet each line is a row by itself; say --quotes if this is one "
        'value, --no-quotes if a quote is text: 2,"Great\n3,boring\n4,fun"'
    }
    assert list(chunk.lines) == [2, 3, 6]
    assert rows_of(path, quotes=True)[1] == ("2", "Great\n3,boring\n4,fun")
    path = saved(tmp_path, "a.csv", 'id,text\n1,"Hello, you\nbye, you"\n2,"one\ntwo"\n')
    assert read(path)[1][0].faults == {}, "sentences are no rows"


def test_a_ragged_row_keeps_all_its_lines(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.csv", b'id,text\n1,"a\nb",\xff\n2,c\n')
    _, [chunk] = read(path)
    assert chunk.faults == {0: 'lines 2 to 3: expected 2 columns, found 3: 1,"a\nb",\udcff'}
    assert written(path, "o.csv").endswith(b'1,""a\nb"",\xff"\n2,c,x,0.5,\n')


def test_a_long_value_is_a_value(tmp_path: Path) -> None:
    """30 MB, in one line or many; what is even longer costs its own lines."""
    long = "x" * 30_000_000
    path = saved(tmp_path, "a.csv", f'id,text\n1,a\n2,{long}\n3,"{long}"\n4,b\n')
    rows = rows_of(path)
    assert [(row[0], len(row[1])) for row in rows] == [
        ("1", 1),
        ("2", len(long)),
        ("3", len(long)),
        ("4", 1),
    ]
    error = text_error(rows[1][1], 1_000_000)
    assert error is not None
    assert error.code == Code.TOO_LARGE


def test_a_quote_that_takes_in_a_large_file(tmp_path: Path) -> None:
    line = "7," + "x" * 9_998 + "\n"
    count = 2 * ROW_BYTES // len(line)
    path = saved(tmp_path, "a.csv", 'id,text\n1,"open\n' + line * count)
    table = open_table(Place.of(str(path)), Wanted())
    rows, faults = 0, {}
    for chunk in table.chunks:
        rows += len(chunk)
        faults |= {chunk.lines[position]: fault for position, fault in chunk.faults.items()}
        assert sum(len(text or "") for text in chunk.texts) <= 2 * CHUNK_BYTES
    table.close()
    assert rows == count + 1
    assert list(faults) == [2]
    assert faults[2].startswith("line 2: longer than 32 MiB with the lines to")
    assert faults[2].endswith(': 1,"open')


lines_of_quotes = st.lists(st.text('ab,"', min_size=1, max_size=8), max_size=12)


@given(lines_of_quotes)
def test_no_line_is_lost_whatever_the_quotes(lines: list[str]) -> None:
    """Each line is in the values of a row, or in the text of a fault."""
    from lmaas.producer.tables.delimited import read as read_delimited
    from lmaas.producer.tables.inputs import Input

    numbered = [f"{n},{line}" for n, line in enumerate(lines)]
    file = io.BytesIO("\n".join(["id,text", *numbered, ""]).encode())
    source = Input("a", io.BufferedReader(file), None, None)  # type: ignore[arg-type, type-var]
    table = read_delimited(source, Wanted(), Dialect(","))
    told = ""
    for chunk in table.chunks:
        rows = zip(*chunk.columns.values(), strict=True)
        for position, row in enumerate(rows):
            told += chunk.faults.get(position) or ",".join(row)
            told += "\n"
    for n, line in enumerate(lines):
        assert f"{n},{line}".replace('"', "") in told.replace('"', "")
