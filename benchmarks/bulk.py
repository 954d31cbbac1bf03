"""A file of IMDB reviews: in process on one core and on two, and through the queue."""

from __future__ import annotations

import csv
import filecmp
import tempfile
import time
from pathlib import Path

from benchmarks import rig
from benchmarks.report import Figure, Report
from broker_config.settings import Settings

#: The 25,000 test reviews so many times.
TIMES = 4
CORES = 2
#: The best of so many runs each, in turn: other work on the machine only ever slows down.
ROUNDS = 3


async def measure() -> Report:
    texts = rig.reviews() * TIMES
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "reviews.csv"
        _write(source, texts)
        rates: dict[str, list[float]] = {"one": [], "all": [], "queue": []}
        async with rig.broker() as settings, rig.workers(settings, CORES):
            for _ in range(ROUNDS):
                for name, arguments in _runs(settings).items():
                    target = Path(folder) / f"{name}.csv"
                    seconds = await _classify(settings, source, target, *arguments)
                    rates[name].append(len(texts) / seconds)
        same = all(
            filecmp.cmp(Path(folder) / "one.csv", Path(folder) / f"{name}.csv", shallow=False)
            for name in ("all", "queue")
        )
    one, everything, queue = (max(rates[name]) for name in ("one", "all", "queue"))
    return Report(
        benchmark="bulk",
        setting=f"a CSV of {len(texts):,} IMDB reviews; whole command, start included; "
        f"best of {ROUNDS}",
        figures=[
            Figure(name="in process, 1 process", value=one, unit="reviews/s", goal="12,000"),
            Figure(name=f"in process, {CORES} processes", value=everything, unit="reviews/s"),
            Figure(
                name=f"through the queue, {CORES} workers",
                value=queue,
                unit="reviews/s",
                goal="15,000",
            ),
            Figure(name="queue / in process", value=queue / everything, unit="", goal="0.6"),
            Figure(name="same bytes out on all ways", value=float(same), unit="", goal="1"),
        ],
    )


def _write(path: Path, texts: list[str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "review"])
        writer.writerows(enumerate(texts))


def _runs(settings: Settings) -> dict[str, tuple[str, ...]]:
    return {
        "one": ("--processes", "1"),
        "all": ("--processes", str(CORES)),
        "queue": ("--queue",),
    }


async def _classify(settings: Settings, source: Path, target: Path, *arguments: str) -> float:
    """Seconds of the whole command, as a user sees them."""

    command = ("-m", "lmaas", "classify", str(source), "--text-column", "review")
    began = time.perf_counter()
    await rig.run(settings, *command, "-o", str(target), *arguments)
    return time.perf_counter() - began
