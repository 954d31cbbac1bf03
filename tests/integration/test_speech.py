"""A network of sounds in a folder a class: trained, exported, and run as a worker runs it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from lmaas.broker_config.extras import NEWEST_PYTHON

if sys.version_info[:2] > NEWEST_PYTHON:
    pytest.skip("there is no TensorFlow for this Python", allow_module_level=True)

from lmaas.broker_config.errors import DataError
from lmaas.broker_config.messages import Item
from lmaas.training import networks
from lmaas.training.datasets.dataset import Dataset, Split
from lmaas.training.datasets.loading import load_dataset
from lmaas.training.networks import Fitted
from lmaas.training.recipe import Recipe
from lmaas.training.train import train
from lmaas.workers.repository import Repository
from lmaas.workers.runtime import Runtime
from tests.unit.workers.sounds import encoded, tone

#: Pitches, in Hz, by class.
PITCHES = {"low": 250, "middle": 700, "high": 2000}
KINDS = [("WAV", 8_000), ("FLAC", 8_000), ("OGG", 16_000), ("WAV", 44_100)]
RECIPE = Recipe(epochs=2, batch=8)


def sound(label: str, number: int = 0) -> tuple[str, bytes]:
    """Suffix and content; no two are alike."""
    kind, rate = KINDS[number % len(KINDS)]
    pitch = PITCHES[label] * (0.9 + 0.01 * (number % 20))
    samples = tone(pitch, 0.1 + 0.02 * number, rate)
    stereo = np.stack([samples, samples / 2], axis=1)
    return kind.lower(), encoded(stereo if number % 2 else samples, rate, kind)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("data") / "pitches"
    for label in PITCHES:
        (folder / label).mkdir(parents=True)
        for number in range(14):
            suffix, content = sound(label, number)
            (folder / label / f"{number:02}.{suffix}").write_bytes(content)
    return load_dataset(folder)


@pytest.fixture(scope="module")
def models(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model `pitches`."""
    root = tmp_path_factory.mktemp("models")
    hour = Item(id="low/hour.flac", data=encoded(np.zeros(3600 * 8000), 8000, "FLAC"))
    whole = Split.of(dataset.train, Split(items=[hour], labels=np.zeros(1, np.int32)))
    notes: list[str] = []
    train(
        replace(dataset, train=whole),
        "cnn",
        out_root=root,
        name="pitches",
        recipe=RECIPE,
        note=notes.append,
    )
    (note,) = notes
    assert "1 of 43 sounds cannot be used: low/hour.flac: it is 3,600.0 s long" in note
    return root


def test_it_is_learnt(models: Path, dataset: Dataset) -> None:
    version = Repository(models).find("pitches")
    manifest = version.manifest
    assert manifest.labels == ["high", "low", "middle"]
    assert manifest.preprocessing["rate"] == 8_000
    assert manifest.batching.unit == "frames"
    scores = Runtime(version).scores(dataset.train.items)
    assert (scores.argmax(axis=1) == dataset.train.labels).mean() > 0.8


def test_what_fills_up_changes_nothing(models: Path) -> None:
    """As much as rounding does, whatever the lengths and the number of neighbours are."""
    version = Repository(models).find("pitches")
    items = [Item(id="", data=sound("low", number)[1]) for number in (0, 3, 40, 90)]
    alone = np.concatenate([Runtime(version).scores([item]) for item in items])
    for most, step in ((1 << 20, 1), (1 << 20, 16), (1 << 20, 37), (64, 3)):
        batching = msgspec.structs.replace(
            version.manifest.batching, most=most, length_step=step, row_step=2, overhead=1 << 20
        )
        manifest = msgspec.structs.replace(version.manifest, batching=batching)
        together = Runtime(version.__class__(version.path, manifest, version.contents))
        assert together.scores(items) == pytest.approx(alone, abs=1e-5)


def test_a_sound_that_is_none_is_named_before_the_training(dataset: Dataset) -> None:
    dataset.test.items[0], kept = Item(id="low/x.wav", data=b"none"), dataset.test.items[0]
    try:
        with pytest.raises(DataError, match=r"low/x\.wav: this is no WAV, FLAC or OGG file"):
            fit(dataset)
    finally:
        dataset.test.items[0] = kept


def fit(dataset: Dataset) -> Fitted:
    return networks.fit("cnn", dataset, RECIPE, None)
