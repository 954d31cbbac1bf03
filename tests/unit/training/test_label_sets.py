"""Several labels a row: what is read of a table, and how rows are split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lmaas.broker_config.errors import DataError
from lmaas.training.datasets.dataset import Dataset
from lmaas.training.datasets.loading import load_dataset
from lmaas.training.label_sets import decisions, listed, matrix, strata


def given(dataset: Dataset) -> dict[str, set[str]]:
    """The labels of each text."""
    return {
        text: {dataset.labels[at] for at in np.flatnonzero(row)}
        for split in (dataset.train, dataset.validation, dataset.test)
        for text, row in zip(split.texts, split.labels, strict=True)
    }


def written(path: Path, cells: list[str]) -> Path:
    """A text a row, called t0, t1, ...; the cells are in quotes."""
    lines = [f't{place},"{cell}"' for place, cell in enumerate(cells)]
    path.write_text("\n".join(["text,label", *lines, ""]))
    return path


CELLS = ["a;b", "a", "", "b; c", " c ;a", "a;b;a", ";", "b"] * 5


def test_a_cell_has_any_number_of_labels(tmp_path: Path) -> None:
    dataset = load_dataset(written(tmp_path / "in.csv", CELLS), separator=";")
    assert dataset.labels == ("a", "b", "c")
    found = given(dataset)
    expected = [{"a", "b"}, {"a"}, set(), {"b", "c"}, {"a", "c"}, {"a", "b"}, set(), {"b"}]
    assert [found[f"t{place}"] for place in range(8)] == expected
    assert len(found) == len(CELLS)
    twice, without = dataset.notes[:2]
    assert twice.endswith("5 rows have a label twice (lines 7, 15, 23, 31, 39): it counts once")
    assert without.endswith("10 rows have no label, and are learnt from as such")


def test_another_separator(tmp_path: Path) -> None:
    path = written(tmp_path / "in.csv", ["a|b;c", "a", "b;c"] * 5)
    assert load_dataset(path, separator="|").labels == ("a", "b;c")


def test_lists_are_several_labels_by_themselves(tmp_path: Path) -> None:
    values: list[Any] = [["a", "b"], "a", [], [1, None, 1.0, True], None, ["a", "a;b"]] * 4
    path = tmp_path / "in.jsonl"
    path.write_text(
        "".join(json.dumps({"text": f"t{i}", "label": one}) + "\n" for i, one in enumerate(values))
    )
    dataset = load_dataset(path)
    found = given(dataset)
    assert [found.get(f"t{place}") for place in range(6)] == [
        {"a", "b"},
        {"a"},
        set(),
        {"1", "1.0", "true"},
        None,  # a row without a value is no row without a label
        {"a", "a;b"},
    ]
    assert "4 of 24 rows are left out: 4 without a label" in dataset.notes[0]


def test_lists_of_parquet(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    labels = pa.array([["a", "b"], ["b"], []] * 6, pa.list_(pa.string()))
    pq.write_table(pa.table({"text": [f"t{i}" for i in range(18)], "label": labels}), path)
    found = given(load_dataset(path))
    assert [found[f"t{place}"] for place in range(3)] == [{"a", "b"}, {"b"}, set()]


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        (["a;b", "b;c", "c"] * 5, "2 labels look like several in one cell, such as 'a;b'"),
        (["['a', 'b']", "a", "b"] * 5, "1 label looks like several in one cell, such as \"['a',"),
    ],
)
def test_cells_that_look_like_several_labels_are_told(
    tmp_path: Path, cells: list[str], told: str
) -> None:
    dataset = load_dataset(written(tmp_path / "in.csv", cells))
    assert not dataset.multi_label
    (note,) = (note for note in dataset.notes if "--multi-label" in note)
    assert told in note


def test_they_are_told_where_they_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "in.csv", [f"a{i};b{i}" for i in range(9)])
    with pytest.raises(DataError, match=r"9 different labels in 9 rows.*--multi-label"):
        load_dataset(path)


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        (["", " ; "] * 9, "no row has a label"),
        (["a", ""] * 9, "has the label 'a'; two labels or more"),
    ],
)
def test_labels_that_cannot_be_learnt(tmp_path: Path, cells: list[str], told: str) -> None:
    with pytest.raises(DataError, match=told):
        load_dataset(written(tmp_path / "in.csv", cells), separator=";")


def test_a_label_of_the_test_alone_is_told(tmp_path: Path) -> None:
    path = written(tmp_path / "in.csv", CELLS)
    test = written(tmp_path / "test.csv", ["a", "b;B ;d", ""])
    told = r"test\.csv: line 3: the label 'B' is not in the training; --normalize-labels takes it"
    with pytest.raises(DataError, match=told):
        load_dataset(path, test=test, separator=";")
    told = "the label 'd' is not in the training"
    with pytest.raises(DataError, match=told):
        load_dataset(path, test=test, separator=";", normalize=True)


def test_spellings_of_a_row_become_one(tmp_path: Path) -> None:
    path = written(tmp_path / "in.csv", ["Price;price", "price", "other"] * 6)
    dataset = load_dataset(path, separator=";", normalize=True)
    assert dataset.labels == ("other", "price")
    assert given(dataset)["t0"] == {"price"}


def test_a_file_has_the_same_checksum_in_every_format(tmp_path: Path) -> None:
    lists = tmp_path / "in.jsonl"
    cells = ["a;b", "a", "", "b"] * 4
    lines = [
        {"text": f"t{i}", "label": [label for label in cell.split(";") if label]}
        for i, cell in enumerate(cells)
    ]
    lists.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    both = load_dataset(lists), load_dataset(written(tmp_path / "in.csv", cells), separator=";")
    assert both[0].sha256 == both[1].sha256


def test_each_part_of_a_split_has_the_rare_labels() -> None:
    truth = matrix([[0], [0, 1], [0], [], [0, 1], [0, 1], [], [0]], 2)
    assert strata(truth).tolist() == [0, 1, 0, -1, 1, 1, -1, 0]
    # Of single labels they are the labels.
    assert strata(np.array([2, 0, 1], np.int32)).tolist() == [2, 0, 1]


def test_rows_that_are_too_different_for_strata_are_split_together() -> None:
    """Each label is in three rows, of which the first label of most has no three."""
    truth = matrix([[i, (i + 1) % 9, (i + 2) % 9] for i in range(9)], 9)
    assert strata(truth).tolist() == [0, -2, -2, -2, -2, -2, -2, 0, 0]


@pytest.mark.parametrize("cells", [["a;b"] * 6 + ["c"] * 3, ["a;b;c", "d;e", "a;e"] * 4 + [""] * 4])
def test_any_rows_can_be_split(tmp_path: Path, cells: list[str]) -> None:
    dataset = load_dataset(written(tmp_path / "in.csv", cells), separator=";")
    assert len(dataset.test)
    assert len(dataset.validation)


def test_decisions_are_examples_of_two_classes() -> None:
    scores = np.array([[0.25, 1], [0.5, 0]], np.float32)
    pairs, truth = decisions(scores, np.array([[0, 1], [1, 0]], np.int32))
    assert pairs.tolist() == [[0.75, 0.25], [0, 1], [0.5, 0.5], [1, 0]]
    assert truth.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("value", ["[a]", '["a"]', None, 7, {"a": 1}, [["a"]]])
def test_what_is_no_list(value: object) -> None:
    assert listed(value) is None
