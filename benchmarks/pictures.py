"""Pictures of 28 x 28 pixels, PNG files in one archive: in process, and through the queue.

Both are whole commands, as `bulk` has them for texts. The network is the one that `lmaas train`
makes of Fashion-MNIST's pictures; it has seen few of them, as it is to be fast here, and not good.
"""

from __future__ import annotations

import filecmp
import os
import tempfile
import time
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Final

import click
import msgspec

from benchmarks import rig
from benchmarks.report import Figure, Report, bars
from lmaas.broker_config.messages import Item
from lmaas.broker_config.settings import Settings
from lmaas.training.idx import read_idx

MODEL: Final = "fashion"
#: The 10,000 test pictures so many times.
TIMES: Final = 4
TRAINED_WITH: Final = 1_000
CORES: Final = 2
#: The best of so many runs each, in turn: other work on the machine only ever slows down.
ROUNDS: Final = 3
IN_PROCESS, QUEUE = f"in process, {CORES} processes", f"through the queue, {CORES} workers"
WAYS: Final = {IN_PROCESS: ("--processes", str(CORES)), QUEUE: ("--queue",)}


async def measure() -> Report:
    rates: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        count = _written(folder)
        async with rig.broker() as broker:
            settings = msgspec.structs.replace(broker, models=str(folder / "models"))
            train = ("-m", "lmaas", "train", MODEL, "--data", str(folder / "some"))
            await rig.run(settings, *train, "--epochs", "1")
            async with rig.workers(settings, CORES):
                for _ in range(ROUNDS):
                    for name, options in WAYS.items():
                        seconds = await _seconds(settings, folder, name, options)
                        rates[name].append(count / seconds)
        same = filecmp.cmp(*(_answers(folder, name) for name in WAYS), shallow=False)
    best = {name: max(found) for name, found in rates.items()}
    return Report(
        benchmark="pictures",
        setting=f"a zip of {count:,} PNG files of 28 x 28 pixels; whole commands, start included; "
        f"{CORES} cores; best of {ROUNDS}",
        figures=[
            *(Figure(name=name, value=value, unit="pictures/s") for name, value in best.items()),
            Figure(name="queue / in process", value=best[QUEUE] / best[IN_PROCESS], unit="",
                   at_least=0.8),
            Figure(name="same bytes out on both ways", value=float(same), unit=""),
        ],
        plots=[bars("Pictures a second", "pictures/s", best, ours=list(best))],
    )  # fmt: skip


def _written(folder: Path) -> int:
    """A folder a class to train with, and the archive; how many pictures that has."""
    data = Path(os.environ.get("LMAAS_DATASETS", "")) / "fashion_mnist"
    if not data.is_dir():
        raise click.ClickException("fashion_mnist is missing in LMAAS_DATASETS")
    media = read_idx(data)
    assert media.test is not None, "Fashion-MNIST has a test of its own"
    some = zip(media.train.items[:TRAINED_WITH], media.train.labels, strict=False)
    for place, (item, label) in enumerate(some):
        kind = folder / "some" / label.replace("/", " ")
        kind.mkdir(parents=True, exist_ok=True)
        (kind / f"{place}.png").write_bytes(_png(item))
    with zipfile.ZipFile(folder / "pictures.zip", "w") as archive:
        for again in range(TIMES):
            for place, item in enumerate(media.test.items):
                archive.writestr(f"{again}/{place}.png", _png(item))
    return TIMES * len(media.test.items)


def _png(item: Item) -> bytes:
    assert item.data is not None
    return bytes(item.data)


async def _seconds(settings: Settings, folder: Path, name: str, options: tuple[str, ...]) -> float:
    """Of the whole command, as a user sees them."""
    files = (str(folder / "pictures.zip"), "--model", MODEL, "-o", str(_answers(folder, name)))
    began = time.perf_counter()
    await rig.run(settings, "-m", "lmaas", "classify", *options, *files)
    return time.perf_counter() - began


def _answers(folder: Path, name: str) -> Path:
    return folder / f"{name}.csv"
