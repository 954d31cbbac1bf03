"""Trains every architecture on the IMDB reviews: how good, how long, how large, how fast.

Speeds are of one thread in this process: tokenizing and the model, packs of 256 reviews.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import rig
from benchmarks.report import Figure, Report, bars
from lmaas.training.datasets.dataset import Dataset
from lmaas.training.datasets.of_imdb import load_imdb
from lmaas.training.networks import Architecture
from lmaas.training.train import train
from lmaas.workers.repository import Repository
from lmaas.workers.runtime import Runtime

PACK = 256
PACKS = 10
#: Test accuracy to reach.
ACCURACY = "test accuracy"
GOALS: dict[Architecture, float] = {"gap": 0.875, "ngram": 0.900}


async def measure() -> Report:
    dataset = load_imdb(rig.imdb())
    with tempfile.TemporaryDirectory() as root:
        figures = [
            figure
            for architecture in GOALS
            for figure in _trained(dataset, architecture, Path(root))
        ]
    return Report(
        benchmark="training",
        setting="IMDB, 22,500 reviews to train on, 2,500 to validate, 25,000 to test",
        figures=figures,
        plots=[
            bars("Test accuracy on IMDB", "share of 25,000 reviews", _accuracies(figures),
                 ours=_accuracies(figures)),
        ],
    )  # fmt: skip


def _accuracies(figures: Sequence[Figure]) -> dict[str, float]:
    return {figure.name: figure.value for figure in figures if figure.name.endswith(ACCURACY)}


def _trained(dataset: Dataset, architecture: Architecture, root: Path) -> list[Figure]:
    start = time.perf_counter()
    path = train(dataset, architecture, out_root=root, name=architecture)
    seconds = time.perf_counter() - start
    version = Repository(root).find(architecture)
    metrics = version.manifest.metrics
    size = sum(file.stat().st_size for file in path.iterdir()) / 1e6
    speed = _speed(Runtime(version), dataset)
    return [
        Figure(name=f"{architecture}: {ACCURACY}", value=metrics["accuracy"], unit="",
               at_least=GOALS[architecture]),
        Figure(name=f"{architecture}: calibration error", value=metrics["calibration_error"],
               unit=""),
        Figure(name=f"{architecture}: training and export", value=seconds, unit="s", at_most=600),
        Figure(name=f"{architecture}: folder", value=size, unit="MB", at_most=10),
        Figure(name=f"{architecture}: tokenize and run, one core", value=speed, unit="reviews/s"),
    ]  # fmt: skip


def _speed(runtime: Runtime, dataset: Dataset) -> float:
    texts = dataset.test.texts[:: len(dataset.test) // (PACK * PACKS)][: PACK * PACKS]
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        for i in range(0, len(texts), PACK):
            runtime.scores(rig.items(texts[i : i + PACK]))
        best = min(best, time.perf_counter() - start)
    return len(texts) / best
