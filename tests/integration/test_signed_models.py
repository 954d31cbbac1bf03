"""Workers that serve only what was signed, on a real broker."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from lmaas.broker_config.errors import ModelNotFound
from lmaas.broker_config.settings import Settings
from lmaas.cli.models_sign import sign_version
from lmaas.producer.client import Client
from lmaas.workers.signing import SigningKey, write_pair
from lmaas.workers.worker import Worker
from tests.integration.lanes import serving, until
from tests.unit.workers import networks


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    write_pair(tmp_path / "key")
    return SigningKey.read(tmp_path / "key")


@pytest.fixture
def settings(settings: Settings, tmp_path: Path, key: SigningKey) -> Settings:
    """Models `mine`, signed, and `stranger`, which is not."""
    settings = msgspec.structs.replace(
        settings, models=str(tmp_path / "models"), model_keys=str(tmp_path / "key.pub")
    )
    sign_version(networks.save(tmp_path / "models" / "mine" / "1"), key, settings)
    networks.save(tmp_path / "models" / "stranger" / "1")
    return settings


@pytest.fixture
async def worker(settings: Settings) -> AsyncIterator[Worker]:
    async with serving(settings, Worker(settings)) as worker:
        yield worker


async def test_others_are_served_on(
    settings: Settings, worker: Worker, client: Client, key: SigningKey
) -> None:
    assert list(worker.models) == ["mine"]
    assert (await client.classify("mine", "good")).label == "label 1"
    with pytest.raises(ModelNotFound):
        await client.classify("stranger", "good")
    told = worker.execution.loaded.repository.told
    assert any("stranger" in words and "it is not signed" in words for words in told)

    # A version that was changed after it was signed does not become the one that answers ...
    folder = settings.new_models / "mine"
    sign_version(networks.save(folder / "2", [(0.9, 0.1)] * 5), key, settings)
    manifest = json.loads((folder / "2" / "manifest.json").read_bytes())
    content = json.dumps(manifest | {"labels": ["wrong", "wrong, too"]})
    (folder / "2" / "manifest.json").write_text(content)

    async def is_told() -> bool:
        return any("is not the one that was signed" in words for words in told)

    await until(is_told)
    assert (await client.classify("mine", "good")).label == "label 1"
    # ... and who signed it may say that this is right.
    sign_version(folder / "2", key, settings)

    async def has_switched() -> bool:
        return worker.versions["mine"] == "2"

    await until(has_switched)
    assert (await client.classify("mine", "good")).label == "wrong"
