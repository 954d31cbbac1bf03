"""The model repository: which version is found, and what is said of a damaged one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lmaas.broker_config.errors import ModelDamaged, ModelNotFound
from lmaas.workers.repository import Repository


def change_manifest(folder: Path, **changes: Any) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_newest_version_is_the_highest_number(repository: Path) -> None:
    found = Repository(repository)
    assert found.models() == ["sentiment"]
    assert found.versions("sentiment") == ["1", "2", "10"]
    assert found.find("sentiment").manifest.version == "10"
    assert found.manifest("sentiment").version == "10"


def test_an_asked_version_is_found(repository: Path) -> None:
    found = Repository(repository).find("sentiment", "2")
    assert found.manifest.version == "2"
    assert found.path == repository / "sentiment" / "2"


def test_a_version_that_is_copied_in_is_found_at_the_next_look(repository: Path) -> None:
    found = Repository(repository)
    assert found.find("sentiment").manifest.version == "10"
    (repository / "sentiment" / "10").rename(repository / "sentiment" / "11")
    change_manifest(repository / "sentiment" / "11", version="11")
    assert found.find("sentiment").manifest.version == "11"


@pytest.mark.parametrize("name", ["01", "0", "-1", "1.5", "new", "١", "²", ".11"])
def test_a_folder_that_is_no_plain_number_is_no_version(repository: Path, name: str) -> None:
    (repository / "sentiment" / "10").rename(repository / "sentiment" / name)
    assert Repository(repository).versions("sentiment") == ["1", "2"]


def test_files_and_empty_folders_beside_models_are_ignored(repository: Path) -> None:
    (repository / "README.md").write_text("models")
    (repository / "empty").mkdir()
    (repository / "sentiment" / "11").write_text("a file")
    assert Repository(repository).models() == ["sentiment"]
    assert Repository(repository).versions("sentiment")[-1] == "10"


@pytest.mark.parametrize(
    "name",
    ["nope", "", ".", "..", "../models/sentiment", "a/b", "sentiment/", "\0", "x\0", "\ud800"],
)
def test_a_strange_name_finds_nothing(repository: Path, name: str) -> None:
    (repository / "1").mkdir()  # "" or "." would make the root itself a model
    with pytest.raises(ModelNotFound, match="no model"):
        Repository(repository).find(name)
    with pytest.raises(ModelNotFound):
        Repository(repository).manifest(name)


def test_an_overlong_name_finds_nothing(repository: Path) -> None:
    with pytest.raises(ModelNotFound):
        Repository(repository).find("x" * 5_000)


@pytest.mark.parametrize("version", ["3", "", "01", "..", "../1", "1/../2", "\0", "newest", "²"])
def test_a_strange_version_finds_nothing(repository: Path, version: str) -> None:
    with pytest.raises(ModelNotFound, match="versions there: 1, 2, 10"):
        Repository(repository).find("sentiment", version)
    with pytest.raises(ModelNotFound):
        Repository(repository).manifest("sentiment", version)


def test_a_repository_that_is_not_there_has_no_models(tmp_path: Path) -> None:
    assert Repository(tmp_path / "nowhere").models() == []
    with pytest.raises(ModelNotFound, match="models there: none"):
        Repository(tmp_path / "nowhere").find("sentiment")


@pytest.mark.parametrize("name", ["model.onnx", "vocabulary.txt"])
def test_a_changed_file_is_named(repository: Path, name: str) -> None:
    path = repository / "sentiment" / "10" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelDamaged, match=name) as failure:
        Repository(repository).find("sentiment")
    assert str(path) in str(failure.value)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize("name", ["model.onnx", "vocabulary.txt", "manifest.json"])
def test_a_missing_file_is_named(repository: Path, name: str) -> None:
    (repository / "sentiment" / "10" / name).unlink()
    with pytest.raises(ModelDamaged, match=name):
        Repository(repository).find("sentiment")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b'{"name": 1}'])
def test_a_damaged_manifest_is_named(repository: Path, content: bytes) -> None:
    path = repository / "sentiment" / "10" / "manifest.json"
    path.write_bytes(content)
    with pytest.raises(ModelDamaged, match=r"10/manifest\.json"):
        Repository(repository).find("sentiment")


@pytest.mark.parametrize("listed", ["model.onnx", "vocabulary.txt"])
def test_a_manifest_that_does_not_list_a_file_it_needs_is_damaged(
    repository: Path, listed: str
) -> None:
    folder = repository / "sentiment" / "10"
    files = json.loads((folder / "manifest.json").read_text())["files"]
    change_manifest(folder, files={listed: files[listed]})
    missing = ({"model.onnx", "vocabulary.txt"} - {listed}).pop()
    with pytest.raises(ModelDamaged, match=f"does not list {missing}"):
        Repository(repository).find("sentiment")


def test_damage_in_one_version_leaves_the_others_usable(repository: Path) -> None:
    (repository / "sentiment" / "10" / "model.onnx").write_bytes(b"")
    assert Repository(repository).find("sentiment", "2").manifest.version == "2"
