from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lmaas.broker_config.errors import DataError
from lmaas.producer.tables import Dialect
from lmaas.training import imdb
from lmaas.training.datasets.dataset import Dataset
from lmaas.training.datasets.loading import load_dataset
from lmaas.training.datasets.of_imdb import IMDB_NEIGHBOURS, load_imdb

REVIEWS = {
    f"aclImdb/{split}/{label}/{number}_{rating}.txt": f"{split} {label} {number}"
    for split in ("train", "test")
    for label, rating in (("neg", 2), ("pos", 9))
    for number in range(120)
}


def archive(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def reviews(**more: bytes) -> dict[str, bytes]:
    return {name: text.encode() for name, text in REVIEWS.items()} | more


def flat(dataset: Dataset) -> list[tuple[str, int]]:
    splits = (dataset.train, dataset.validation, dataset.test)
    return [pair for split in splits for pair in zip(split.texts, split.labels, strict=True)]


def csv_file(path: Path, per_class: int = 30, labels: str = "abc") -> Path:
    rows = [f"text {label} {i},{label}" for label in labels for i in range(per_class)]
    path.write_text("\n".join(["text,label", *rows]) + "\n")
    return path


def test_imdb_reads_the_archive_in_the_official_splits(tmp_path: Path) -> None:
    noise = {
        "aclImdb/README": b"x",
        "aclImdb/train/unsup/0_0.txt": b"x",
        "aclImdb/imdb.vocab": b"x",
    }
    path = archive(tmp_path / "aclImdb_v1.tar.gz", reviews() | noise)
    dataset = load_imdb(path)
    assert dataset.labels == ("negative", "positive")
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (216, 24, 240)
    assert dataset.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    expected = {(text, int("pos" in name)) for name, text in REVIEWS.items()}
    assert set(flat(dataset)) == expected
    assert set(dataset.test.texts) == {t for t in REVIEWS.values() if "test" in t}


def test_imdb_validates_on_runs_of_neighbours(tmp_path: Path) -> None:
    dataset = load_imdb(archive(tmp_path / "a.tar.gz", reviews()))
    for label in ("neg", "pos"):
        numbers = [int(t.split()[2]) for t in dataset.validation.texts if label in t]
        assert numbers == list(range(numbers[0], numbers[0] + 12))


def test_imdb_is_the_same_from_a_folder_whatever_its_order(tmp_path: Path) -> None:
    for name, text in reversed(REVIEWS.items()):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    from_archive = load_imdb(archive(tmp_path / "aclImdb_v1.tar.gz", reviews()))
    from_folder = load_imdb(tmp_path / "aclImdb")
    assert flat(from_folder) == flat(from_archive)
    assert flat(load_dataset(tmp_path)) == flat(from_archive)
    (tmp_path / "aclImdb/train/pos/3_9.txt").write_text("changed")
    assert load_imdb(tmp_path / "aclImdb").sha256 != from_folder.sha256


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a whole tar archive"),
        (b"no archive", "not a whole tar archive"),
        (None, "no reviews"),
    ],
)
def test_a_damaged_archive_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "some.tar.gz"
    if content is None:
        archive(path, {"aclImdb/train/neg/1_1.txt": b"only one"})
    else:
        path.write_bytes(content)
    with pytest.raises(DataError, match=rf"some\.tar\.gz: {message}"):
        load_imdb(path)


def test_a_cut_archive_is_an_error(tmp_path: Path) -> None:
    path = archive(tmp_path / "some.tar.gz", reviews())
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DataError, match="download it again"):
        load_imdb(path)


def test_a_review_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar.gz", reviews(**{"aclImdb/train/neg/7_2.txt": b"\xff"}))
    with pytest.raises(DataError, match=r"aclImdb/train/neg/7_2\.txt: not UTF-8"):
        load_imdb(path)


def test_a_folder_without_reviews_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--data PATH"):
        load_imdb(tmp_path)


def test_download_checks_what_it_got(tmp_path: Path) -> None:
    source = archive(tmp_path / "source.tar.gz", reviews())
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    url = source.as_uri()
    with pytest.raises(DataError, match="expected c40f74"):
        imdb.download(tmp_path / "cache", url=url)
    assert list((tmp_path / "cache").iterdir()) == []
    path = imdb.download(tmp_path / "cache", url=url, sha256=digest)
    assert path.read_bytes() == source.read_bytes()
    source.unlink()
    assert imdb.download(tmp_path / "cache", url=url, sha256=digest) == path


def test_without_the_internet_download_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--data PATH"):
        imdb.download(tmp_path, url=(tmp_path / "nothing").as_uri())


def test_a_table_is_split_by_class_and_always_the_same(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "some.csv")
    dataset = load_dataset(path)
    assert (dataset.name, dataset.labels) == ("some", ("a", "b", "c"))
    assert np.bincount(dataset.test.labels).tolist() == [3, 3, 3]
    assert np.bincount(dataset.validation.labels).tolist() == [3, 3, 3]
    assert np.bincount(dataset.train.labels).tolist() == [24, 24, 24]
    assert len(set(flat(dataset))) == 90
    assert all(text.split()[1] == dataset.labels[label] for text, label in flat(dataset))
    assert flat(load_dataset(path)) == flat(dataset)
    assert dataset.notes == ()


def test_a_separate_test_file_is_the_test(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "train.csv")
    measured = csv_file(tmp_path / "test.csv", per_class=2)
    dataset = load_dataset(path, test=measured)
    assert len(dataset.train) + len(dataset.validation) == 90
    assert len(dataset.test) == 6
    assert dataset.name == tmp_path.name
    assert dataset.sha256 != load_dataset(path).sha256


def write_tsv(path: Path, rows: list[tuple[str, str]]) -> Path:
    path = path.with_suffix(".tsv.bz2")
    path.write_bytes(bz2.compress("".join(f"{t}\t{n}\n" for t, n in rows).encode()))
    return path


def write_excel(path: Path, rows: list[tuple[str, str]]) -> Path:
    """As its German edition does."""
    path = path.with_suffix(".csv")
    path.write_text("".join(f"{t};{n}\r\n" for t, n in rows), encoding="utf-16")
    return path


def write_gzip(path: Path, rows: list[tuple[str, str]]) -> Path:
    path = path.with_suffix(".csv.gz")
    path.write_bytes(gzip.compress("".join(f"{t},{n}\n" for t, n in rows).encode("utf-8-sig")))
    return path


def write_jsonl(path: Path, rows: list[tuple[str, str]]) -> Path:
    path = path.with_suffix(".jsonl")
    header, *others = rows
    path.write_text("\n\n".join(json.dumps(dict(zip(header, row, strict=True))) for row in others))
    return path


def write_parquet(path: Path, rows: list[tuple[str, str]]) -> Path:
    path = path.with_suffix(".parquet")
    header, *others = rows
    columns = zip(header, zip(*others, strict=True), strict=True)
    pq.write_table(pa.table({name: list(values) for name, values in columns}), path)
    return path


@pytest.mark.parametrize("write", [write_tsv, write_excel, write_gzip, write_jsonl, write_parquet])
def test_every_format_gives_the_same(
    tmp_path: Path, write: Callable[[Path, list[tuple[str, str]]], Path]
) -> None:
    rows = [("text", "label"), *((f"{n} {i} ä", n) for n in "ab" for i in range(20))]
    plain = tmp_path / "plain.csv"
    plain.write_text("".join(f"{text},{label}\n" for text, label in rows))
    expected = load_dataset(plain)
    dataset = load_dataset(write(tmp_path / "other", rows))
    assert flat(dataset) == flat(expected)
    assert dataset.sha256 == expected.sha256


def test_the_dialect_goes_to_both_files(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "a.csv")
    odd = tmp_path / "odd.csv"
    odd.write_text(path.read_text().replace(",", "~"), encoding="utf-16-le")
    dialect = Dialect("~", "utf-16-le")
    dataset = load_dataset(odd, test=odd, dialect=dialect)
    assert flat(dataset) == flat(load_dataset(path, test=path))


def test_columns_can_be_named_and_labels_be_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"q": "t{i}", "kind": {i % 2}, "n": 1}}\n' for i in range(20)))
    assert load_dataset(path, text="q", label="kind").labels == ("0", "1")
    with pytest.raises(DataError, match=r"which column has the labels\? .*'q', 'kind', 'n'"):
        load_dataset(path, text="q")


def test_fields_inside_others_have_names_with_dots(tmp_path: Path) -> None:
    rows = [{"review": {"body": f"t{i}"}, "meta": {"kind": i % 2}} for i in range(20)]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(rows, indent=1))
    dataset = load_dataset(path, text="review.body", label="meta.kind")
    assert dataset.labels == ("0", "1")
    assert {text for text, _ in flat(dataset)} == {f"t{i}" for i in range(20)}


def test_a_text_may_be_long_and_have_line_breaks(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "a.csv")
    long = "x\n" * 100_000
    path.write_text(path.read_text() + f'"{long}",a\n')
    assert long in [text for text, _ in flat(load_dataset(path))]


def test_rows_without_text_or_label_are_told_and_left_out(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "a.csv")
    whole = load_dataset(path)
    with path.open("ab") as file:
        file.write(b"only one\n ,a\nx,\ny, \n\xff,a\nz,\xff\n")
    dataset = load_dataset(path)
    assert len(flat(dataset)) == len(flat(whole))
    (note,) = dataset.notes
    assert note.startswith(f"{path}: 6 of 96 rows are left out: 1 that cannot be read (line 92), ")
    for told in (
        "1 without a text (line 93)",
        "2 without a label (lines 94, 95)",
        "1 whose text is not UTF-8 (line 96)",
        "1 whose label is not UTF-8 (line 97)",
    ):
        assert told in note
    assert "only one" in note


def test_values_that_are_no_labels_are_left_out(tmp_path: Path) -> None:
    rows = [{"text": f"t{i}", "label": i % 2} for i in range(20)]
    odd = [{"label": None}, {"label": [["a"]]}, {"label": {"a": 1}}, {}, {"text": 7, "label": 1}]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": "x"} | row) + "\n" for row in (*rows, *odd)))
    dataset = load_dataset(path)
    assert dataset.labels == ("0", "1")
    (note,) = dataset.notes
    assert "2 without a label (lines 21, 24)" in note
    assert "2 whose label is a list or an object (lines 22, 23)" in note
    assert "1 whose text is a number or something else (line 25)" in note

    numbers = tmp_path / "a.parquet"
    labels = [0.0, 1.0] * 10 + [float("nan")]
    pq.write_table(pa.table({"text": list("abcdefghijklmnopqrstu"), "label": labels}), numbers)
    dataset = load_dataset(numbers)
    assert dataset.labels == ("0.0", "1.0")
    assert dataset.notes == (f"{numbers}: 1 of 21 rows are left out: 1 without a label (row 21)",)


def test_labels_that_look_alike_are_told_or_made_one(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    labels = ["pos"] * 9 + ["Pos"] * 10 + [" pos "] * 3 + ["neg"] * 10
    path.write_text("text,label\n" + "".join(f"t{i},{n}\n" for i, n in enumerate(labels)))
    dataset = load_dataset(path)
    assert dataset.labels == ("Pos", "neg", "pos")
    trimmed, alike = dataset.notes
    assert trimmed == f"{path}: blanks at the ends of 3 labels were taken off"
    assert "'pos' (12), 'Pos' (10)" in alike
    assert "--normalize-labels" in alike
    normal = load_dataset(path, normalize=True)
    assert normal.labels == ("neg", "pos")
    assert normal.notes == (trimmed,)
    assert sum(label for _, label in flat(normal)) == 22


def test_a_test_label_is_one_of_the_training(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "a.csv")
    odd = csv_file(tmp_path / "b.csv", per_class=2, labels="az")
    with pytest.raises(DataError, match=r"b\.csv: line 4: the label 'z' is not .* 1 other rows$"):
        load_dataset(path, test=odd)
    upper = csv_file(tmp_path / "c.csv", per_class=1, labels="AC")
    with pytest.raises(DataError, match=r"'A' is not .*--normalize-labels takes it for 'a'"):
        load_dataset(path, test=upper)
    dataset = load_dataset(path, test=upper, normalize=True)
    assert dataset.test.labels.tolist() == [0, 2]


def test_texts_that_are_there_twice_are_told(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "a.csv")
    first = path.read_text().splitlines()[1]
    path.write_text(path.read_text() + first.rpartition(",")[0] + ",b\n")
    other = tmp_path / "b.csv"
    other.write_text(f"text,label\n{first}\nnew,b\n")
    labels, test = load_dataset(path, test=other).notes
    assert "1 text has more than one label" in labels
    assert test.startswith("1 of the 2 texts of the test are in the training too")


def test_rare_labels_are_told(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "a.csv")
    path.write_text(path.read_text() + "x,rare\n")
    dataset = load_dataset(path)
    assert "rare" in dataset.labels
    (note,) = dataset.notes
    assert "1 label has fewer than 3 examples, too few to be measured: 'rare' (1)" in note


def ids(rows: int) -> bytes:
    return b"text,label\n" + b"".join(b"t,id %d\n" % i for i in range(rows))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"text,label\nx,a\ny\nz\n", r"2 of 3 rows cannot be used: 2 that cannot be read"),
        ("a.csv", b"text,label\nx,a\n,b\ny,\n", r"2 of 3 rows cannot .*1 without a text"),
        ("a.csv", b"body,label\nx,a\n", r"no column 'text'.*--text-column.*'body', 'label'"),
        ("a.csv", b"text,x,y\nx,a,b\n", r"which column has the labels"),
        ("a.csv", b"text\nx\n", r"which column has the labels"),
        ("a.txt", b"x\ny\n", r"which column has the labels"),
        ("a.csv", b"text,label\n", r"a\.csv: no rows"),
        ("a.csv", b"text,label\nx,a\ny,a\n", r"each of the 2 rows has the label 'a'"),
        ("a.csv", ids(2000), r"2,000 different labels in 2,000 rows .*'id 0', .* 1,995 more"),
        ("a.csv", b"text,label\nx,a\nx,a\ny,b\ny,b\n", r"4 rows are too few"),
        ("a.csv.gz", b"not gzip", r"a\.csv\.gz: damaged"),
        ("a.docx", b"", r"is a document: save it as plain text"),
    ],
)
def test_what_nothing_can_be_learnt_from(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}: .*{message}|{message}"):
        load_dataset(path)


def test_a_missing_file_and_a_missing_column_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv: no such file"):
        load_dataset(tmp_path / "none.csv")
    path = csv_file(tmp_path / "a.csv")
    with pytest.raises(DataError, match=r"no column 'kind' with the labels.*'text', 'label'"):
        load_dataset(path, label="kind")


def test_the_real_archive_has_the_official_sizes(imdb: Path) -> None:
    dataset = load_imdb(imdb)
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (22500, 2500, 25000)
    assert np.bincount(dataset.validation.labels).tolist() == [1250, 1250]
    assert len(dataset.validation) == IMDB_NEIGHBOURS * 50
