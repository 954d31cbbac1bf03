"""Trains every architecture on the IMDB reviews: how good, how long, how large, how fast.

    python -m benchmarks.training --data PATH [--json FILE]

The versions go to a temporary folder. Speeds are of one thread in this process: tokenizing and
the model, packs of 256 reviews.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from training.architectures import ARCHITECTURES, Architecture
from training.datasets import Dataset, load_imdb
from training.train import train
from workers.repository import Repository
from workers.runtime import Runtime

PACK = 256
PACKS = 10


def measure(dataset: Dataset, architecture: Architecture, root: Path) -> dict[str, Any]:
    start = time.perf_counter()
    path = train(dataset, architecture, out_root=root, name=architecture)
    seconds = time.perf_counter() - start
    version = Repository(root).find(architecture)
    metrics = version.manifest.metrics
    return {
        "accuracy": metrics["accuracy"],
        "calibration_error": round(metrics["calibration_error"], 4),
        "best_epoch": version.manifest.training["best_epoch"],
        "seconds": round(seconds, 1),
        "megabytes": round(sum(file.stat().st_size for file in path.iterdir()) / 1e6, 2),
        "reviews_per_second": round(_speed(Runtime(version), dataset)),
    }


def _speed(runtime: Runtime, dataset: Dataset) -> float:
    texts = dataset.test.texts[:: len(dataset.test) // (PACK * PACKS)][: PACK * PACKS]
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        for i in range(0, len(texts), PACK):
            runtime.scores(texts[i : i + PACK])
        best = min(best, time.perf_counter() - start)
    return len(texts) / best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=os.environ.get("LMAAS_DATASETS"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("give the IMDB archive or its folder with --data PATH")
    dataset = load_imdb(Path(arguments.data))
    table = Table("architecture", "test accuracy", "ECE", "seconds", "MB", "reviews/s")
    figures = {}
    with tempfile.TemporaryDirectory() as root:
        for architecture in ARCHITECTURES:
            found = figures[architecture] = measure(dataset, architecture, Path(root))
            table.add_row(
                architecture,
                f"{found['accuracy']:.4f}",
                f"{found['calibration_error']:.4f}",
                f"{found['seconds']:.0f}",
                f"{found['megabytes']:.1f}",
                f"{found['reviews_per_second']:,}",
            )
    console = Console()
    console.print(table)
    console.print_json(json.dumps(figures))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
