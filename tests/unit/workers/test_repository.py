"""The model repository: which version is found, and what is said of a damaged one."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest

from lmaas.broker_config.errors import ModelDamaged, ModelNotFound
from lmaas.broker_config.messages import Item
from lmaas.broker_config.settings import Settings
from lmaas.workers.model_version import ModelVersion
from lmaas.workers.plain_files import read_plain
from lmaas.workers.repository import Repository, opened
from lmaas.workers.runtime import Runtime
from tests.unit.workers import networks


def change_manifest(folder: Path, **changes: Any) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_newest_version_is_the_highest_number(repository: Path) -> None:
    found = Repository(repository)
    assert found.models() == ["sentiment"]
    assert found.versions("sentiment") == ["1", "2", "10"]
    assert found.find("sentiment").manifest.version == "10"


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


def test_an_overlong_name_finds_nothing(repository: Path) -> None:
    with pytest.raises(ModelNotFound):
        Repository(repository).find("x" * 5_000)


@pytest.mark.parametrize("version", ["3", "", "01", "..", "../1", "1/../2", "\0", "newest", "²"])
def test_a_strange_version_finds_nothing(repository: Path, version: str) -> None:
    with pytest.raises(ModelNotFound, match="versions there: 1, 2, 10"):
        Repository(repository).find("sentiment", version)


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
        Repository(repository).find("sentiment", "10")
    assert str(path) in str(failure.value)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize("name", ["model.onnx", "vocabulary.txt", "manifest.json"])
def test_a_missing_file_is_named(repository: Path, name: str) -> None:
    (repository / "sentiment" / "10" / name).unlink()
    with pytest.raises(ModelDamaged, match=name):
        Repository(repository).find("sentiment", "10")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b'{"name": 1}',
        b'{"name": "x", "metrics": {"a": ' + b"[" * 100_000,
    ],
)
def test_a_damaged_manifest_is_named(repository: Path, content: bytes) -> None:
    path = repository / "sentiment" / "10" / "manifest.json"
    path.write_bytes(content)
    with pytest.raises(ModelDamaged, match=r"10/manifest\.json"):
        Repository(repository).find("sentiment", "10")


@pytest.mark.parametrize("listed", ["model.onnx", "vocabulary.txt"])
def test_a_manifest_that_does_not_list_a_file_it_needs_is_damaged(
    repository: Path, listed: str
) -> None:
    folder = repository / "sentiment" / "10"
    files = json.loads((folder / "manifest.json").read_text())["files"]
    change_manifest(folder, files={listed: files[listed]})
    missing = ({"model.onnx", "vocabulary.txt"} - {listed}).pop()
    with pytest.raises(ModelDamaged, match=f"does not list {missing}"):
        Repository(repository).load("sentiment", "10", Runtime)


def test_damage_in_one_version_leaves_the_others_usable(repository: Path) -> None:
    (repository / "sentiment" / "10" / "model.onnx").write_bytes(b"")
    assert Repository(repository).find("sentiment", "2").manifest.version == "2"


# ------------------------------------------------------- what cannot be used is left out


def spoil(folder: Path, how: str) -> None:
    match how:
        case "no manifest":
            (folder / "manifest.json").unlink()
        case "no model":
            (folder / "model.onnx").unlink()
        case "half a model":
            with (folder / "model.onnx").open("r+b") as file:
                file.truncate(1000)
        case "junk":
            (folder / "manifest.json").write_text("[1, 2")
        case "no labels":
            change_manifest(folder, labels=[])
        case "twin labels":
            change_manifest(folder, labels=["same", "same"])
        case "a folder for a file":
            (folder / "model.onnx").unlink()
            (folder / "model.onnx").mkdir()
        case "a pipe for a file":
            (folder / "vocabulary.txt").unlink()
            os.mkfifo(folder / "vocabulary.txt")
        case _:
            disguise(folder, how)


def disguise(folder: Path, how: str) -> None:
    """What somebody may do who supplies a model and wants other files to be read."""
    match how:
        case "a device for a file":
            put_a_link(folder / "vocabulary.txt", "/dev/zero")
        case "an endless manifest":
            put_a_link(folder / "manifest.json", "/dev/zero")
        case "a pipe for a manifest":
            (folder / "manifest.json").unlink()
            os.mkfifo(folder / "manifest.json")
        case "a link to a file of another version":
            put_a_link(folder / "model.onnx", "../1/model.onnx")
        case "a link to a file beside it":
            shutil.copyfile(folder / "model.onnx", folder / "graph.onnx")
            put_a_link(folder / "model.onnx", "graph.onnx")
        case "a folder that is a link":
            list_too(folder, "more/vocabulary.txt", folder / "vocabulary.txt")
            (folder / "more").symlink_to("../1", target_is_directory=True)
        case _:
            list_too(folder, LISTED[how], folder / "vocabulary.txt")


def put_a_link(place: Path, target: str) -> None:
    place.unlink()
    place.symlink_to(target)


#: Names that no manifest may list.
LISTED = {
    "a name of several ways": "./vocabulary.txt",
    "a way out": "../1/vocabulary.txt",
    "a way out and in": "../10/vocabulary.txt",
    "a file of the machine": "/etc/hostname",
    "a device of the machine": "/dev/zero",
    "no name": "",
    "the folder": ".",
    "a name with a line break": "vocabulary\n.txt",
    "a name that ends too soon": "vocabulary.txt\0",
}


def list_too(folder: Path, name: str, like: Path) -> None:
    """Let the manifest list another name, with the sha256 of a file that is there."""
    files = json.loads((folder / "manifest.json").read_text())["files"]
    sha256 = hashlib.sha256(like.read_bytes()).hexdigest()
    change_manifest(folder, files=files | {name: sha256})


WAYS = (
    "no manifest", "no model", "half a model", "junk", "no labels", "twin labels",
    "a folder for a file", "a pipe for a file", "a device for a file", "an endless manifest",
    "a pipe for a manifest", "a link to a file of another version", "a link to a file beside it",
    "a folder that is a link", *LISTED,
)  # fmt: skip


@pytest.mark.parametrize("how", WAYS)
def test_a_version_that_cannot_be_used_is_left_out_and_told_once(
    repository: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    spoil(repository / "sentiment" / "10", how)
    found = Repository(repository)
    assert [found.find("sentiment").manifest.version for _ in range(3)] == ["2", "2", "2"]
    (warning,) = caplog.messages
    assert "'sentiment' version 10: " in warning
    assert "2 is used instead" in warning
    assert str(repository / "sentiment" / "10") in warning
    assert re.search("again|remove", warning), "it says what to do"
    assert "\n" not in warning


@pytest.mark.parametrize("how", WAYS)
def test_a_version_that_was_asked_for_is_not_replaced_by_another(
    repository: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    spoil(repository / "sentiment" / "10", how)
    with pytest.raises(ModelDamaged, match="'sentiment' version 10: "):
        Repository(repository).find("sentiment", "10")
    assert caplog.messages == []


def test_when_no_version_can_be_used_each_is_told(repository: Path) -> None:
    for version, how in (("1", "junk"), ("2", "no manifest"), ("10", "no model")):
        spoil(repository / "sentiment" / version, how)
    with pytest.raises(ModelDamaged) as failure:
        Repository(repository).find("sentiment")
    for told in (r"10/model.onnx is missing", r"2/manifest.json is missing", r"1/manifest.json: "):
        assert told in str(failure.value)


def test_a_version_that_its_user_cannot_use_is_left_out(
    repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def only_old(found: ModelVersion) -> str:
        if found.manifest.version != "1":
            raise ModelDamaged("too new")
        return "made"

    assert Repository(repository).load("sentiment", None, only_old) == "made"
    assert [words.rpartition(": ")[2] for words in caplog.messages] == ["too new", "too new"]


def test_the_machine_being_in_trouble_damages_nothing(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_many(*_: object, **__: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "open", too_many)
    with pytest.raises(OSError, match="Too many open files"):
        Repository(repository).find("sentiment")


@pytest.mark.parametrize("kind", ["a pipe", "a device", "endless"])
def test_an_active_file_that_is_no_plain_file_is_told_and_the_newest_answers(
    repository: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = repository / "sentiment" / "active"
    if kind == "a pipe":
        os.mkfifo(file)
    elif kind == "a device":
        file.symlink_to("/dev/zero")
    else:
        file.write_bytes(b"1" * 2000)
    assert Repository(repository).find("sentiment").manifest.version == "10"
    (told,) = caplog.messages
    assert str(file) in told
    assert told.endswith("the newest version of sentiment answers")


def test_the_folder_of_a_version_may_be_a_link_of_whoever_runs_this(repository: Path) -> None:
    (repository / "sentiment" / "11").symlink_to("10", target_is_directory=True)
    assert Repository(repository).find("sentiment").manifest.version == "11"


def test_a_file_in_a_folder_of_the_version_can_be_listed(repository: Path) -> None:
    folder = repository / "sentiment" / "10"
    (folder / "more").mkdir()
    shutil.copyfile(folder / "vocabulary.txt", folder / "more" / "words é.txt")
    list_too(folder, "more/words é.txt", folder / "vocabulary.txt")
    found = Repository(repository).find("sentiment")
    assert found.content("more/words é.txt") == found.content("vocabulary.txt")


def test_a_version_of_more_bytes_than_may_be_is_left_out(
    repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = repository / "sentiment" / "10"
    size = sum(map(len, Repository(repository).find("sentiment").contents.values()))
    (folder / "more").write_bytes(b"x")
    list_too(folder, "more", folder / "more")
    assert Repository(repository, most=size + 1).find("sentiment").manifest.version == "10"
    assert Repository(repository, most=size).find("sentiment").manifest.version == "2"
    (told,) = caplog.messages
    assert re.search(r"10/\S+: it has [0-9,]+ bytes, of which at most [0-9,]+ are read", told)


def test_a_file_that_grows_while_it_is_read_is_damage(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in /proc, where files have no size."""
    with pytest.raises(ModelDamaged, match="changed while it was read"):
        read_plain(Path("/proc/self"), "status", 1000)


@pytest.mark.parametrize("name", ["vocabulary.txt", "model.onnx.data"])
def test_what_runs_is_made_of_the_bytes_that_were_compared(tmp_path: Path, name: str) -> None:
    """Somebody overwrites files and puts links in their place between the two."""
    folder = networks.save(tmp_path / "m" / "1", external="model.onnx.data")
    networks.describe(folder, ["a", "b"], "model.onnx.data")

    def use(found: ModelVersion) -> Runtime:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(bytes(len(content)))
        (folder / "model.onnx").unlink()
        (folder / "model.onnx").symlink_to("/dev/zero")
        return Runtime(found)

    runtime = Repository(tmp_path).load("m", None, use)
    ((label, score, _),) = runtime.labelled([Item(id="1", text="good")])
    assert (label, score) == ("b", 0.9)


def test_what_was_loaded_keeps_none_of_the_bytes_of_the_files(tmp_path: Path) -> None:
    folder = networks.save(tmp_path / "m" / "1", external="model.onnx.data")
    networks.describe(folder, ["a", "b"], "model.onnx.data")
    found = Repository(tmp_path).find("m")
    before = {name: sys.getrefcount(content) for name, content in found.contents.items()}
    runtime = Runtime(found)
    assert runtime.size == sum(map(len, found.contents.values()))
    after = {name: sys.getrefcount(content) for name, content in found.contents.items()}
    assert after == before


# ------------------------------------------------------------------- several folders


@pytest.fixture
def other(repository: Path, tmp_path: Path) -> Path:
    """Another folder: version 2 again and 3 of the same model, and a model of its own."""
    root = tmp_path / "other"
    for version in ("2", "3"):
        shutil.copytree(repository / "sentiment" / "1", root / "sentiment" / version)
    shutil.copytree(repository / "sentiment" / "1", root / "mine" / "1")
    return root


def test_the_versions_of_a_model_are_those_of_all_folders(repository: Path, other: Path) -> None:
    shutil.rmtree(repository / "sentiment" / "10")
    found = Repository(repository, other)
    assert found.models() == ["mine", "sentiment"]
    assert found.versions("sentiment") == ["1", "2", "3"]
    assert found.find("sentiment").path == other / "sentiment" / "3"
    assert found.find("mine").path == other / "mine" / "1"
    assert found.next_version("sentiment") == "4"
    assert found.next_version("new") == "1"


def test_of_equal_versions_the_first_folder_has_the_one_that_counts(
    repository: Path, other: Path
) -> None:
    assert Repository(repository, other).find("sentiment", "2").path.parents[1] == repository
    assert Repository(other, repository).find("sentiment", "2").path.parents[1] == other


def test_a_half_copied_version_gives_way_to_the_same_in_another_folder(
    repository: Path, other: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spoil(other / "sentiment" / "2", "no manifest")
    assert Repository(other, repository).find("sentiment", "2").path.parents[1] == repository
    assert len(caplog.messages) == 1


def test_a_version_is_called_as_its_folders_are(other: Path) -> None:
    found = Repository(other).find("mine")
    assert (found.manifest.name, found.manifest.version) == ("mine", "1")
    assert Repository(other).find("sentiment").manifest.version == "3"


def test_whatever_has_a_number_takes_it(repository: Path) -> None:
    (repository / "sentiment" / "12").write_text("a file")
    assert Repository(repository).next_version("sentiment") == "13"


def test_a_folder_that_was_named_and_is_not_there_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(models=str(tmp_path / "typo"))
    assert opened(settings).find("sentiment").manifest.name == "sentiment"
    (warning,) = caplog.messages
    assert warning.startswith(f"{tmp_path / 'typo'} is no folder")


# ------------------------------------------------------------------- external weights


def test_weights_in_a_file_that_is_not_listed_are_damage(tmp_path: Path) -> None:
    folder = networks.save(tmp_path / "m" / "1", external="model.onnx.data")
    assert (folder / "model.onnx.data").stat().st_size > 0
    with pytest.raises(ModelDamaged, match=r"weights are in 'model\.onnx\.data', which the man"):
        Repository(tmp_path).find("m")


def test_weights_in_a_file_that_is_listed_are_compared(tmp_path: Path) -> None:
    folder = networks.save(tmp_path / "m" / "1", external="model.onnx.data")
    networks.describe(folder, ["a", "b"], "model.onnx.data")
    runtime = Runtime(Repository(tmp_path).find("m"))
    ((label, score, _),) = runtime.labelled([Item(id="1", text="good")])
    assert (label, score) == ("b", 0.9)
    content = bytearray((folder / "model.onnx.data").read_bytes())
    content[0] ^= 1
    (folder / "model.onnx.data").write_bytes(content)
    with pytest.raises(ModelDamaged, match=r"model\.onnx\.data: sha256 is "):
        Repository(tmp_path).find("m")


@pytest.mark.parametrize(
    "location", ["elsewhere.data", "../2/elsewhere.data", "{cwd}/elsewhere.data", "/dev/zero"]
)
def test_weights_are_read_from_nowhere_but_the_listed_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    """Not even from the folder that a worker runs in, when they are hidden from a first look."""
    folder = networks.save(tmp_path / "m" / "1", external="model.onnx.data")
    weights = (folder / "model.onnx.data").read_bytes()
    (tmp_path / "m" / "2").mkdir()
    for place in (tmp_path, tmp_path / "m" / "2"):
        (place / "elsewhere.data").write_bytes(weights)
    (folder / "model.onnx.data").unlink()
    monkeypatch.chdir(tmp_path)
    graph = onnx.load(folder / "model.onnx", load_external_data=False)
    for tensor in graph.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location.format(cwd=tmp_path)
    (folder / "model.onnx").write_bytes(graph.SerializeToString())
    networks.describe(folder, ["a", "b"])
    monkeypatch.setattr("lmaas.workers.model_version._external", lambda *_: ())
    with pytest.raises(ModelDamaged, match="ONNX Runtime cannot load it"):
        Repository(tmp_path).load("m", "1", Runtime)


def test_files_that_the_model_does_not_use_may_lie_there(repository: Path) -> None:
    (repository / "sentiment" / "10" / "notes.txt").write_text("not listed")
    assert Repository(repository).find("sentiment").manifest.version == "10"
