"""Banking77 by a pretrained encoder, where texts to learn from are few, or there are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmaas.training.create import create, read_labels
from lmaas.training.datasets.dataset import Dataset
from lmaas.training.recipe import Recipe
from lmaas.training.train import train
from lmaas.workers.model_version import read_version
from lmaas.workers.runtime import Runtime
from tests.models.test_own_texts import banking, few

pytestmark = pytest.mark.models


def accuracy(folder: Path, data: Dataset) -> float:
    version = read_version(folder)
    scores = Runtime(version).scores(data.test.items)
    labels = [version.manifest.labels[best] for best in scores.argmax(axis=1)]
    right = [
        label == data.labels[true] for label, true in zip(labels, data.test.labels, strict=True)
    ]
    return sum(right) / len(right)


@pytest.mark.parametrize("unfreeze", [0, 7])
def test_all_texts(minilm: Path, tmp_path: Path, unfreeze: int) -> None:
    """Frozen, and all of it learns."""
    data = banking()
    recipe = Recipe(encoder=str(minilm), unfreeze=unfreeze)
    found = accuracy(train(data, "encoder", out_root=tmp_path, name="all", recipe=recipe), data)
    print(f"\naccuracy {found:.4f}")  # noqa: T201
    assert found >= 0.925


@pytest.mark.parametrize("seed", [0, 1])
def test_ten_texts_a_class(minilm: Path, tmp_path: Path, seed: int) -> None:
    data = few(seed)
    recipe = Recipe(encoder=str(minilm))
    found = accuracy(train(data, "encoder", out_root=tmp_path, name="few", recipe=recipe), data)
    print(f"\naccuracy {found:.4f}")  # noqa: T201
    assert found >= 0.82


def test_labels_alone(minilm: Path, tmp_path: Path) -> None:
    data = banking()
    names = tmp_path / "labels.txt"
    names.write_text("\n".join(data.labels))
    found = accuracy(create("labels", read_labels(names), minilm, out_root=tmp_path), data)
    print(f"\naccuracy {found:.4f}")  # noqa: T201
    assert found >= 0.62
