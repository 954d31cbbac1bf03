"""Trains every architecture on the IMDB reviews: how good, how long, how large, how fast.

Speeds are of one thread in this process: tokenizing and the model, packs of 256 reviews.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks import rig
from benchmarks.report import Figure, Report
from training.architectures import ARCHITECTURES, Architecture
from training.datasets import Dataset, load_imdb
from training.train import train
from workers.repository import Repository
from workers.runtime import Runtime

PACK = 256
PACKS = 10
#: Test accuracy to reach.
GOALS = {"gap": "0.875", "ngram": "0.900"}


async def measure() -> Report:
    dataset = load_imdb(rig.imdb())
    with tempfile.TemporaryDirectory() as root:
        figures = [
            figure
            for architecture in ARCHITECTURES
            for figure in _trained(dataset, architecture, Path(root))
        ]
    return Report(
        benchmark="training",
        setting="IMDB, 22,500 reviews to train on, 2,500 to validate, 25,000 to test",
        figures=figures,
    )


def _trained(dataset: Dataset, architecture: Architecture, root: Path) -> list[Figure]:
    start = time.perf_counter()
    path = train(dataset, architecture, out_root=root, name=architecture)
    seconds = time.perf_counter() - start
    version = Repository(root).find(architecture)
    metrics = version.manifest.metrics
    size = sum(file.stat().st_size for file in path.iterdir()) / 1e6
    values = (
        ("test accuracy", metrics["accuracy"], "", GOALS[architecture]),
        ("calibration error", metrics["calibration_error"], "", ""),
        ("training and export", seconds, "s", "600"),
        ("folder", size, "MB", "10"),
        ("tokenize and run, one core", _speed(Runtime(version), dataset), "reviews/s", ""),
    )
    return [
        Figure(name=f"{architecture}: {name}", value=value, unit=unit, goal=goal)
        for name, value, unit, goal in values
    ]


def _speed(runtime: Runtime, dataset: Dataset) -> float:
    texts = dataset.test.texts[:: len(dataset.test) // (PACK * PACKS)][: PACK * PACKS]
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        for i in range(0, len(texts), PACK):
            runtime.scores(texts[i : i + PACK])
        best = min(best, time.perf_counter() - start)
    return len(texts) / best
