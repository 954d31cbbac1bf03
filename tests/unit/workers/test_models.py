"""Which versions are loaded, which one answers, and when another one does."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

from lmaas.broker_config.errors import DataError, ModelNotFound
from lmaas.broker_config.settings import Settings
from lmaas.workers.models import Models
from lmaas.workers.repository import Repository, activate
from lmaas.workers.runtime import Runtime


@pytest.fixture
def settings(repository: Path) -> Settings:
    """Versions 1, 2 and 10 of the shipped model."""
    return Settings(models=str(repository))


@pytest.fixture
def models(settings: Settings) -> Models:
    return Models(settings)


def version(runtime: Runtime | None) -> str | None:
    return runtime.manifest.version if runtime else None


def looked(models: Models) -> str | None:
    """What is found at two looks in a row, and switched to."""
    found = models.newer("sentiment") or models.newer("sentiment")
    if found:
        models.switch(found)
    return version(found)


# ------------------------------------------------------------------- what is loaded


def test_a_version_is_loaded_once_whoever_asks(models: Models) -> None:
    newest = models.load("sentiment")
    assert version(newest) == models.current["sentiment"] == "10"
    assert models.load("sentiment") is models.load("sentiment", "10") is newest


def test_what_was_not_asked_for_the_longest_time_makes_room(settings: Settings) -> None:
    size = Models(settings).load("sentiment").size
    models = Models(msgspec.structs.replace(settings, model_memory=2 * size))
    newest = models.load("sentiment")
    shutil.copytree(settings.model_folders[0] / "sentiment" / "1",
                    settings.model_folders[0] / "sentiment" / "3")  # fmt: skip
    first, second = models.load("sentiment", "1"), models.load("sentiment", "2")
    assert models.load("sentiment", "1") is first
    third = models.load("sentiment", "3")
    assert models.load("sentiment", "1") is first
    assert models.load("sentiment", "3") is third
    assert models.load("sentiment", "2") is not second
    assert models.load("sentiment") is newest


def test_a_version_is_loaded_even_if_there_is_room_for_none(settings: Settings) -> None:
    models = Models(msgspec.structs.replace(settings, model_memory=0))
    models.load("sentiment")
    first = models.load("sentiment", "1")
    assert models.load("sentiment", "1") is first
    models.load("sentiment", "2")
    assert models.load("sentiment", "1") is not first


def test_a_version_that_does_not_load_takes_nobodys_place(settings: Settings) -> None:
    size = Models(settings).load("sentiment").size
    models = Models(msgspec.structs.replace(settings, model_memory=size))
    first = models.load("sentiment", "1")
    for missing in ("7", "8", "9"):
        with pytest.raises(ModelNotFound):
            models.load("sentiment", missing)
    assert models.load("sentiment", "1") is first


# ------------------------------------------------------------------- which one answers


def test_a_newer_version_is_seen_when_it_has_been_copied(models: Models, repository: Path) -> None:
    old = models.load("sentiment")
    assert looked(models) is None
    new = repository / "sentiment" / "11"
    shutil.copytree(repository / "sentiment" / "1", new)
    assert models.newer("sentiment") is None, "somebody may still be copying"
    runtime = models.newer("sentiment")
    assert version(runtime) == "11"
    assert models.load("sentiment") is old, "not before it is switched to"
    assert runtime is not None
    models.switch(runtime)
    assert models.load("sentiment") is runtime
    assert models.load("sentiment", "10") is old
    assert looked(models) is None


def test_two_versions_that_are_copied_at_once_are_one_switch(
    models: Models, repository: Path
) -> None:
    models.load("sentiment")
    for number in ("11", "12"):
        shutil.copytree(repository / "sentiment" / "1", repository / "sentiment" / number)
    assert looked(models) == "12"
    assert looked(models) is None


def test_half_a_copy_is_told_once_and_used_when_it_is_whole(
    models: Models, repository: Path
) -> None:
    models.load("sentiment")
    half = repository / "sentiment" / "11"
    shutil.copytree(repository / "sentiment" / "1", half)
    (half / "model.onnx").unlink()
    for _ in range(4):
        assert models.newer("sentiment") is None
    (told,) = models.repository.told
    assert "left out, 10 is used instead" in told
    shutil.copyfile(repository / "sentiment" / "1" / "model.onnx", half / "model.onnx")
    assert looked(models) == "11"


def test_a_version_that_is_deleted_while_it_is_used_gives_way_to_the_one_before(
    models: Models, repository: Path
) -> None:
    old = models.load("sentiment")
    shutil.rmtree(repository / "sentiment" / "10")
    assert looked(models) == "2"
    assert models.load("sentiment", "10") is old, "what was begun with it goes on"


def test_without_any_version_left_the_loaded_one_goes_on(models: Models, repository: Path) -> None:
    shutil.copytree(repository / "sentiment", repository / "mine")
    newest = models.load("mine")
    shutil.rmtree(repository / "mine")
    assert models.newer("mine") is None
    with pytest.raises(ModelNotFound, match="no model 'mine'"):
        models.newer("mine")
    assert models.newer("mine") is None, "it was told"
    assert models.load("mine") is newest


def test_an_active_version_answers_until_the_newest_does_again(
    models: Models, repository: Path, settings: Settings
) -> None:
    models.load("sentiment")
    activate(repository, "sentiment", "2")
    assert looked(models) == "2"
    assert version(Models(settings).load("sentiment")) == "2"
    shutil.copytree(repository / "sentiment" / "1", repository / "sentiment" / "11")
    assert looked(models) is None
    activate(repository, "sentiment", None)
    assert looked(models) == "11"


@pytest.mark.parametrize("content", [b"7\n", b"", b"../1", b"\xff", b"newest", b"10 2"])
def test_an_active_file_that_names_nothing_is_told_and_the_newest_answers(
    models: Models, repository: Path, content: bytes
) -> None:
    (repository / "sentiment" / "active").write_bytes(content)
    assert version(models.load("sentiment")) == "10"
    (told,) = models.repository.told
    assert str(repository / "sentiment" / "active") in told


def test_an_active_version_that_is_damaged_gives_way_to_the_newest(
    models: Models, repository: Path
) -> None:
    activate(repository, "sentiment", "2")
    (repository / "sentiment" / "2" / "model.onnx").write_bytes(b"")
    assert version(models.load("sentiment")) == "10"
    assert "left out, 10 is used instead" in models.repository.told[0]


def test_activating_in_a_folder_of_ones_own_counts_for_a_model_of_another(
    tmp_path: Path, repository: Path
) -> None:
    own = tmp_path / "own"
    activate(own, "sentiment", "1")
    assert Repository(own, repository).find("sentiment").manifest.version == "1"
    assert [path.name for path in (own / "sentiment").iterdir()] == ["active"]


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="name another folder with --models"):
        activate(tmp_path / "file", "sentiment", "1")
