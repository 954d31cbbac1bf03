"""Rows that have several labels in the formats of files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest

from lmaas.broker_config.messages import ItemError, Result
from lmaas.producer.rows import answers_of
from lmaas.producer.tables import Chunk, Place, Table, encoding, footer

NAMES = ("label", "score", "error")
SEVERAL = [
    Result(id="0", label="a", score=0.9, labels=["a", "b"]),
    Result(id="1", score=0.1, labels=[]),
    Result(id="2", error=ItemError(code="empty_text", message="the text is empty")),
    Result(id="3", label="b", score=0.7, labels=["b"]),
]
ONE = [Result(id="0", label="[x]", score=0.9), Result(id="1", label="a;b", score=0.8)]


def written(results: list[Result], path: Path, columns: tuple[str, ...] = ("text",)) -> Path:
    """In chunks of two rows."""
    place = Place.of(str(path))
    table = Table("in", columns, iter(()), lambda: None)
    rows = encoding(place, table, NAMES)
    with path.open("wb") as file:
        file.write(rows.header())
        for start in range(0, len(results), 2):
            part = [
                msgspec.structs.replace(each, id=str(place))
                for place, each in enumerate(results[start : start + 2], start)
            ]
            texts = ["t"] * len(part)
            given = dict.fromkeys(columns, texts)
            chunk = Chunk(start, given, texts, range(len(part)), {})
            file.write(rows.rows(chunk, answers_of(chunk, {}, [part], ranked=False)))
        file.write(footer(place))
    return rows.finish(path)


def of_json(path: Path) -> list[Any]:
    return [row["label"] for row in json.loads(path.read_text())]


def test_a_cell_has_them_with_a_semicolon_between(tmp_path: Path) -> None:
    told = written(SEVERAL, tmp_path / "out.csv").read_text().splitlines()
    assert told == [
        "text,label,score,error",
        "t,a;b,0.9,",
        "t,,0.1,",
        "t,,,empty_text: the text is empty",
        "t,b,0.7,",
    ]


def test_json_has_lists(tmp_path: Path) -> None:
    assert of_json(written(SEVERAL, tmp_path / "out.json")) == [["a", "b"], [], None, ["b"]]
    lines = written(SEVERAL, tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line)["label"] for line in lines] == [["a", "b"], [], None, ["b"]]


@pytest.mark.parametrize("columns", [("text",), ("text", "labels", "labels_")])
def test_parquet_has_lists(tmp_path: Path, columns: tuple[str, ...]) -> None:
    table = pq.read_table(written(SEVERAL, tmp_path / "out.parquet", columns))
    assert table.column_names == [*columns, *NAMES]
    assert table.column("label").to_pylist() == [["a", "b"], [], None, ["b"]]
    assert table.column("score").to_pylist() == [0.9, 0.1, None, 0.7]


def test_whether_there_are_lists_is_known_after_errors(tmp_path: Path) -> None:
    table = pq.read_table(written([*SEVERAL[2:3], *SEVERAL[2:3], *SEVERAL], tmp_path / "a.parquet"))
    assert table.column("label").to_pylist() == [None, None, ["a", "b"], [], None, ["b"]]


def test_a_single_label_stays_a_text(tmp_path: Path) -> None:
    table = pq.read_table(written(ONE, tmp_path / "out.parquet"))
    assert table.column("label").to_pylist() == ["[x]", "a;b"]
    assert table.column_names == ["text", *NAMES]
    assert of_json(written(ONE, tmp_path / "out.json")) == ["[x]", "a;b"]
