"""The Free Spoken Digit Dataset in small, and files that are held out."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from lmaas.broker_config.errors import DataError
from lmaas.training.datasets.dataset import Split
from lmaas.training.datasets.loading import load_dataset

SPEAKERS = ("anna", "bo_li")
NAMES = [
    f"{digit}_{speaker}_{index}.wav"
    for digit in range(3)
    for speaker in SPEAKERS
    for index in (0, 4, 5, 10, 49)
]


def folder(path: Path) -> Path:
    (path / "recordings").mkdir(parents=True)
    for name in NAMES:
        (path / "recordings" / name).write_bytes(name.encode())
    (path / "README.md").write_text("digits")
    (path / "recordings" / "notes.wav").write_text("none of them")
    return path


def archive(path: Path, top: str = "") -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name in ["README.md", *(f"recordings/{name}" for name in reversed(NAMES))]:
            member = tarfile.TarInfo(top + name)
            content = Path(name).name.encode()
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def ids(split: Split) -> set[str]:
    return {item.id for item in split.items}


@pytest.mark.parametrize("top", [None, "", "free-spoken-digit-dataset-1.0.10/"])
def test_the_split_is_that_of_its_authors(tmp_path: Path, top: str | None) -> None:
    path = folder(tmp_path / "d") if top is None else archive(tmp_path / "fsdd.tar.gz", top)
    dataset = load_dataset(path)
    assert (dataset.name, dataset.labels, dataset.kind) == (
        "spoken digits",
        ("0", "1", "2"),
        "audio",
    )
    assert ids(dataset.test) == {name for name in NAMES if name.endswith(("_0.wav", "_4.wav"))}
    assert ids(dataset.train) | ids(dataset.validation) == set(NAMES) - ids(dataset.test)
    assert dataset.sha256 == load_dataset(folder(tmp_path / "other")).sha256
    for split in (dataset.train, dataset.validation, dataset.test):
        for item, label in zip(split.items, split.labels.tolist(), strict=True):
            assert item.id[0] == dataset.labels[label]
            assert (item.data, item.media_type) == (item.id.encode(), "audio/wav")


@pytest.mark.parametrize("speaker", SPEAKERS)
def test_a_speaker_is_held_out(tmp_path: Path, speaker: str) -> None:
    dataset = load_dataset(archive(tmp_path / "fsdd.tgz"), hold_out=f"*_{speaker}_*")
    assert ids(dataset.test) == {name for name in NAMES if speaker in name}
    others = ids(dataset.train) | ids(dataset.validation)
    assert others == {name for name in NAMES if speaker not in name}


def test_files_of_a_folder_are_held_out(tmp_path: Path) -> None:
    for label in ("yes", "no"):
        for split in ("train", "test"):
            for name in ("anna_1", "anna_2", "anna_3", "bo_1"):
                file = tmp_path / split / label / f"{name}.wav"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(b"a sound")
    dataset = load_dataset(tmp_path, hold_out="*/bo_*")
    assert ids(dataset.test) == {
        f"{split}/{label}/bo_1.wav" for split in ("train", "test") for label in ("yes", "no")
    }
    assert len(dataset.train) + len(dataset.validation) == 12


@pytest.mark.parametrize(("pattern", "words"), [("*_eve_*", "none of"), ("*.wav", "all of")])
def test_a_pattern_must_part_the_files(tmp_path: Path, pattern: str, words: str) -> None:
    with pytest.raises(DataError, match=f"{words} the files match .*their names are as '0_anna_"):
        load_dataset(folder(tmp_path / "d"), hold_out=pattern)


def test_texts_cannot_be_held_out_by_name(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("text,label\na,b\n")
    with pytest.raises(DataError, match="no pictures or sounds, of which files"):
        load_dataset(table, hold_out="*")


def test_a_cut_archive_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "fsdd.tar.gz")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="not a whole tar archive"):
        load_dataset(path)


def test_without_recordings_to_learn_from(tmp_path: Path) -> None:
    (tmp_path / "recordings").mkdir()
    (tmp_path / "recordings" / "1_anna_3.wav").write_bytes(b"a sound")
    with pytest.raises(DataError, match="with an index from 5"):
        load_dataset(tmp_path)
