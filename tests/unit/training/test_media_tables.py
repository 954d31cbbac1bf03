"""Pictures and sounds in a column of a table: paths of files, or bytes of Parquet."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lmaas.broker_config.errors import DataError, LmaasError
from lmaas.training.datasets.dataset import Dataset
from lmaas.training.datasets.loading import load_dataset
from lmaas.training.media_tables import Contents

PATHS = Contents(path="photo")
BYTES = Contents(data="image")
LABELS = ("cat", "dog")


def picture(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (number, 0, 0)).save(file, "PNG")
    return file.getvalue()


def listed(folder: Path, count: int = 10) -> Path:
    """A table of so many pictures of each label, which lie beside it."""
    (folder / "all").mkdir(parents=True)
    lines = ["photo,label"]
    for number in range(count):
        for label in LABELS:
            name = f"all/{label}-{number}.png"
            (folder / name).write_bytes(picture(number))
            lines.append(f"{name},{label}")
    table = folder / "list.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


def of_bytes(path: Path, count: int = 10, *, column: str = "image", **others: Any) -> Path:
    labels = list(LABELS) * count
    images = [picture(number) for number in range(count) for _ in LABELS]
    pq.write_table(pa.table({column: images, "label": labels, **others}), path)
    return path


def ids(dataset: Dataset) -> set[str]:
    return {
        item.id
        for split in (dataset.train, dataset.validation, dataset.test)
        for item in split.items
    }


def test_paths_beside_the_table(tmp_path: Path) -> None:
    table = listed(tmp_path / "pets")
    dataset = load_dataset(table, contents=PATHS)
    assert (dataset.name, dataset.kind, dataset.labels) == ("list", "image", LABELS)
    assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [16, 2, 2]
    assert dataset.notes == ()
    for item, label in zip(dataset.train.items, dataset.train.labels, strict=True):
        assert item.id.startswith(f"all/{LABELS[label]}-")
        assert (item.data, item.media_type) == (
            (table.parent / item.id).read_bytes(),
            "image/png",
        )
    again = load_dataset(table, contents=PATHS)
    assert (again.sha256, again.train.items) == (dataset.sha256, dataset.train.items)
    (table.parent / "all" / "cat-0.png").write_bytes(picture(99))
    assert load_dataset(table, contents=PATHS).sha256 != dataset.sha256


@pytest.mark.parametrize("label", [None, "kind", "of.kind"])
def test_the_label_column_of_paths(tmp_path: Path, label: str | None) -> None:
    listed(tmp_path)
    table = tmp_path / "list.jsonl"
    names = sorted(file.name for file in (tmp_path / "all").iterdir())
    rows = []
    for name in names:
        kind: Any = name.partition("-")[0]
        named = {"of": {"kind": kind}} if label == "of.kind" else {"kind": kind}
        rows.append(json.dumps({"photo": f"all/{name}", **named}))
    table.write_text("\n".join(rows))
    dataset = load_dataset(table, contents=PATHS, label=label)
    assert dataset.labels == LABELS
    assert ids(dataset) == {f"all/{name}" for name in names}


def test_which_column_has_the_labels(tmp_path: Path) -> None:
    table = of_bytes(tmp_path / "a.parquet", other=[1] * 20)
    assert load_dataset(table, contents=BYTES).labels == LABELS  # it is called label
    renamed = pq.read_table(table).rename_columns(["image", "kind", "other"])
    pq.write_table(renamed, table)
    with pytest.raises(DataError, match=r"which column has the labels\? .*'kind', 'other'"):
        load_dataset(table, contents=BYTES)
    assert load_dataset(table, contents=BYTES, label="kind").labels == LABELS
    with pytest.raises(DataError, match="no column 'sort' with the labels"):
        load_dataset(table, contents=BYTES, label="sort")


def test_bytes(tmp_path: Path) -> None:
    dataset = load_dataset(of_bytes(tmp_path / "pets.parquet"), contents=BYTES)
    assert (dataset.name, dataset.kind, dataset.labels) == ("pets", "image", LABELS)
    assert ids(dataset) == {f"row {number}" for number in range(1, 21)}
    assert {item.media_type for item in dataset.train.items} == {"image/png"}


def test_bytes_of_hugging_face_with_their_names(tmp_path: Path) -> None:
    """The struct that `datasets` writes; labels are numbers there."""
    path = tmp_path / "train-00000-of-00001.parquet"
    images = [{"bytes": picture(n), "path": f"{n}.png" if n else None} for n in range(20)]
    pq.write_table(pa.table({"image": images, "label": [0, 1] * 10}), path)
    dataset = load_dataset(path, contents=BYTES, label="label")
    assert dataset.labels == ("0", "1")
    assert ids(dataset) == {"row 1", *(f"{n}.png" for n in range(1, 20))}


def test_a_test_of_its_own_and_files_held_out(tmp_path: Path) -> None:
    table = listed(tmp_path / "a")
    test = listed(tmp_path / "b", 2)
    dataset = load_dataset(table, test=test, contents=PATHS)
    assert len(dataset.test) == 4
    held = load_dataset(table, contents=PATHS, hold_out="*-3.png")
    assert {item.id for item in held.test.items} == {"all/cat-3.png", "all/dog-3.png"}


def test_rows_without_a_label_are_left_out(tmp_path: Path) -> None:
    table = listed(tmp_path)
    with table.open("a") as file:
        file.write("all/cat-1.png,\nall/cat-1.png\n")
    dataset = load_dataset(table, contents=PATHS)
    assert len(ids(dataset)) == 20
    (note,) = dataset.notes
    assert "2 of 22 rows are left out: 1 without a label (line 22), 1 that cannot be read" in note


def test_what_cannot_be_read_is_an_item_with_an_error(tmp_path: Path) -> None:
    """The training leaves a few of them out, and names them."""
    table = listed(tmp_path / "a")
    (tmp_path / "b.png").write_bytes(picture(1))
    lines = table.read_text().splitlines()
    wrong = ["all/none.png", "../b.png", "http://a/b.png", '""']
    table.write_text("\n".join([lines[0], *(f"{one},cat" for one in wrong), *lines[1:]]))
    dataset = load_dataset(table, contents=PATHS)
    assert dataset.kind == "image"
    items = [*dataset.train.items, *dataset.validation.items, *dataset.test.items]
    told = {item.id: item.error.message for item in items if item.error}
    assert told.keys() == {"all/none.png", "../b.png", "http://a/b.png", "line 5"}
    assert "--outside reads such files, too" in told["../b.png"]
    outside = Contents(path="photo", outside=True)
    items = load_dataset(table, contents=outside).train.items
    assert "../b.png" not in {item.id for item in items if item.error}


@pytest.mark.parametrize(
    ("content", "contents", "message"),
    [
        ("photo,label\na.png,x\nb.wav,y\nc.png,x\nd.wav,y\n", PATHS, "pictures (a.png) and sounds"),
        ("photo,label\na.txt,x\nb.txt,y\na.txt,x\nb.txt,y\n", PATHS, "no pictures and no sounds"),
        ("photo,label\na.png,x\nb.png,x\n", PATHS, "each of the 2 rows has the label 'x'"),
        ("file,label\na.png,x\nb.png,x\n", PATHS, "no column 'photo'; name the one with the paths"),
        ("photo,label\n", PATHS, "no rows"),
        ("image,label\nx,y\n", BYTES, "--bytes-column is for Parquet"),
        ("photo,label\na.png,\nb.png,x\nc.png,\n", PATHS, "name other columns with --path-column"),
    ],
)
def test_tables_that_nothing_can_be_learnt_from(
    tmp_path: Path, content: str, contents: Contents, message: str
) -> None:
    table = tmp_path / "list.csv"
    table.write_text(content)
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("text")
    with pytest.raises(LmaasError) as error:
        load_dataset(table, contents=contents)
    assert message in str(error.value)


def test_lists_of_labels_and_folders_are_refused(tmp_path: Path) -> None:
    table = of_bytes(tmp_path / "a.parquet", labels=[["a", "b"]] * 20)
    with pytest.raises(DataError, match="labels has lists; a picture or a sound has one label"):
        load_dataset(table, contents=BYTES, label="labels")
    with pytest.raises(DataError, match="has one label; leave --multi-label out"):
        load_dataset(table, contents=BYTES, label="label", separator=";")
    with pytest.raises(DataError, match="is no table, whose column --path-column could name"):
        load_dataset(tmp_path, contents=PATHS)


def test_who_takes_bytes_for_texts_is_told_the_option(tmp_path: Path) -> None:
    path = of_bytes(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"no column 'text'.*'image' has bytes, and --bytes-column"):
        load_dataset(path)
    with pytest.raises(DataError, match=r"20 with bytes in the place of a text \(--bytes-column"):
        load_dataset(path, text="image")
    images = [{"bytes": b"x", "path": "x.png"}] * 4
    pq.write_table(pa.table({"image": images, "label": ["a", "b"] * 2}), path)
    with pytest.raises(DataError, match="'image' has bytes and no text; name it with --bytes-col"):
        load_dataset(path, text="image")


@pytest.mark.parametrize("column", ["text", "label"])
def test_columns_are_of_tables(tmp_path: Path, column: str) -> None:
    listed(tmp_path)
    option = f"--{column}-column"
    with pytest.raises(DataError, match=f"is no table, whose column {option} could name"):
        load_dataset(tmp_path, **{column: "x"})  # type: ignore[arg-type]
