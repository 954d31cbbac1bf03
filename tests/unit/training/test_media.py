from __future__ import annotations

import gzip
import hashlib
import io
import os
import struct
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lmaas.broker_config.errors import DataError
from lmaas.training.datasets.dataset import Dataset, Split
from lmaas.training.datasets.loading import load_dataset
from lmaas.training.media import read_folder


def folder(path: Path, *names: str, **more: bytes) -> Path:
    """Files whose content is their name."""
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(name.encode())
    return path


def many(path: Path, count: int = 30, top: str = "", suffix: str = "png") -> Path:
    names = [f"{top}{label}/{n}.{suffix}" for n in range(count) for label in ("dog", "cat")]
    return folder(path, *names)


def ids(split: Split) -> set[str]:
    return {item.id for item in split.items}


def labels(dataset: Dataset, split: Split) -> dict[str, str]:
    named = [dataset.labels[label] for label in split.labels.tolist()]
    return dict(zip([item.id for item in split.items], named, strict=True))


@pytest.mark.parametrize(
    ("suffix", "media_type", "kind"),
    [
        ("png", "image/png", "image"),
        ("JPG", "image/jpeg", "image"),
        ("jpeg", "image/jpeg", "image"),
        ("webp", "image/webp", "image"),
        ("gif", "image/gif", "image"),
        ("bmp", "image/bmp", "image"),
        ("wav", "audio/wav", "audio"),
        ("flac", "audio/flac", "audio"),
        ("ogg", "audio/ogg", "audio"),
    ],
)
def test_a_folder_a_class(tmp_path: Path, suffix: str, media_type: str, kind: str) -> None:
    dataset = load_dataset(many(tmp_path / "pets", suffix=suffix))
    assert (dataset.name, dataset.labels, dataset.kind) == ("pets", ("cat", "dog"), kind)
    splits = (dataset.train, dataset.validation, dataset.test)
    assert [len(split) for split in splits] == [48, 6, 6]
    assert len(set().union(*map(ids, splits))) == 60
    for split in splits:
        assert Counter(split.labels.tolist()) == {0: len(split) / 2, 1: len(split) / 2}
        for item in split.items:
            assert (item.data, item.media_type) == (item.id.encode(), media_type)
        assert all(name.startswith(label) for name, label in labels(dataset, split).items())


def test_splits_are_kept(tmp_path: Path) -> None:
    many(tmp_path, 10, "train/")
    folder(tmp_path, "test/cat/a/b/1.png", "test/cat/2.webp")
    dataset = load_dataset(tmp_path)
    assert labels(dataset, dataset.test) == {"test/cat/2.webp": "cat", "test/cat/a/b/1.png": "cat"}
    assert (len(dataset.train), len(dataset.validation)) == (18, 2)
    folder(tmp_path, "val/dog/x.png")
    dataset = load_dataset(tmp_path)
    assert ids(dataset.validation) == {"val/dog/x.png"}
    assert len(dataset.train) == 20


def test_a_test_of_its_own(tmp_path: Path) -> None:
    many(tmp_path / "a", 10)
    test = folder(tmp_path / "b", "dog/t.png")
    dataset = load_dataset(tmp_path / "a", test=test)
    assert labels(dataset, dataset.test) == {"dog/t.png": "dog"}
    assert dataset.sha256 != load_dataset(tmp_path / "a").sha256
    folder(tmp_path / "b", "Cat/t.png")
    with pytest.raises(DataError, match=r"Cat/t\.png: its class 'Cat' is not in the training"):
        load_dataset(tmp_path / "a", test=test)
    found = load_dataset(tmp_path / "a", test=test, normalize=True)
    assert labels(found, found.test)["Cat/t.png"] == "cat"
    sounds = folder(tmp_path / "c", "dog/t.wav")
    with pytest.raises(DataError, match="c has sounds, and a has pictures; test with such"):
        load_dataset(tmp_path / "a", test=sounds)


def test_it_is_the_same_wherever_it_lies(tmp_path: Path) -> None:
    first, second = many(tmp_path / "pets"), tmp_path / "b" / "pets"
    for file in sorted(first.rglob("*.png"), reverse=True):
        folder(second, file.relative_to(first).as_posix())
    assert [item.id for item in read_folder(first).train.items] == [
        item.id for item in read_folder(second).train.items
    ]
    one, two = load_dataset(first), load_dataset(second)
    assert one.sha256 == two.sha256
    assert one.train.items == two.train.items
    (second / "cat" / "1.png").write_bytes(b"changed")
    assert load_dataset(second).sha256 != one.sha256


def test_what_is_no_example_is_passed_over(tmp_path: Path) -> None:
    many(tmp_path)
    before = load_dataset(tmp_path)
    assert before.notes == ()
    folder(tmp_path, "cat/.hidden.png", ".git/1.png")
    os.mkfifo(tmp_path / "cat" / "fifo.png")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert load_dataset(tmp_path).sha256 == before.sha256
    folder(tmp_path, "README.md", "cat/Thumbs.db")
    assert load_dataset(tmp_path).notes == (f"{tmp_path}: 2 other files are left out",)


def test_labels_in_two_spellings(tmp_path: Path) -> None:
    folder(many(tmp_path, 10), "Cat/1.png", "Cat/2.png", "Cat/3.png")
    dataset = load_dataset(tmp_path)
    assert dataset.labels == ("Cat", "cat", "dog")
    assert "differ only in case" in dataset.notes[0]
    assert load_dataset(tmp_path, normalize=True).labels == ("cat", "dog")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "no IMDB reviews here, and no pictures or sounds in a folder a class"),
        (("readme.txt",), "no IMDB reviews here, and no pictures or sounds"),
        (("cat/1.png", "cat/2.png", "cat/3.png"), "all of it is of one class, 'cat'"),
        (("a/1.png", "b/1.png"), "2 files are too few; give three or more"),
        (("a/1.png", "b/1.wav"), r"has pictures \(a/1\.png\) and sounds \(b/1\.wav\)"),
        (("a/1.png", "2.png"), r"2\.png: is in no folder of a class \(pets/CLASS/FILE\)"),
        (("train/1.png", "test/b/1.png"), r"train/1\.png: is in no folder of a class"),
    ],
)
def test_folders_that_nothing_can_be_learnt_from(
    tmp_path: Path, names: tuple[str, ...], message: str
) -> None:
    path = tmp_path / "pets"
    path.mkdir()
    with pytest.raises(DataError, match=message):
        load_dataset(folder(path, *names))


def test_a_file_that_cannot_be_read_is_an_item_with_an_error(tmp_path: Path) -> None:
    many(tmp_path)
    (tmp_path / "cat" / "empty.png").touch()
    name = os.fsencode(tmp_path / "cat") + b"/caf\xe9.png"
    Path(os.fsdecode(name)).write_bytes(b"x")
    found = read_folder(tmp_path).train.items
    assert len(found) == 62
    assert {item.id: item.error.message for item in found if item.error} == {
        "cat/empty.png": "it is empty",
        "cat/caf\\udce9.png": "its name is not UTF-8",
    }
    with pytest.raises(DataError, match="nowhere: No such file"):
        read_folder(tmp_path / "nowhere")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    many(tmp_path)
    (tmp_path / "cat").chmod(0)
    try:
        with pytest.raises(DataError, match="cat: Permission denied"):
            load_dataset(tmp_path)
    finally:
        (tmp_path / "cat").chmod(0o700)


# --- MNIST's files -------------------------------------------------------------------------------


def idx(path: Path, name: str, values: np.ndarray, packed: bool = True) -> None:
    header = b"\0\0\x08" + bytes([values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    data = header + values.astype(np.uint8).tobytes()
    file = path / f"{name}-ubyte{'.gz' if packed else ''}"
    file.write_bytes(gzip.compress(data) if packed else data)


def mnist(path: Path, *, packed: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """40 pictures of two classes to train on, 10 to test; those of the test."""
    path.mkdir(exist_ok=True)
    for split, count in (("train", 40), ("t10k", 10)):
        pixels = np.random.default_rng(count).integers(0, 256, (count, 5, 4))
        numbers = np.arange(count) % 2 + 3
        idx(path, f"{split}-images-idx3", pixels, packed)
        idx(path, f"{split}-labels-idx1", numbers, packed)
    return pixels, numbers


@pytest.mark.parametrize("packed", [True, False])
def test_the_files_of_mnist(tmp_path: Path, packed: bool) -> None:
    pixels, numbers = mnist(tmp_path / "digits", packed=packed)
    dataset = load_dataset(tmp_path / "digits")
    assert (dataset.name, dataset.labels, dataset.kind) == ("digits", ("3", "4"), "image")
    assert [len(s) for s in (dataset.train, dataset.validation, dataset.test)] == [36, 4, 10]
    assert (dataset.test.labels + 3).tolist() == numbers.tolist()
    for number, item in enumerate(dataset.test.items):
        assert (item.id, item.media_type) == (f"test/0000{number}.png", "image/png")
        with Image.open(io.BytesIO(item.data or b"")) as image:
            assert np.array_equal(np.asarray(image), pixels[number])


def test_files_of_mnist_that_are_damaged_are_named(tmp_path: Path) -> None:
    mnist(tmp_path)
    images = tmp_path / "t10k-images-idx3-ubyte.gz"
    whole = images.read_bytes()
    for content, message in (
        (whole[:-20], r"t10k-images-idx3-ubyte\.gz: not a whole file"),
        (gzip.compress(gzip.decompress(whole)[:-1]), "has 199 bytes where 200 are said to be"),
        (gzip.compress(b"hello, world, hello"), "no IDX file of bytes in 3 dimensions"),
    ):
        images.write_bytes(content)
        with pytest.raises(DataError, match=message):
            load_dataset(tmp_path)
    images.unlink()
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte\.gz: is not there"):
        load_dataset(tmp_path)
    idx(tmp_path, "t10k-images-idx3", np.zeros((9, 5, 4)))
    with pytest.raises(DataError, match="9 pictures and 10 labels in the split 'test'"):
        load_dataset(tmp_path)


def test_the_labels_of_fashion_mnist_have_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from lmaas.training import idx as module

    mnist(tmp_path)
    labels = gzip.decompress((tmp_path / "train-labels-idx1-ubyte.gz").read_bytes())
    monkeypatch.setattr(module, "_FASHION", hashlib.sha256(labels).hexdigest())
    assert load_dataset(tmp_path).labels == ("Coat", "Dress")


def test_fashion_mnist_itself() -> None:
    path = Path(os.environ.get("LMAAS_DATASETS", "nowhere"), "fashion_mnist")
    if not path.is_dir():
        pytest.skip(f"no {path}")
    from lmaas.training.idx import _names, _read

    numbers = _read(path, "train", "labels-idx1-ubyte", 1, hashlib.sha256())
    assert [_names(numbers)(number) for number in (9, 0)] == ["Ankle boot", "T-shirt/top"]


def zipped(path: Path, source: Path, top: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(source.rglob("*"), reverse=True):
            if file.is_file():
                archive.write(file, top + file.relative_to(source).as_posix())
    return path


def test_an_archive_whose_first_file_is_empty_is_one_of_pictures(tmp_path: Path) -> None:
    pets = folder(many(tmp_path / "pets", top="train/"), "test/cat/1.png", "validation/cat/1.png")
    (pets / "train" / "cat" / "0.png").write_bytes(b"")
    dataset = load_dataset(zipped(tmp_path / "pets.zip", pets))
    first = dataset.train.items[0]
    assert first.error
    assert (first.id, first.media_type) == ("train/cat/0.png", "image/png")
    assert dataset.kind == "image"


@pytest.mark.parametrize("kind", ["zip", "zip of the folder", "tar", "tar.gz", "tgz", "tar.bz2"])
def test_an_archive_is_as_the_folder_in_it(tmp_path: Path, kind: str) -> None:
    pets = many(tmp_path / "pets")
    folder(pets, "notes.txt", ".hidden/x.png")
    if kind.startswith("zip"):
        path = zipped(tmp_path / "pets.zip", pets, "pets/" if "folder" in kind else "")
    else:
        path = tmp_path / f"pets.{kind}"
        with tarfile.open(path, f"w:{ {'tgz': 'gz', 'tar': ''}.get(kind, kind[4:]) }") as archive:
            archive.add(pets, "pets/2026")
    packed, unpacked = load_dataset(path), load_dataset(pets)
    assert (packed.name, packed.sha256, packed.labels) == ("pets", unpacked.sha256, unpacked.labels)
    assert packed.test.items == unpacked.test.items
    assert packed.train.items == unpacked.train.items
    assert any("other files are left out" in note for note in packed.notes)
    tested = load_dataset(pets, test=path)
    assert len(tested.test) == 60


def test_splits_of_an_archive_are_kept(tmp_path: Path) -> None:
    many(tmp_path / "pets", 10, "train/")
    folder(tmp_path / "pets", "test/cat/1.png")
    dataset = load_dataset(zipped(tmp_path / "pets.zip", tmp_path / "pets", "a/b/"))
    assert labels(dataset, dataset.test) == {"test/cat/1.png": "cat"}


def test_archives_that_cannot_be_learnt_from(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="an archive without pictures or sounds"):
        load_dataset(zipped(tmp_path / "t.zip", folder(tmp_path / "t", "a/1.txt")))
    path = zipped(tmp_path / "pets.zip", many(tmp_path / "pets"))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DataError, match="is no zip, or is damaged"):
        load_dataset(path)
    path = zipped(tmp_path / "flat.zip", folder(tmp_path / "flat", "1.png", "2.png"))
    with pytest.raises(DataError, match="is in no folder of a class"):
        load_dataset(path)
    with zipfile.ZipFile(tmp_path / "out.zip", "w") as archive:
        archive.writestr("../cat/1.png", b"1")
    with pytest.raises(DataError, match="no pictures or sounds in it"):
        load_dataset(tmp_path / "out.zip")
