"""A kind of model that nobody thought of: bytes in, two outputs, one item a run.

Its preprocessor and its head are an installed package's; no line of LMaaS knows of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
import onnx
import pytest
from onnx import TensorProto, helper

from lmaas import testing
from lmaas.broker_config.codes import Code
from lmaas.broker_config.messages import Item, Request, Result
from lmaas.broker_config.settings import Settings
from lmaas.producer.batch import Jobs
from lmaas.producer.client import Client
from lmaas.workers.manifest import MODEL, Batching, Input, Manifest
from lmaas.workers.pool import Pool
from lmaas.workers.repository import MANIFEST
from tests.integration.conftest import serving

CODE = """
import numpy as np
from lmaas.broker_config.messages import Item, ItemError

class Letters:
    examples = (Item(id="1", data=b"ab", media_type="text/letters"),)

    def __init__(self, version, how):
        self._letters = how["letters"].encode()

    def check(self, item):
        if item.media_type != "text/letters":
            return ItemError(code="invalid_item", message="letters are wanted")

    def encode(self, items):
        return Counts([[item.data.count(letter) for letter in self._letters] for item in items])

class Counts:
    def __init__(self, counts):
        self.counts, self.lengths = counts, [1] * len(counts)

    def arrays(self, batch):
        (position,) = batch.positions
        return {"counts": np.array([self.counts[position]], np.float32)}

class Difference:
    outputs = ["doubled", "negated"]

    def __init__(self, version, how):
        pass

    def scores(self, outputs, rows):
        doubled, negated = outputs
        counts = doubled + negated
        with np.errstate(invalid="ignore"):
            return (counts / counts.sum(axis=1, keepdims=True)).astype(np.float32)

    def good(self, scores):
        return np.isfinite(scores).all(axis=1)

    def problem(self, scores):
        return "no letter at all"
"""
ENTRY_POINTS = """[lmaas.preprocessors]
letters = letters_for_lmaas:Letters
[lmaas.heads]
difference = letters_for_lmaas:Difference
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package, where Python finds packages."""
    site = tmp_path / "site"
    described = site / "letters_for_lmaas-1.0.dist-info"
    described.mkdir(parents=True)
    (site / "letters_for_lmaas.py").write_text(CODE)
    (described / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: letters-for-lmaas\nVersion: 1.0\n"
    )
    (described / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(site)


@pytest.fixture
def letters(settings: Settings, tmp_path: Path, installed: None) -> Settings:
    """Settings with a model `letters`."""
    folder = tmp_path / "models" / "letters" / "1"
    folder.mkdir(parents=True)
    names = ["counts", "doubled", "negated"]
    counts, doubled, negated = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in names
    )
    nodes = [
        helper.make_node("Add", ["counts", "counts"], ["doubled"]),
        helper.make_node("Neg", ["counts"], ["negated"]),
    ]
    graph = helper.make_graph(nodes, "letters", [counts], [negated, doubled])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9),
        folder / MODEL,
    )
    manifest = Manifest(
        name="letters",
        version="1",
        labels=["a", "b"],
        inputs=[Input(name="counts", dtype="float32", shape=[1, 2])],
        preprocessing={"kind": "letters", "letters": "ab"},
        head={"kind": "difference"},
        batching=Batching(unit="items", most=1, rows=1),
        architecture="made up",
        dataset={},
        metrics={},
        code_version="0",
        created="2026-01-01T00:00:00Z",
        files={MODEL: hashlib.sha256((folder / MODEL).read_bytes()).hexdigest()},
    )
    (folder / MANIFEST).write_bytes(msgspec.json.encode(manifest))
    return msgspec.structs.replace(settings, models=str(tmp_path / "models"))


ITEMS = [
    Item(id="mostly a", data=b"aaab", media_type="text/letters"),
    Item(id="mostly b", data=b"ab\xffbb", media_type="text/letters"),
    Item(id="none", data=b"xyz", media_type="text/letters"),
    Item(id="a picture", data=b"aaab", media_type="image/png"),
    Item(id="a text", text="aaab"),
]


def check(results: Sequence[Result]) -> None:
    first, second, *failed = results
    assert (first.id, first.label, first.score) == ("mostly a", "a", 0.75)
    assert (second.id, second.label, second.score) == ("mostly b", "b", 0.75)
    errors = [(one.id, one.error and (one.error.code, one.error.message)) for one in failed]
    assert errors == [
        ("none", (Code.INTERNAL, "no letter at all")),
        ("a picture", (Code.INVALID_ITEM, "letters are wanted")),
        ("a text", (Code.INVALID_ITEM, "letters are wanted")),
    ]


async def test_it_is_served_through_the_queue(letters: Settings) -> None:
    async with serving(letters) as worker, Client(letters) as client, Jobs(letters) as jobs:
        assert "letters" in worker.models
        check([result async for result in client.classify_many("letters", ITEMS)])
        await jobs.submit("letters", ITEMS, job="j")
        check([result async for chunk in jobs.results("j") for result in chunk.reply.results])


@pytest.mark.parametrize("processes", [1, 2])
async def test_it_is_run_in_process(letters: Settings, processes: int) -> None:
    several = msgspec.structs.replace(letters, processes=processes)
    async with Pool(several, "letters") as pool:
        check((await pool.run(Request(model="letters", items=ITEMS))).results)


async def test_it_is_there_in_tests(letters: Settings) -> None:
    async with testing.Client(settings=letters) as client:
        check([result async for result in client.classify_many("letters", ITEMS)])
