"""The shipped model, and small repositories to damage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lmaas.broker_config.settings import Settings
from lmaas.workers.repository import Repository
from lmaas.workers.runtime import Runtime

MODELS = Path(__file__).parents[3] / "models"


@pytest.fixture(scope="session")
def runtime() -> Runtime:
    """The shipped model, with batches so small that every pack needs several."""
    return Runtime(Repository(MODELS).find("sentiment"), batch_units=2_048)


@pytest.fixture
def worker_settings() -> Settings:
    return Settings(models=str(MODELS))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with versions 1, 2 and 10 of the shipped model, to be spoiled."""
    (shipped,) = (MODELS / "sentiment").glob("1")
    for version in ("1", "2", "10"):
        folder = tmp_path / "models" / "sentiment" / version
        shutil.copytree(shipped, folder)
        manifest = folder / "manifest.json"
        text = manifest.read_text(encoding="utf-8")
        text = text.replace('"version": "1"', f'"version": "{version}"')
        manifest.write_text(text.replace('"version":"1"', f'"version":"{version}"'))
    return tmp_path / "models"
