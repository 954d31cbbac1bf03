from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from lmaas.broker_config.errors import DataError
from lmaas.training import datasets
from lmaas.training.datasets import Dataset, download_imdb, load_dataset, load_imdb, load_table

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
        download_imdb(tmp_path / "cache", url=url)
    assert list((tmp_path / "cache").iterdir()) == []
    path = download_imdb(tmp_path / "cache", url=url, sha256=digest)
    assert path.read_bytes() == source.read_bytes()
    source.unlink()
    assert download_imdb(tmp_path / "cache", url=url, sha256=digest) == path


def test_without_the_internet_download_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--data PATH"):
        download_imdb(tmp_path, url=(tmp_path / "nothing").as_uri())


def test_a_table_is_split_by_class_and_always_the_same(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "some.csv")
    dataset = load_dataset(path)
    assert (dataset.name, dataset.labels) == ("some", ("a", "b", "c"))
    assert np.bincount(dataset.test.labels).tolist() == [3, 3, 3]
    assert np.bincount(dataset.validation.labels).tolist() == [3, 3, 3]
    assert np.bincount(dataset.train.labels).tolist() == [24, 24, 24]
    assert len(set(flat(dataset))) == 90
    assert all(text.split()[1] == dataset.labels[label] for text, label in flat(dataset))
    assert flat(load_table(path)) == flat(dataset)


def test_a_separate_test_file_is_the_test(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "train.csv")
    measured = csv_file(tmp_path / "test.csv", per_class=2)
    dataset = load_dataset(path, test=measured)
    assert len(dataset.train) + len(dataset.validation) == 90
    assert len(dataset.test) == 6
    assert dataset.name == tmp_path.name


def test_formats_agree(tmp_path: Path) -> None:
    plain = csv_file(tmp_path / "a.csv")
    zipped = tmp_path / "b.csv.gz"
    zipped.write_bytes(gzip.compress(b"\xef\xbb\xbf" + plain.read_bytes()))
    lines = plain.read_text().splitlines()[1:]
    jsonl = tmp_path / "c.jsonl"
    pairs = (line.split(",") for line in lines)
    jsonl.write_text("".join(f'{{"text": "{t}", "label": "{n}"}}\n\n' for t, n in pairs))
    assert flat(load_table(plain)) == flat(load_table(zipped)) == flat(load_table(jsonl))


def test_columns_can_be_named_and_labels_be_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"q": "t{i}", "kind": {i % 2}, "n": 1}}\n' for i in range(20)))
    assert load_table(path, text="q", label="kind").labels == ("0", "1")
    with pytest.raises(DataError, match="which column is the label"):
        load_table(path, text="q")


def test_a_text_may_be_long_and_have_line_breaks(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "a.csv")
    long = "x\n" * 100_000
    path.write_text(path.read_text() + f'"{long}",a\n')
    assert long in [text for text, _ in flat(load_table(path))]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"text,label\nx,a\ny\n", r"a\.csv:3: 1 columns, the header has 2"),
        ("a.csv", b"text,label\nx,a\ny,\n", r"a\.csv:3: the label is empty"),
        ("a.csv", b"text,label\nx,a\n\xff,b\n", r"a\.csv:3: not UTF-8"),
        ("a.csv", b'text,label\nx,a\n"y"z,b\n', r"a\.csv:3: not CSV"),
        ("a.csv", b"body,label\nx,a\n", r"a\.csv:2: no column 'text' \(there are: body, label\)"),
        ("a.csv", b"text,x,y\nx,a,b\n", r"a\.csv:2: which column is the label"),
        ("a.csv", b"text,label\n", r"a\.csv: no rows"),
        ("a.csv", b"text,label\nx,a\ny,a\n", r"a\.csv: every row has the label 'a'"),
        ("a.csv", b"text,label\nx,a\ny,b\n", r"a\.csv: 2 rows are too few"),
        ("a.jsonl", b'{"text": "x", "label": "a"}\n{"text"\n', r"a\.jsonl:2: not a JSON object"),
        ("a.jsonl", b'{"text": "x", "label": ["a"]}\n', r"a\.jsonl:1: 'label' is neither"),
        ("a.csv.gz", b"not gzip", r"a\.csv\.gz: cannot be read"),
        ("a.xlsx", b"", r"a\.xlsx: give a \.csv"),
    ],
)
def test_bad_rows_are_named_with_file_and_line(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_dataset(path)


def test_a_missing_file_and_an_unknown_test_label_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv: cannot be read"):
        load_table(tmp_path / "none.csv")
    path = csv_file(tmp_path / "a.csv")
    odd = csv_file(tmp_path / "b.csv", per_class=1, labels="az")
    with pytest.raises(DataError, match=r"b\.csv:3: the label 'z' is not in the training"):
        load_table(path, test=odd)


def test_the_real_archive_has_the_official_sizes(imdb: Path) -> None:
    dataset = load_imdb(imdb)
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (22500, 2500, 25000)
    assert np.bincount(dataset.validation.labels).tolist() == [1250, 1250]
    assert len(dataset.validation) == datasets.IMDB_NEIGHBOURS * 50
