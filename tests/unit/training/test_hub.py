"""Models by their names on the Hugging Face hub: its client library against a server of our own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest

from lmaas.broker_config.errors import DataError
from lmaas.training import hub
from lmaas.training.hub import Name
from lmaas.workers.model_version import read_manifest
from tests.unit.training import graphs
from tests.unit.training.hub_server import NEW, OLD, Hub

REPO = "somebody/some-model"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Files as the hub has them, with some that nobody needs."""
    folder = graphs.folder(tmp_path_factory.mktemp("hub") / "model")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    graph = files.pop("model.onnx")
    return files | {
        "onnx/model.onnx": graph,
        "onnx/model_int8.onnx": b"a smaller one",
        "README.md": b"...",
        "pytorch_model.bin": b"weights",
        "model.safetensors": b"more weights",
    }


@pytest.fixture
def served(
    model: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Hub]:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.chdir(tmp_path)
    with Hub().served() as server:
        server.add(REPO, {**model, "config.json": b"{}"}, OLD, "v1")
        server.add(REPO, model, NEW)
        at(server.url, monkeypatch)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield server


def at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What HF_ENDPOINT does when the library is imported."""
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a/b", Name("a/b", None, None)),
        ("sentence-transformers/all-MiniLM-L6-v2", Name("sentence-transformers/all-MiniLM-L6-v2",
                                                        None, None)),
        ("a/b@v1.0", Name("a/b", None, "v1.0")),
        ("a/b@refs/pr/1", Name("a/b", None, "refs/pr/1")),
        ("a/b/onnx/model_int8.onnx@v1", Name("a/b", "onnx/model_int8.onnx", "v1")),
        ("word", Name("word", None, None)),
        ("word@v1", Name("word", None, "v1")),
        ("here", None),
        ("model.onnx", None),
        ("/a/b", None),
        ("../a/b", None),
        ("a/b/c", None),
        ("a/model.onnx", None),
        ("here/b", None),
    ],
)  # fmt: skip
def test_names(
    given: str, expected: Name | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    assert hub.name_of(Path(given)) == expected


def test_only_what_is_needed_is_downloaded_and_only_once(
    served: Hub, model: dict[str, bytes]
) -> None:
    folder = hub.encoder(Path(REPO))
    assert sorted(served.sent) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert (folder / "tokenizer.json").read_bytes() == model["tokenizer.json"]
    assert hub.origin(folder) == (REPO, NEW)
    assert hub.called(folder) == f"{REPO}@{NEW}"
    assert hub.encoder(Path(REPO)) == folder
    assert len(served.sent) == 3
    hub.graph(Path(REPO))
    assert served.sent[3:] == ["onnx/model.onnx"]
    named = hub.graph(Path(f"{REPO}/onnx/model_int8.onnx"))
    assert named == folder / "onnx" / "model_int8.onnx"
    assert served.sent[4:] == ["onnx/model_int8.onnx"]
    assert not any("token" in headers.get("authorization", "") for headers in served.headers)


def test_what_is_no_path_and_no_name_is_told() -> None:
    for given in ("/nowhere/model", "a/b/c"):
        with pytest.raises(DataError, match=f"{given}: there is no such file or folder"):
            hub.graph(Path(given))
    with pytest.raises(
        DataError, match=r"https://there/model\.onnx: only files are read; fetch it"
    ):
        hub.encoder(Path("https://there/model.onnx"))


def test_the_oldest_models_have_no_owner(served: Hub, model: dict[str, bytes]) -> None:
    served.add("some-model", model, NEW)
    folder = hub.encoder(Path("some-model"))
    assert (hub.origin(folder), hub.called(folder)) == (
        ("some-model", NEW), f"some-model@{NEW}",
    )  # fmt: skip


def test_a_folder_here_is_taken_first(served: Hub, tmp_path: Path) -> None:
    (tmp_path / REPO).mkdir(parents=True)
    assert hub.encoder(Path(REPO)) == Path(REPO)
    assert hub.graph(Path(REPO)) == Path(REPO)
    assert served.headers == []
    assert hub.called(tmp_path / REPO) == "some-model"


def test_a_revision_is_a_tag_a_branch_or_a_commit(served: Hub) -> None:
    for revision in ("v1", OLD):
        folder = hub.encoder(Path(f"{REPO}@{revision}"))
        assert (folder / "config.json").read_bytes() == b"{}"
        assert hub.origin(folder) == (REPO, OLD)
    with pytest.raises(DataError, match=f"{REPO}: http.* has no revision 'v9'"):
        hub.encoder(Path(f"{REPO}@v9"))


def test_what_cannot_be_downloaded_is_told(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"nobody/none: neither a folder here nor a model at http"):
        hub.encoder(Path("nobody/none"))
    served.gated.add(REPO)
    with pytest.raises(DataError, match="its owner lets only some download it: ask for that"):
        hub.encoder(Path(REPO))
    at("http://127.0.0.1:9", monkeypatch)
    with pytest.raises(DataError, match=r"not in the cache \(.*\), and http.* cannot be reached"):
        hub.encoder(Path(REPO))


def test_what_was_downloaded_is_there_without_a_connection(
    served: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = hub.encoder(Path(REPO))
    at("http://127.0.0.1:9", monkeypatch)
    assert hub.encoder(Path(REPO)) == folder


def test_its_telemetry_is_off(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_DISABLE_TELEMETRY", raising=False)
    # As where somebody has imported the library before.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_TELEMETRY", False)
    hub.encoder(Path(REPO))
    assert os.environ.pop("HF_HUB_DISABLE_TELEMETRY") == "1"
    assert huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY
    found = [
        path
        for folder in ("broker_config", "producer", "workers", "service", "training", "lmaas")
        for path in (Path(__file__).parents[3] / folder).rglob("*.py")
        if re.search(r"^\s*(import|from) huggingface_hub", path.read_text(), re.MULTILINE)
    ]
    assert [path.name for path in found] == ["hub.py"]


def test_a_private_model_is_imported_by_its_name(served: Hub, tmp_path: Path) -> None:
    """As a user does it: nothing but the environment says where the hub is, and the token."""
    served.tokens[REPO] = "hf_secret"
    environment = {
        **os.environ, "HF_ENDPOINT": served.url, "HF_HOME": str(tmp_path / "home"),
        "LMAAS_MODELS": str(tmp_path / "models"), "HF_TOKEN": "hf_secret",
    }  # fmt: skip
    environment.pop("HF_HUB_CACHE", None)
    arguments = [sys.executable, "-m", "lmaas", "models", "import", REPO]
    ended = subprocess.run(
        arguments, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    version = tmp_path / "models" / "some-model" / "1"
    assert ended.stdout == f"{version}\n"
    manifest = read_manifest(version)
    assert manifest.training["repository"] == REPO
    assert manifest.training["revision"] == NEW
    assert "hf_secret" not in ended.stderr
    assert b"hf_secret" not in b"".join(one.read_bytes() for one in version.iterdir())
    assert served.headers[0]["authorization"] == "Bearer hf_secret"
    with pytest.raises(DataError, match="neither a folder here nor a model at") as refused:
        hub.graph(Path(REPO))
    assert "set HF_TOKEN to a token that may read it" in str(refused.value)
