"""A small network of pictures, trained from a folder a class and served through the queue."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from lmaas.broker_config.extras import NEWEST_PYTHON

if sys.version_info[:2] > NEWEST_PYTHON:
    pytest.skip("there is no TensorFlow for this Python", allow_module_level=True)

from lmaas.broker_config.errors import DataError
from lmaas.broker_config.messages import Item
from lmaas.broker_config.settings import Settings
from lmaas.producer.client import Client
from lmaas.training.datasets.dataset import Dataset, Split
from lmaas.training.datasets.loading import load_dataset
from lmaas.training.networks.pictures import PictureNetwork, build, moved
from lmaas.training.recipe import Recipe
from lmaas.training.train import train
from lmaas.workers.preprocess.image import Images
from lmaas.workers.repository import Repository
from lmaas.workers.runtime import Runtime
from tests.integration.lanes import serving

RANDOM = np.random.default_rng(5)


def picture(label: str, path: Path, number: int) -> None:
    """16 x 16: a light square for a box, a light line for a bar, somewhere on the dark."""
    pixels = RANDOM.integers(0, 60, (16, 16), dtype=np.uint8)
    top, left = RANDOM.integers(2, 8, 2)
    height, width = (6, 6) if label == "box" else (2, 8)
    pixels[top : top + height, left : left + width] += 150
    path.mkdir(parents=True, exist_ok=True)
    suffix = ("png", "bmp")[number % 2]
    Image.fromarray(pixels).save(path / f"{number}.{suffix}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "shapes"
    for number in range(60):
        for label in ("box", "bar"):
            picture(label, root / label, number)
    return root


@pytest.fixture(scope="module")
def dataset(folder: Path) -> Dataset:
    return load_dataset(folder)


@pytest.fixture(scope="module")
def models(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    cut = Item(id="bar/cut.png", data=(dataset.test.items[0].data or b"")[:60])
    whole = Split.of(dataset.train, Split(items=[cut], labels=np.zeros(1, np.int32)))
    notes: list[str] = []
    train(
        replace(dataset, train=whole),
        "cnn",
        out_root=root,
        name="shapes",
        recipe=Recipe(epochs=3, batch=16),
        note=notes.append,
    )
    (note,) = notes
    assert note.startswith("shapes: 1 of 121 pictures cannot be used: bar/cut.png: the picture is")
    return root


def test_it_is_learnt_and_exported(models: Path, dataset: Dataset) -> None:
    version = Repository(models).find("shapes")
    manifest = version.manifest
    assert manifest.labels == ["bar", "box"]
    assert (manifest.dataset["train"], manifest.dataset["left_out"]) == (len(dataset.train), 1)
    assert (manifest.inputs[0].dtype, manifest.inputs[0].shape) == ("uint8", [None, 16, 16, 1])
    assert manifest.preprocessing["channels"] == "grey"
    assert manifest.batching.unit == "pixels"
    scores = Runtime(version).scores(dataset.test.items)
    accuracy = (scores.argmax(axis=1) == dataset.test.labels).mean()
    assert accuracy == manifest.metrics["accuracy"] > 0.9


async def test_it_is_served_beside_what_is_no_picture(
    models: Path, dataset: Dataset, settings: Settings
) -> None:
    served = msgspec.structs.replace(settings, models=str(models))
    good = dataset.test.items
    cut = Item(id="cut", data=(good[0].data or b"")[:60], media_type="image/png")
    items = [*good[:3], cut, Item(id="words", text="a box"), *good[3:]]
    async with serving(served), Client(served) as client:
        results = [result async for result in client.classify_many("shapes", items)]
    assert [result.id for result in results] == [item.id for item in items]
    errors = {result.id: result.error for result in results if result.error}
    assert {name: error.code for name, error in errors.items()} == dict.fromkeys(
        ("cut", "words"), "invalid_item"
    )
    assert "cut off or damaged" in errors["cut"].message
    named = Runtime(Repository(models).find("shapes")).labelled(good)
    found = [(result.label, result.score) for result in results if not result.error]
    assert [label for label, _ in found] == [label for label, *_ in named]
    assert [score for _, score in found] == pytest.approx([one[1] for one in named], abs=2e-6)


def test_what_is_no_picture_is_named_before_the_training(folder: Path, tmp_path: Path) -> None:
    dataset = load_dataset(folder)
    for number in range(1, 15, 2):
        item = dataset.train.items[number]
        broken = msgspec.structs.replace(item, data=b"GIF89a")
        dataset.train.items[number] = broken
    with pytest.raises(DataError, match=r"7 of 120 pictures cannot be .*bar/.*; and 4 more"):
        train(dataset, "cnn", out_root=tmp_path, name="shapes")
    assert Repository(tmp_path).models() == []


def test_photos_become_squares_with_colours() -> None:
    images = Images(size=(32, 32), layout="nhwc", scale=1.0)
    pixels = RANDOM.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    network = PictureNetwork(build(pixels, 5), images)
    assert network.scores(pixels).sum(axis=1) == pytest.approx(np.ones(4), abs=1e-5)
    graph = network.graph()
    dimensions = graph.graph.input[0].type.tensor_type.shape.dim
    assert [one.dim_value for one in dimensions] == [0, 32, 32, 3]


def test_pictures_are_moved_a_little_and_no_more() -> None:
    pixels = np.zeros((200, 25, 25, 1), np.uint8)
    pixels[:, 12, 3] = 255
    found = moved(pixels, np.random.default_rng(1), mirrored=True)
    places = np.argwhere(found == 255)
    assert len(places) == 200
    assert set(places[:, 1]) == {10, 11, 12, 13, 14}
    assert set(places[:, 2]) == {1, 2, 3, 4, 5, *range(19, 24)}
    same = moved(pixels, np.random.default_rng(1), mirrored=False)
    assert set(np.argwhere(same == 255)[:, 2]) == {1, 2, 3, 4, 5}
