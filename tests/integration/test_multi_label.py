"""Texts with several labels, from a table to the answers."""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from lmaas.broker_config.extras import NEWEST_PYTHON

if sys.version_info[:2] > NEWEST_PYTHON:
    pytest.skip("there is no TensorFlow for this Python", allow_module_level=True)

from lmaas.broker_config.messages import Item
from lmaas.broker_config.settings import Settings
from lmaas.cli.train import command
from lmaas.producer.client import Client
from lmaas.training.datasets.dataset import Dataset
from lmaas.training.datasets.loading import load_dataset
from lmaas.training.networks import Architecture
from lmaas.training.recipe import Recipe
from lmaas.training.train import train
from lmaas.workers.repository import Repository
from lmaas.workers.runtime import Runtime
from lmaas.workers.worker import Worker
from tests.integration.lanes import serving

#: The words that give a label away.
WORDS = {"price": ["cheap", "cost"], "delivery": ["late", "parcel"], "quality": ["broken", "solid"]}
OTHERS = ["the", "order", "was", "then", "mine", "and", "so", "it", "is"]


def rows(size: int, seed: int) -> list[tuple[str, list[str]]]:
    """Texts with none, one, two or all labels."""
    source = random.Random(seed)
    made = []
    for _ in range(size):
        labels = [label for label in WORDS if source.random() < 0.4]
        words = source.choices(OTHERS, k=4) + [source.choice(WORDS[label]) for label in labels]
        source.shuffle(words)
        made.append((" ".join(words), labels))
    return made


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "orders.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(
            [("text", "label"), *((text, "; ".join(labels)) for text, labels in rows(300, 1))]
        )
    return path


@pytest.fixture(scope="module")
def dataset(table: Path) -> Dataset:
    return load_dataset(table, separator=";")


@pytest.fixture(scope="module")
def models(table: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a linear model that the command has trained, and what that printed."""
    folder = tmp_path_factory.mktemp("models")
    asked = ["orders", "--data", str(table), "--multi-label", "--arch", "linear"]
    ended = CliRunner().invoke(command, [*asked, "--models", str(folder)], catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    return folder, ended.output


def test_the_command_tells_how_good_each_label_is(models: tuple[Path, str]) -> None:
    folder, told = models
    assert "3 labels, any number a text" in told
    assert "micro F1" in told
    assert "exactly right" in told
    assert "most confused" not in told
    version = Repository(folder).find("orders")
    assert version.manifest.multi_label
    metrics = version.manifest.metrics
    assert metrics["micro_f1"] > 0.9
    assert set(metrics["classes"]) == set(WORDS)
    page = (version.path / "evaluation.html").read_text()
    assert "Missed labels" in page
    assert "Confusion" not in page


def test_a_text_has_all_labels_of_its_words(models: tuple[Path, str]) -> None:
    runtime = Runtime(Repository(models[0]).find("orders"))
    texts = ["so cheap and late", "the order", "solid", "cost parcel broken"]
    found = runtime.named(runtime.scores([Item(id="", text=text) for text in texts]), top_k=0)
    assert [sorted(labels or []) for *_, labels in found] == [
        ["delivery", "price"],
        [],
        ["quality"],
        ["delivery", "price", "quality"],
    ]


@pytest.fixture
async def worker(settings: Settings, models: tuple[Path, str]) -> AsyncIterator[Worker]:
    async with serving(msgspec.structs.replace(settings, models=str(models[0]))) as worker:
        yield worker


async def test_it_is_served(worker: Worker, settings: Settings, models: tuple[Path, str]) -> None:
    async with Client(settings) as client:
        result = await client.classify("orders", "so cheap and late")
        assert set(result.labels or []) == {"delivery", "price"}
        assert result.label == (result.labels or [])[0]
        assert (await client.classify("orders", "the order")).labels == []


def test_what_was_written_can_be_learnt_from(models: tuple[Path, str], tmp_path: Path) -> None:
    """Of files with answers, lists in JSON Lines are several labels by themselves."""
    path, answers = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text, _ in rows(40, 5)))
    asked = ["classify", str(path), "--model", "orders", "-o", str(answers)]
    environment = {**os.environ, "LMAAS_MODELS": str(models[0]), "LMAAS_PROCESSES": "1"}
    subprocess.run([sys.executable, "-m", "lmaas", *asked], env=environment, check=True)
    dataset = load_dataset(answers)
    assert dataset.multi_label
    assert dataset.labels == ("delivery", "price", "quality")


def test_a_network_of_words(dataset: Dataset, tmp_path: Path) -> None:
    """The others are in tests/models."""
    trained(dataset, "gap", tmp_path, Recipe(epochs=1, batch=64))


def trained(dataset: Dataset, architecture: Architecture, folder: Path, recipe: Recipe) -> None:
    """What is exported is compared with Keras, and refused if it differs."""
    train(dataset, architecture, out_root=folder, name="orders", recipe=recipe)
    version = Repository(folder).find("orders")
    runtime = Runtime(version)
    scores = runtime.scores([Item(id="", text=text) for text, _ in rows(20, 9)])
    assert version.manifest.multi_label
    assert ((scores >= 0) & (scores <= 1)).all()
    # They are not a softmax's.
    assert np.abs(scores.sum(axis=1) - 1).max() > 0.01
    curves: Any = version.manifest.training["curves"]
    assert len(curves["val_accuracy"]) == 1
