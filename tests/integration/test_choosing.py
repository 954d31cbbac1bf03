"""`--arch auto` through the functions that the command line calls."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
import pytest

from lmaas.broker_config.extras import NEWEST_PYTHON

if sys.version_info[:2] > NEWEST_PYTHON:
    pytest.skip("there is no TensorFlow for this Python", allow_module_level=True)

from lmaas.training import choosing
from lmaas.training.datasets.cutting import ENOUGH
from lmaas.training.datasets.dataset import Dataset, Split, text_items
from lmaas.training.recipe import Recipe
from lmaas.training.train import train
from lmaas.workers.repository import Repository

WORDS = ["card", "payment", "transfer"]


def split(size: int, seed: int) -> Split:
    generator = random.Random(seed)
    labels = np.arange(size, dtype=np.int32) % len(WORDS)
    texts = [f"w{generator.randrange(30)} {WORDS[label]}" for label in labels]
    return Split(items=text_items(texts), labels=labels)


def test_the_choice_is_in_the_manifest(tmp_path: Path) -> None:
    told: list[tuple[str, float]] = []
    data = Dataset(
        name="asked",
        labels=tuple(WORDS),
        train=split(90, 1),
        validation=split(ENOUGH, 2),
        test=split(30, 3),
        sha256="0" * 64,
    )
    recipe = Recipe(epochs=1, batch=64)
    train(
        data, "auto", out_root=tmp_path, name="asked", recipe=recipe,
        tell=lambda *one: told.append(one),
    )  # fmt: skip
    manifest = Repository(tmp_path).find("asked").manifest
    assert [name for name, _ in told] == ["linear", "ngram"]
    assert manifest.training["tried"] == {name: round(figure, 4) for name, figure in told}
    assert manifest.architecture == max(told, key=lambda one: one[1])[0]
    lines = choosing.told(
        manifest.architecture, manifest.training, manifest.dataset, manifest.metrics["accuracy"]
    )
    assert len(lines) == 3
