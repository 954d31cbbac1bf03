"""A file of IMDB reviews: in process, through the queue, and by what one would pick else."""

from __future__ import annotations

import csv
import filecmp
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks import rig
from benchmarks.peers import celery, hugging_face
from benchmarks.report import Figure, Report, bars
from lmaas.broker_config.settings import Settings
from lmaas.producer.client import Client
from lmaas.workers.repository import Repository
from lmaas.workers.runtime import Runtime

#: The 25,000 test reviews so many times.
TIMES = 4
CORES = 2
#: Texts of a pack, and of a task of the Celery group.
PACK = 256
#: Texts that the two loops are measured with.
LOOP_TEXTS = 40 * PACK
#: The best of so many runs each, in turn: other work on the machine only ever slows down.
ROUNDS = 2

#: The command and the cores that it may use.
OURS = ("lmaas", "classify", "--text-column", "review")
WAYS: dict[str, tuple[int, tuple[str, ...]]] = {
    "in process, 1 process": (CORES, (*OURS, "--processes", "1")),
    f"in process, {CORES} processes": (CORES, (*OURS, "--processes", str(CORES))),
    f"through the queue, {CORES} workers": (CORES, (*OURS, "--queue")),
    "in process, 1 core": (1, (*OURS, "--processes", "1")),
    "Hugging Face + ONNX, 1 core": (1, ("benchmarks.peers.hugging_face",)),
    f"Hugging Face + ONNX, {CORES} cores": (CORES, ("benchmarks.peers.hugging_face",)),
}
ONE, ALL, QUEUE, CORE, PEER_CORE, PEER_ALL = WAYS
#: From memory, without start and files.
MANY = f"client.classify_many from memory, {CORES} workers"
GROUP = f"Celery group from memory, {PACK} rows a task, {CORES} workers"
LOOP = "Runtime from memory, 1 thread"
PEER_LOOP = "Hugging Face + ONNX from memory, 1 thread"
GOALS = {ONE: 12_000, QUEUE: 15_000}
OUR_WAYS = (ONE, ALL, QUEUE, CORE, MANY, LOOP)


async def measure() -> Report:
    texts = rig.reviews() * TIMES
    rates: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "reviews.csv"
        _write(source, texts)
        targets = {name: Path(folder) / f"{place}.csv" for place, name in enumerate(WAYS)}
        async with rig.broker() as settings:
            for _ in range(ROUNDS):
                async with rig.workers(settings, CORES):
                    for name, (cores, (module, *arguments)) in WAYS.items():
                        command = ("-m", module, *_placed(arguments, source, targets[name]))
                        seconds = await _seconds(settings, cores, command)
                        rates[name].append(len(texts) / seconds)
                    rates[MANY].append(await _many(settings, texts))
                rates[GROUP].append(await celery.bulk(settings, texts, PACK, CORES))
                for name, rate in _loops(texts[:LOOP_TEXTS]).items():
                    rates[name].append(rate)
        same = all(
            filecmp.cmp(targets[ONE], targets[name], shallow=False) for name in (ALL, QUEUE, CORE)
        )
    best = {name: max(found) for name, found in rates.items()}
    return Report(
        benchmark="bulk",
        setting=f"a CSV of {len(texts):,} IMDB reviews; whole commands, start included, or "
        f"where it says so from memory, start not included; best of {ROUNDS}",
        figures=[*_speeds(best), *_ratios(best),
                 Figure(name="same bytes out on all ways", value=float(same), unit="", at_least=1)],
        plots=[bars("IMDB reviews a second", "reviews/s", best, ours=OUR_WAYS)],
    )  # fmt: skip


def _speeds(best: Mapping[str, float]) -> list[Figure]:
    return [
        Figure(name=name, value=value, unit="reviews/s", at_least=GOALS.get(name))
        for name, value in best.items()
    ]


def _ratios(best: Mapping[str, float]) -> list[Figure]:
    pairs = (
        ("queue / in process", QUEUE, ALL, 0.8),
        ("queue / Celery group, from memory", MANY, GROUP, None),
        ("in process / Hugging Face + ONNX, 1 core", CORE, PEER_CORE, 3),
        (f"in process / Hugging Face + ONNX, {CORES} cores", ALL, PEER_ALL, 3),
        ("Runtime / Hugging Face + ONNX, from memory", LOOP, PEER_LOOP, 3),
    )
    return [
        Figure(name=name, value=best[ours] / best[other], unit="", at_least=goal)
        for name, ours, other, goal in pairs
    ]


def _write(path: Path, texts: Sequence[str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "review"])
        writer.writerows(enumerate(texts))


def _placed(arguments: Sequence[str], source: Path, target: Path) -> tuple[str, ...]:
    if not arguments:
        return str(source), str(target)
    return *arguments, str(source), "-o", str(target)


async def _seconds(settings: Settings, cores: int, command: Sequence[str]) -> float:
    """Of the whole command, as a user sees them."""
    began = time.perf_counter()
    with rig.cores(cores):
        await rig.run(settings, *command)
    return time.perf_counter() - began


async def _many(settings: Settings, texts: Sequence[str]) -> float:
    """Texts a second."""
    async with Client(settings) as client:
        async for _ in client.classify_many(rig.MODEL, texts[: 2 * CORES * PACK]):
            pass
        began = time.perf_counter()
        answered = [result async for result in client.classify_many(rig.MODEL, texts)]
        return len(answered) / (time.perf_counter() - began)


def _loops(texts: Sequence[str]) -> dict[str, float]:
    """Texts a second in this process, one thread each: no files, no start."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    version = Repository(rig.MODELS).find(rig.MODEL)
    ours, peer = Runtime(version), hugging_face.Loop(version, threads=1)

    def packs() -> None:
        for begin in range(0, len(texts), PACK):
            ours.labelled(rig.items(texts[begin : begin + PACK]))

    return {
        LOOP: _rate(packs, len(texts)),
        PEER_LOOP: _rate(lambda: peer.labelled(texts), len(texts)),
    }


def _rate(run: Callable[[], object], texts: int) -> float:
    began = time.perf_counter()
    run()
    return texts / (time.perf_counter() - began)
