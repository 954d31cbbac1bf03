"""A pretrained encoder of six layers: through the queue, the runtime alone, and transformers.

The encoder is all-MiniLM-L6-v2 with a classifier of Banking77's 77 intents, in 32 bits and in 8.
"The runtime alone" is ONNX Runtime on arrays that are tokenized and sorted by length before the
clock runs, at the best of several sizes of a batch. What transformers does on torch is measured
where `TORCH_PYTHON` names a Python that has both: with texts in batches as they come, as users of
its pipelines have them, and sorted by length first, by which less is padded.
"""

from __future__ import annotations

import asyncio
import csv
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
import msgspec

from benchmarks import rig
from benchmarks.report import Figure, Report, bars
from lmaas.broker_config.settings import Settings
from lmaas.producer.client import Client
from lmaas.workers.batcher import Batch
from lmaas.workers.manifest import MODEL as GRAPH
from lmaas.workers.model_version import ModelVersion
from lmaas.workers.ort import onnxruntime
from lmaas.workers.repository import Repository
from lmaas.workers.runtime import Runtime

CORES: Final = 2
#: Examples of each class that the classifier learns from: it is to be fast, not good.
EXAMPLES: Final = 10
#: Texts of each kind: the test of Banking77, and film reviews with so many words at most.
SHORT, LONG = "short texts", "long texts"
LONG_TEXTS, LONG_WORDS = 400, 180
#: Padded tokens of a batch that the runtime alone is tried with.
SIZES: Final = (256, 512, 1_024, 2_048, 4_096, 16_384)
#: The best size is found with every so many-th text.
SAMPLE: Final = 8
#: Texts of a batch that transformers is tried with.
TORCH_BATCHES: Final = (1, 8, 32)
#: The best of so many runs each, in turn: other work on the machine only ever slows down.
ROUNDS: Final = 2
NUMBERS: Final = {"fp32": (), "int8": ("--quantize", "int8", "--force")}
#: How transformers gets its texts.
ORDERS: Final = ("as they come", "sorted")
#: Goals of the worker against transformers, on short texts.
AGAINST_TORCH: Final = {"fp32": 2.0, "int8": 4.0}

#: Argument: the folder of the encoder; on standard input texts and sizes of a batch, as JSON; on
#: standard output the seconds that each size took, of texts as they come and of sorted ones.
TORCH: Final = """
import json, sys, time
import torch
from transformers import AutoModel, AutoTokenizer

texts, sizes, threads = json.load(sys.stdin)
torch.set_num_threads(threads)
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModel.from_pretrained(sys.argv[1]).eval()

def embed(size, texts):
    for begin in range(0, len(texts), size):
        batch = tokenizer(texts[begin : begin + size], padding=True, truncation=True,
                          max_length=256, return_tensors="pt")
        mask = batch["attention_mask"][..., None]
        rows = model(**batch).last_hidden_state
        torch.nn.functional.normalize((rows * mask).sum(1) / mask.sum(1))

def took(size, texts):
    began = time.perf_counter()
    embed(size, texts)
    return time.perf_counter() - began

with torch.inference_mode():
    embed(sizes[-1], texts[::16])  # the first runs are slower
    orders = (texts, sorted(texts, key=len))
    print(json.dumps([[took(size, some) for size in sizes] for some in orders]))
"""


async def measure() -> Report:
    texts = {SHORT: _questions("test.csv"), LONG: _long()}
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "models"
        async with rig.broker() as broker:
            settings = msgspec.structs.replace(broker, models=str(models))
            for numbers, options in NUMBERS.items():
                await _train(settings, numbers, options, Path(folder))
            rates: dict[str, list[float]] = defaultdict(list)
            for _ in range(ROUNDS):
                async with rig.process(settings, "-m", "lmaas", "worker"):
                    for numbers in NUMBERS:
                        for kind, some in texts.items():
                            rate = await _queued(settings, numbers, some)
                            rates[f"worker, {numbers}, {kind}"].append(rate)
                for numbers in NUMBERS:
                    version = Repository(models).find(numbers)
                    for kind, some in texts.items():
                        rates[f"runtime alone, {numbers}, {kind}"].append(_alone(version, some))
            best = {name: max(found) for name, found in rates.items()}
            if "TORCH_PYTHON" in os.environ:
                for kind, some in texts.items():
                    for how, rate in (await _torch(some)).items():
                        best[f"transformers on torch, {how}, {kind}"] = rate
    return Report(
        benchmark="encoder",
        setting=f"all-MiniLM-L6-v2 with 77 classes, {CORES} cores; {len(texts[SHORT]):,} questions "
        f"of Banking77 and {LONG_TEXTS:,} film reviews of at most {LONG_WORDS} words; from memory; "
        f"best of {ROUNDS}",
        figures=[
            *(Figure(name=name, value=value, unit="texts/s") for name, value in best.items()),
            *_ratios(best),
        ],
        plots=[
            bars("Texts a second, short ones", "texts/s", _of(best, SHORT),
                 ours=[name for name in best if name.startswith("worker")]),
            bars("Texts a second, long ones", "texts/s", _of(best, LONG),
                 ours=[name for name in best if name.startswith("worker")]),
        ],
    )  # fmt: skip


def _of(best: dict[str, float], kind: str) -> dict[str, float]:
    return {name: value for name, value in best.items() if name.endswith(kind)}


def _ratios(best: dict[str, float]) -> list[Figure]:
    found = []
    for kind in (SHORT, LONG):
        for numbers in NUMBERS:
            ours = best[f"worker, {numbers}, {kind}"]
            alone = best[f"runtime alone, {numbers}, {kind}"]
            goal = 0.9 if numbers == "fp32" else None
            what = f"{numbers}, {kind}"
            found.append(
                Figure(name=f"worker / runtime alone, {what}", value=ours / alone, unit="",
                       at_least=goal)
            )  # fmt: skip
            for how in ORDERS:
                peer = f"transformers on torch, {how}"
                if torch := best.get(f"{peer}, {kind}"):
                    goal = AGAINST_TORCH[numbers] if kind == SHORT else None
                    found.append(
                        Figure(name=f"worker / {peer}, {what}", value=ours / torch, unit="",
                               at_least=goal)
                    )  # fmt: skip
    for kind in (SHORT, LONG):
        faster = best[f"worker, int8, {kind}"] / best[f"worker, fp32, {kind}"]
        found.append(
            Figure(name=f"int8 / fp32, worker, {kind}", value=faster, unit="", at_least=1.5)
        )
    return found


def _data(*names: str) -> Path:
    """Of the folder that LMAAS_DATASETS names."""
    path = Path(os.environ.get("LMAAS_DATASETS", "")).joinpath(*names)
    if not path.exists():
        raise click.ClickException(f"{'/'.join(names)} is missing in LMAAS_DATASETS")
    return path


def _questions(name: str) -> list[str]:
    with _data("banking77", name).open(encoding="utf-8", newline="") as file:
        return [row["text"] for row in csv.DictReader(file)]


def _long() -> list[str]:
    return [" ".join(review.split()[:LONG_WORDS]) for review in rig.reviews()[:LONG_TEXTS]]


async def _train(settings: Settings, name: str, options: Sequence[str], folder: Path) -> None:
    """As a user does, on some examples of each class."""
    some = folder / "some.csv"
    with (
        _data("banking77", "train.csv").open(encoding="utf-8", newline="") as source,
        some.open("w", encoding="utf-8", newline="") as target,
    ):
        writer, seen = csv.writer(target), defaultdict[str, int](int)
        writer.writerow(["text", "category"])
        for row in csv.DictReader(source):
            seen[row["category"]] += 1
            if seen[row["category"]] <= EXAMPLES:
                writer.writerow([row["text"], row["category"]])
    test = str(_data("banking77", "test.csv"))
    data = ("--data", str(some), "--test-data", test, "--label-column", "category")
    how = ("--arch", "encoder", "--encoder", str(_data("minilm")))
    await rig.run(settings, "-m", "lmaas", "train", name, *data, *how, *options)


async def _queued(settings: Settings, model: str, texts: Sequence[str]) -> float:
    """Texts a second."""
    async with Client(settings) as client:
        async for _ in client.classify_many(model, texts[:64]):
            pass
        began = time.perf_counter()
        answered = [result async for result in client.classify_many(model, texts)]
        return len(answered) / (time.perf_counter() - began)


def _alone(version: ModelVersion, texts: Sequence[str]) -> float:
    """Texts a second, with the size of a batch that is best for some of them."""
    runtime = Runtime(version)
    encoded = runtime.encode(rig.items(texts))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = CORES
    session = onnxruntime.InferenceSession(version.file(GRAPH), options)

    def rate(places: Sequence[int], most: int) -> float:
        order = sorted(places, key=lambda place: encoded.lengths[place])
        began = time.perf_counter()
        for batch in _batches(order, encoded.lengths, most):
            session.run(None, encoded.arrays(batch))
        return len(places) / (time.perf_counter() - began)

    some = range(0, len(texts), SAMPLE)
    best = max(SIZES, key=lambda most: rate(some, most))
    return rate(range(len(texts)), best)


def _batches(order: Sequence[int], lengths: Sequence[int], most: int) -> list[Batch]:
    """Of positions in the order of their lengths, `most` padded tokens each, at least one text."""
    found: list[Batch] = []
    some: list[int] = []
    for place in order:
        if some and (len(some) + 1) * lengths[place] > most:
            found.append(Batch(some, len(some), lengths[some[-1]]))
            some = []
        some.append(place)
    return [*found, Batch(some, len(some), lengths[some[-1]])]


async def _torch(texts: Sequence[str]) -> dict[str, float]:
    """Texts a second at the best size of a batch, by the order of the texts."""
    child = await asyncio.create_subprocess_exec(
        os.environ["TORCH_PYTHON"], "-c", TORCH, str(_data("minilm")),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    asked = json.dumps([list(texts), TORCH_BATCHES, CORES]).encode()
    told, _ = await child.communicate(asked)
    if child.returncode:
        raise click.ClickException("transformers on torch failed")
    return {
        how: len(texts) / min(seconds)
        for how, seconds in zip(ORDERS, json.loads(told), strict=True)
    }
