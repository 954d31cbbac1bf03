"""Fashion-MNIST: the figure of docs/models.md (lmaas train fashion --data fashion_mnist/)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from lmaas.training.datasets.loading import load_dataset
from lmaas.training.train import train
from lmaas.workers.model_version import read_version
from lmaas.workers.runtime import Runtime

pytestmark = pytest.mark.models
DATA = Path(os.environ.get("LMAAS_DATASETS", "nowhere"), "fashion_mnist")


def test_fashion_mnist_is_learnt(tmp_path: Path) -> None:
    if not DATA.is_dir():
        pytest.skip(f"no {DATA}")
    dataset = load_dataset(DATA)
    version = read_version(train(dataset, "cnn", out_root=tmp_path, name="fashion"))
    scores = Runtime(version).scores(dataset.test.items)
    accuracy = (scores.argmax(axis=1) == dataset.test.labels).mean()
    print(f"\naccuracy {accuracy:.4f}")  # noqa: T201
    assert accuracy == version.manifest.metrics["accuracy"]
    assert accuracy >= 0.925
    assert np.allclose(scores.sum(axis=1), 1, atol=1e-4)
