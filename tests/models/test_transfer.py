"""What a network has learnt from five classes of Fashion-MNIST helps with the other five."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lmaas.training.datasets.dataset import Dataset, Split
from lmaas.training.datasets.loading import load_dataset
from lmaas.training.recipe import Recipe
from lmaas.training.train import train
from lmaas.workers.model_version import read_version

pytestmark = pytest.mark.models
DATA = Path(os.environ.get("LMAAS_DATASETS", "nowhere"), "fashion_mnist")
#: Pictures of each of the new classes, to learn from and to validate with.
FEW, VALIDATED = 10, 5


def of_classes(dataset: Dataset, classes: list[int]) -> Dataset:
    """Its pictures of these classes, which are numbered anew."""

    def chosen(split: Split) -> Split:
        kept = split.take(np.flatnonzero(np.isin(split.labels, classes)))
        return replace(kept, labels=np.searchsorted(classes, kept.labels).astype(np.int32))

    return replace(
        dataset,
        labels=tuple(dataset.labels[one] for one in classes),
        train=chosen(dataset.train),
        validation=chosen(dataset.validation),
        test=chosen(dataset.test),
    )


def few(dataset: Dataset) -> Dataset:
    def first(split: Split, count: int) -> Split:
        places = [np.flatnonzero(split.labels == one)[:count] for one in range(5)]
        return split.take(np.concatenate(places))

    return replace(
        dataset,
        train=first(dataset.train, FEW),
        validation=first(dataset.validation, VALIDATED),
    )


def test_transfer_beats_training_from_nothing(tmp_path: Path) -> None:
    if not DATA.is_dir():
        pytest.skip(f"no {DATA}")
    dataset = load_dataset(DATA)
    known = of_classes(dataset, [0, 2, 4, 6, 8])
    backbone = train(
        known, "cnn", out_root=tmp_path, name="known", recipe=Recipe(epochs=2, patience=2)
    )
    new = few(of_classes(dataset, [1, 3, 5, 7, 9]))
    recipes = {"nothing": Recipe(), "transfer": Recipe(encoder=str(backbone))}
    found = {}
    for name, recipe in recipes.items():
        version = read_version(train(new, out_root=tmp_path, name=name, recipe=recipe))
        found[name] = version.manifest.metrics["accuracy"]
    sys.stdout.write(f"accuracy on classes that it has {FEW} pictures each of: {found}\n")
    assert found["transfer"] > found["nothing"]
    assert found["transfer"] >= 0.86
