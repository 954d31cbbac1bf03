"""JSON as people have it: arrays, nested fields, and values that no type of Python holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lmaas.broker_config.errors import DataError
from lmaas.producer.tables import Chunk, Place, Wanted, open_table
from lmaas.producer.tables.chunks import CHUNK_ROWS

Convert = Callable[..., Path]
RESULTS = b'"label":"x","score":0.5,"error":null}\n'


def chunks(path: Path, wanted: Wanted | None = None) -> list[Chunk]:
    table = open_table(Place.of(str(path)), wanted or Wanted())
    try:
        return list(table.chunks)
    finally:
        table.close()


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[str, bytes], Path]:
    def save(name: str, content: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return save


Saved = Callable[[str, bytes], Path]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize("indent", [None, 4])
def test_an_array_is_rows(saved: Saved, convert: Convert, name: str, indent: int | None) -> None:
    rows = [{"text": f"row\n{n}", "tags": [n, {"k": None}]} for n in range(3 * CHUNK_ROWS)]
    path = saved(name, b"\n " + json.dumps(rows, indent=indent).encode())
    found = chunks(path)
    assert [len(chunk) for chunk in found] == [CHUNK_ROWS] * 3
    assert found[2].lines[0] == (2 if indent is None else 2 + 2 * CHUNK_ROWS * 9 + 1)
    answered = [{**row, "label": "x", "score": 0.5, "error": None} for row in rows]
    lines = convert(path, "o.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == answered
    assert json.loads(convert(path, "o.json").read_text()) == answered


def test_an_array_of_texts(saved: Saved, convert: Convert) -> None:
    path = saved("a.json", b'["good",\n "bad \\u00e9"]')
    assert chunks(path)[0].texts == ["good", "bad é"]
    assert convert(path, "o.csv").read_text().splitlines()[2] == "bad é,x,0.5,"
    assert convert(path, "o.jsonl").read_bytes() == (
        b'{"text":"good",' + RESULTS + b'{"text":"bad \\u00e9",' + RESULTS
    )
    assert chunks(path, Wanted("review"))[0].columns.keys() == {"review"}


def test_a_bad_item_is_its_own_error(saved: Saved) -> None:
    path = saved("a.json", b'[{"text": "a"},\n {"text": NaN},\n 7, {"text": "b"}')
    [chunk] = chunks(path)
    assert [chunk.texts[0], chunk.texts[3]] == ["a", "b"]
    assert chunk.faults == {
        1: 'line 2: item 2: NaN is no JSON: {"text": NaN}',
        2: "line 3: item 3: expected an object, found a number: 7",
        4: "line 3: item 4: the array is never closed; is the file cut off?",
    }


def test_an_empty_array(saved: Saved, convert: Convert) -> None:
    path = saved("a.json", b"[]\n")
    assert chunks(path) == []
    assert json.loads(convert(path, "o.json").read_text()) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"n": 1, "data": [{"text": "a"}]}', r"one object.*jq -c '\.\[\"data\"\]\[\]'"),
        (b'{\n "data": [\n  {"text": "a"},\n  {"text": "b"}\n ]\n}\n', r"one object.*data"),
        (b'{\n "text": "a"\n}\n{\n "text": "b"\n}\n', r"over several lines.*jq -c \. FILE"),
    ],
)
def test_other_json_says_what_to_do(saved: Saved, content: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        chunks(saved("a.json", content))


def test_one_row_with_a_list_is_a_row(saved: Saved) -> None:
    assert chunks(saved("a.json", b'{"tags": ["x"], "text": "a"}'))[0].texts == ["a"]


def test_a_row_is_written_as_it_was(saved: Saved, convert: Convert) -> None:
    row = (
        b'{ "z":1e400,"text" : "\\u0061\\/", "b":-0.0, "a": 1.0, "a":1, "i":%b,"n":{"k":[ ]}, '
        b'"s":"\\ud800", "raw":"\xff" }' % (b"9" * 5000)
    )
    path = saved("a.jsonl", row + b"\n{}\n")
    expected = row[:-2] + b"," + RESULTS + b"{" + RESULTS
    assert convert(path, "o.jsonl").read_bytes() == expected
    kept = convert(path, "o.jsonl", Wanted(keep=("z", "b", "i"))).read_bytes()
    assert kept.startswith(b'{"z":1e400,"b":-0.0,"i":%b,"label"' % (b"9" * 5000))


def test_numbers_keep_their_digits_in_texts(saved: Saved, convert: Convert) -> None:
    path = saved("a.jsonl", b'{"text":"a","g":1e400,"z":-0.0,"o":1.0,"i":%b}' % (b"9" * 5000))
    line = convert(path, "o.csv").read_text().splitlines()[1]
    assert line == f"a,1e400,-0.0,1.0,{'9' * 5000},x,0.5,"


def test_nested_fields_have_names(saved: Saved, convert: Convert) -> None:
    rows = (
        b'{"id": {"n": 1.0}, "review": {"body": "a", "x": 1}}\n'
        b'{"id": {"n": 2}, "review.body": "literal", "review": {"body": "b"}}\n'
        b'{"id": 3, "review": "none"}\n'
        b'{"review": {"body": null}}\n'
    )
    path = saved("a.jsonl", rows)
    wanted = Wanted("review.body")
    assert chunks(path, wanted)[0].texts == ["a", "literal", None, None]
    out = convert(path, "o.jsonl", wanted).read_bytes()
    assert out == rows.replace(b"}\n", b"," + RESULTS)
    ids = convert(path, "o.csv", Wanted("review.body", ("id.n",))).read_text().splitlines()
    assert ids == ["id.n,label,score,error", "1.0,x,0.5,", "2,x,0.5,", ",x,0.5,", ",x,0.5,"]
    with pytest.raises(
        DataError, match=r"no column 'review\.title'.*'review\.body', 'id\.n', 'review\.x'\)"
    ):
        chunks(path, Wanted("review.title"))


def test_a_text_that_is_an_object_names_its_fields(saved: Saved) -> None:
    content = (
        b'[{"review": {"body": "a", "by": {"name": "b", "age": 7}}}, {"review": {"stars": 5}}]'
    )
    path = saved("a.json", content)
    fields = r"'review\.body', 'review\.by\.name', 'review\.by\.age'\)"
    with pytest.raises(DataError, match=r"'review' is an object and no text.*" + fields):
        chunks(path, Wanted("review"))
    with pytest.raises(DataError, match=r"no column 'text'.*there are: 'id', 'review', " + fields):
        chunks(saved("b.json", content.replace(b'{"review"', b'{"id": 1, "review"')))
    assert chunks(path, Wanted(any_text=True))[0].texts
    mixed = chunks(saved("c.json", b'[{"text": {"body": "a"}}, {"text": "b"}]'))
    assert mixed[0].texts == [{"body": "a"}, "b"]


def test_a_text_that_is_a_struct_of_parquet_names_its_fields(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    rows = [{"body": "a", "by": {"age": 7}}]
    pq.write_table(pa.table({"id": [1], "review": rows}), path)
    fields = r"'review\.body', 'review\.by\.age'\)"
    with pytest.raises(DataError, match=r"'review' is an object and no text.*there are: " + fields):
        chunks(path, Wanted("review"))
    with pytest.raises(DataError, match=r"no column 'text'.*there are: 'id', 'review', " + fields):
        chunks(path)
    assert chunks(path, Wanted("review.body"))[0].texts == ["a"]
    assert len(chunks(path, Wanted(any_text=True))[0]) == 1


def test_a_fault_has_one_line_number(saved: Saved) -> None:
    path = saved("a.jsonl", b'{"text": "a"}\n{"text": "b"}\n{"text": "c" "d"}\n')
    assert chunks(path)[0].faults == {
        2: 'line 3: Expecting \',\' delimiter (character 14): {"text": "c" "d"}'
    }


def test_a_late_field_named_as_a_result_is_not_overwritten(saved: Saved, convert: Convert) -> None:
    path = saved("a.jsonl", b'{"text":"a"}\n' * CHUNK_ROWS + b'{"text":"b","label":"mine"}\n')
    with pytest.raises(DataError, match=r"'label', near line 1025.*--result-prefix"):
        convert(path, "o.jsonl")
    assert convert(path, "o.jsonl", Wanted(keep=("text",))).is_file()


def test_types_in_parquet(saved: Saved, convert: Convert) -> None:
    rows = [
        '{"text":"a","i":1,"f":1.5,"b":true,"n":{"x":1},"m":1,"big":99999999999999999999}',
        '{"text":"","i":-9007199254740993,"f":2,"b":false,"n":[],"m":"x\\"y","inf":1e400}',
        '{"text":"c","i":null,"w":9007199254740993,"inf":1,"z":null}',
        '{"text":"d","w":1.5,"late":[1.0]}',
    ]
    path = saved("a.jsonl", "\n".join([*rows, *['{"text":"e"}'] * CHUNK_ROWS, rows[0]]).encode())
    table = pq.read_table(convert(path, "o.parquet"))
    kinds = {name: table.schema.field(name).type for name in table.column_names}
    strings = dict.fromkeys(
        ("text", "n", "m", "big", "inf", "w", "z", "late", "error"), pa.string()
    )
    assert kinds == strings | {
        "i": pa.int64(),
        "f": pa.float64(),
        "b": pa.bool_(),
        "label": pa.string(),
        "score": pa.float64(),
    }
    assert table["text"].to_pylist()[:4] == ["a", "", "c", "d"]
    assert table["i"].to_pylist()[:4] == [1, -9007199254740993, None, None]
    assert table["f"].to_pylist()[:3] == [1.5, 2.0, None]
    assert table["m"].to_pylist()[:3] == ["1", '"x\\"y"', None]
    assert table["n"].to_pylist()[:2] == ['{"x":1}', "[]"]
    assert table["inf"].to_pylist()[:3] == [None, "1e400", "1"]
    assert table["w"].to_pylist()[2:4] == ["9007199254740993", "1.5"]
    assert table["late"].to_pylist()[3] == "[1.0]"
    assert table["m"].to_pylist()[-1] == "1"
    assert table["z"].null_count == len(table) == 5 + CHUNK_ROWS
