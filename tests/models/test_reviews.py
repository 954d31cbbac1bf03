"""IMDB by the networks that know the order of words: the figures of docs/models.md."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lmaas.training import imdb
from lmaas.training.datasets.loading import load_dataset
from lmaas.training.networks import Architecture
from lmaas.training.train import train
from lmaas.workers.repository import Repository
from lmaas.workers.runtime import Runtime

pytestmark = pytest.mark.models
ARCHIVE = Path(os.environ.get("LMAAS_DATASETS", "nowhere"), imdb.ARCHIVE)


@pytest.mark.parametrize(
    ("architecture", "least"), [("cnn", 0.885), ("transformer", 0.875), ("lstm", 0.875)]
)
def test_reviews_are_told_apart(tmp_path: Path, architecture: Architecture, least: float) -> None:
    if not ARCHIVE.is_file():
        pytest.skip(f"no {ARCHIVE}")
    dataset = load_dataset(ARCHIVE)
    train(dataset, architecture, out_root=tmp_path, name="reviews")
    scores = Runtime(Repository(tmp_path).find("reviews")).scores(dataset.test.items)
    accuracy = float((scores.argmax(axis=1) == dataset.test.labels).mean())
    print(f"\n{architecture}: {accuracy:.4f}")  # noqa: T201
    assert accuracy >= least
