"""What every test may ask for: a broker, settings of its own on it, the data sets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from lmaas.broker_config.errors import LocalNodeError
from lmaas.broker_config.local_node import LocalNode, installed_server
from lmaas.broker_config.settings import Settings
from tests import leaks, tls
from tests.payload_keys import new_keys

BROKER_URL = "LMAAS_TEST_BROKER_URL"

# An example is not slow because the machine is busy.
hypothesis.settings.register_profile("lmaas", deadline=None)
hypothesis.settings.load_profile("lmaas")


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get(leaks.SWITCH) == "1":
        config.pluginmanager.register(leaks.Search())


@pytest.fixture(scope="session")
def rabbitmq() -> Path:
    """The installed server's script. Without one a laptop skips, continuous integration fails."""
    try:
        return installed_server()
    except LocalNodeError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session", autouse=True)
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tls.Certificates | None]:
    """With LMAAS_TEST_TLS=1 those of all brokers that the suite starts."""
    if not tls.are_wanted():
        yield None
        return
    certificates = tls.Certificates(tmp_path_factory.mktemp("certificates"))
    with certificates.everywhere():
        yield certificates


@pytest.fixture(scope="session")
def broker_url(
    request: pytest.FixtureRequest, certificates: tls.Certificates | None
) -> Iterator[str]:
    """The broker named by LMAAS_TEST_BROKER_URL, or a private one for the whole session."""
    if named := os.environ.get(BROKER_URL):
        if certificates is not None and not named.startswith("amqps://"):
            pytest.fail(f"{tls.SWITCH} is set, and {BROKER_URL} is no amqps:// URL")
        yield named
        return
    request.getfixturevalue("rabbitmq")
    node = LocalNode()
    # A loop of its own: the node belongs to the session, the tests' loops to each test.
    asyncio.run(node.start())
    try:
        yield node.url
    finally:
        leaks.keep(node.folder / "log")
        asyncio.run(node.stop())


@pytest.fixture(autouse=True)
def _tls_as_marked(
    request: pytest.FixtureRequest, certificates: tls.Certificates | None
) -> Iterator[None]:
    if certificates is None:
        yield
        return
    if marker := request.node.get_closest_marker("plain_tcp"):
        pytest.skip(marker.args[0])
    own = request.node.get_closest_marker("own_tls") is not None
    with tls.nowhere() if own else contextlib.nullcontext():
        yield


@pytest.fixture(scope="session")
def payload_keys(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """With LMAAS_TEST_PAYLOAD_KEYS=1 a file of keys, by which the whole suite seals payloads."""
    if os.environ.get("LMAAS_TEST_PAYLOAD_KEYS") != "1":
        return None
    return new_keys(tmp_path_factory.mktemp("keys") / "payload.keys", "of-the-suite")


@pytest.fixture
def settings(broker_url: str, payload_keys: Path | None) -> Settings:
    """Settings of one test: names that no other test uses."""
    return Settings(
        broker_url=broker_url,
        prefix=f"test-{uuid.uuid4().hex[:12]}",
        connect_timeout=30,
        timeout=60,
        payload_keys=payload_keys and str(payload_keys),
        # Tests write messages of their own.
        accept_unsealed=payload_keys is not None,
    )


@pytest.fixture(autouse=True)
def _no_settings_from_outside(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, payload_keys: Path | None
) -> None:
    """What the developer has set, or what `lmaas up` left, is not for the tests."""
    for name in Settings.__struct_fields__:
        monkeypatch.delenv(f"LMAAS_{name.upper()}", raising=False)
    monkeypatch.delenv("LMAAS_CONFIG", raising=False)
    if payload_keys is not None:  # for the processes that tests start
        monkeypatch.setenv("LMAAS_PAYLOAD_KEYS", str(payload_keys))
        monkeypatch.setenv("LMAAS_ACCEPT_UNSEALED", "true")
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
