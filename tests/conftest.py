"""What every test may ask for: a broker, settings of its own on it, the data sets."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from lmaas.broker_config.errors import LocalNodeError
from lmaas.broker_config.local_node import LocalNode, installed_server
from lmaas.broker_config.settings import Settings

BROKER_URL = "LMAAS_TEST_BROKER_URL"

# An example is not slow because the machine is busy.
hypothesis.settings.register_profile("lmaas", deadline=None)
hypothesis.settings.load_profile("lmaas")


@pytest.fixture(scope="session")
def rabbitmq() -> Path:
    """The installed server's script. Without one a laptop skips, continuous integration fails."""
    try:
        return installed_server()
    except LocalNodeError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def broker_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The broker named by LMAAS_TEST_BROKER_URL, or a private one for the whole session."""
    if named := os.environ.get(BROKER_URL):
        yield named
        return
    request.getfixturevalue("rabbitmq")
    node = LocalNode()
    # A loop of its own: the node belongs to the session, the tests' loops to each test.
    asyncio.run(node.start())
    try:
        yield node.url
    finally:
        asyncio.run(node.stop())


@pytest.fixture
def settings(broker_url: str) -> Settings:
    """Settings of one test: names that no other test uses, and short time limits."""
    prefix = f"test-{uuid.uuid4().hex[:12]}"
    return Settings(broker_url=broker_url, prefix=prefix, connect_timeout=10, timeout=30)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the developer has set, or what `lmaas up` left, is not for the tests."""
    for name in Settings.__struct_fields__:
        monkeypatch.delenv(f"LMAAS_{name.upper()}", raising=False)
    monkeypatch.delenv("LMAAS_CONFIG", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture(scope="session")
def datasets() -> Path:
    """The folder in LMAAS_DATASETS; `aclImdb_v1.tar.gz` and others are looked for in it."""
    named = os.environ.get("LMAAS_DATASETS")
    if not named:
        pytest.skip("LMAAS_DATASETS does not name the folder of the data sets")
    return Path(named).absolute()


@pytest.fixture(scope="session")
def imdb(datasets: Path) -> Path:
    """The IMDB archive as its authors publish it."""
    path = datasets / "aclImdb_v1.tar.gz"
    if not path.is_file():
        pytest.skip(f"{path.name} is not in LMAAS_DATASETS")
    return path


@pytest.fixture(scope="session")
def minilm(datasets: Path) -> Path:
    """A pretrained encoder, as its folder from the Hugging Face hub."""
    path = datasets / "minilm"
    if not (path / "model.safetensors").is_file():
        pytest.skip(f"{path.name}/ is not in LMAAS_DATASETS")
    return path
