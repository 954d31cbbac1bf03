"""The figures of docs/models.md on speech."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lmaas.broker_config.extras import NEWEST_PYTHON

if sys.version_info[:2] > NEWEST_PYTHON:
    pytest.skip("there is no TensorFlow for this Python", allow_module_level=True)

from lmaas.training.datasets.loading import load_dataset
from lmaas.training.train import train
from lmaas.workers.repository import Repository
from lmaas.workers.runtime import Runtime

pytestmark = pytest.mark.models

#: Accuracy at least, by the pattern of the files that are held out; None: the official split.
FIGURES = {
    None: 0.98,
    "*_george_*": 0.7,
    "*_jackson_*": 0.7,
    "*_lucas_*": 0.7,
    "*_nicolas_*": 0.7,
    "*_theo_*": 0.7,
    "*_yweweler_*": 0.7,
}


@pytest.fixture(scope="module")
def digits(datasets: Path) -> Path:
    path = datasets / "fsdd" / "fsdd.tar.gz"
    if not path.is_file():
        pytest.skip("fsdd/fsdd.tar.gz is not in LMAAS_DATASETS")
    return path


@pytest.mark.parametrize("pattern", FIGURES)
def test_spoken_digits(digits: Path, tmp_path: Path, pattern: str | None) -> None:
    dataset = load_dataset(digits, hold_out=pattern)
    assert len(dataset.test) == (500 if pattern else 300)
    train(dataset, "cnn", out_root=tmp_path, name="digits")
    version = Repository(tmp_path).find("digits")
    scores = Runtime(version).scores(dataset.test.items)
    accuracy = (scores.argmax(axis=1) == dataset.test.labels).mean()
    print(f"\naccuracy {accuracy:.4f}")  # noqa: T201
    assert accuracy == version.manifest.metrics["accuracy"] >= FIGURES[pattern]
