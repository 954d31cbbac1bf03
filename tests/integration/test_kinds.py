"""A kind of model that nobody thought of: bytes, pairs or tensors in, two outputs, one item a run.

Its preprocessor and its head are an installed package's; no line of LMaaS knows of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from onnx import TensorProto, helper

from lmaas import testing
from lmaas.broker_config.codes import Code
from lmaas.broker_config.errors import ItemFailed
from lmaas.broker_config.messages import MSGPACK, Item, Request, Result, Tensor, encode
from lmaas.broker_config.scheduling import GUESS
from lmaas.broker_config.settings import Settings
from lmaas.producer.batch import Jobs
from lmaas.producer.client import Client
from lmaas.producer.sync import SyncClient
from lmaas.workers.isolated.process import IsolatedProcess
from lmaas.workers.manifest import Batching, Input
from lmaas.workers.pack import Pack
from lmaas.workers.pool import Pool
from tests import versions
from tests.integration.lanes import serving

CODE = """
import numpy as np
from lmaas.broker_config.messages import Item, ItemError

class Letters:
    examples = (Item(id="1", data=b"ab", media_type="text/letters"),)

    def __init__(self, version, how):
        self._letters = how["letters"].encode()

    def check(self, item):
        if self.given(item) is None:
            return ItemError(code="invalid_item", message="letters are wanted")

    def given(self, item):
        if item.text_pair is not None:
            return (item.text + item.text_pair).encode()
        if item.tensors is not None:
            return item.tensors["letters"].data if "letters" in item.tensors else None
        return item.data if item.media_type == "text/letters" else None

    def encode(self, items):
        given = map(self.given, items)
        return Counts([[one.count(letter) for letter in self._letters] for one in given])

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
    names = ["counts", "doubled", "negated"]
    counts, doubled, negated = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in names
    )
    nodes = [
        helper.make_node("Add", ["counts", "counts"], ["doubled"]),
        helper.make_node("Neg", ["counts"], ["negated"]),
    ]
    graph = helper.make_graph(nodes, "letters", [counts], [negated, doubled])
    folder = tmp_path / "models" / "letters" / "1"
    versions.save_graph(folder, graph)
    made = versions.manifest(
        {"kind": "letters", "letters": "ab"},
        [Input(name="counts", dtype="float32", shape=[1, 2])],
        Batching(unit="items", most=1, rows=1),
        labels=["a", "b"],
        head={"kind": "difference"},
    )
    versions.describe(folder, made)
    return msgspec.structs.replace(settings, models=str(tmp_path / "models"), max_data_bytes=2**20)


def letter_values(name: str) -> dict[str, Tensor]:
    return {name: Tensor(shape=[2, 2], datatype="UINT8", data=b"bbab")}


GOOD = [
    Item(id="mostly a", data=b"aaab", media_type="text/letters"),
    Item(id="mostly b", data=b"ab\xffbb", media_type="text/letters"),
    Item(id="a pair", text="aa", text_pair="ab"),
    Item(id="values", tensors=letter_values("letters")),
]
BAD = [
    Item(id="none", data=b"xyz", media_type="text/letters"),
    Item(id="a picture", data=b"aaab", media_type="image/png"),
    Item(id="a text", text="aaab"),
    Item(id="other values", tensors=letter_values("numbers")),
    Item(id="large", data=b"a" * (2**20 + 1), media_type="text/letters"),
]
ITEMS = GOOD + BAD
ERRORS = [
    ("none", Code.INTERNAL, "no letter at all"),
    ("a picture", Code.INVALID_ITEM, "letters are wanted"),
    ("a text", Code.INVALID_ITEM, "letters are wanted"),
    ("other values", Code.INVALID_ITEM, "letters are wanted"),
    ("large", Code.TOO_LARGE, "1,048,577 bytes; the limit is 1,048,576 (setting max_data_bytes)"),
]


def check(results: Sequence[Result]) -> None:
    """Of all items, whatever they were given to."""
    good, failed = results[: len(GOOD)], results[len(GOOD) :]
    assert [(one.id, one.label, one.score) for one in good] == [
        ("mostly a", "a", 0.75),
        ("mostly b", "b", 0.75),
        ("a pair", "a", 0.75),
        ("values", "b", 0.75),
    ]
    errors = [(one.id, one.error.code, one.error.message) for one in failed if one.error]
    assert errors == ERRORS


async def ask(client: Client) -> None:
    """One by one, at the same time, and as a stream."""
    check([await client.classify("letters", item, errors="return") for item in ITEMS])
    calls = [client.classify("letters", item, errors="return") for item in ITEMS]
    check(await asyncio.gather(*calls))
    with pytest.raises(ItemFailed, match="letters are wanted") as failure:
        await client.classify("letters", BAD[1])
    assert failure.value.item_id == "a picture"
    check([result async for result in client.classify_many("letters", ITEMS)])


async def test_it_is_served_through_the_queue(letters: Settings) -> None:
    async with serving(letters) as worker, Client(letters) as client, Jobs(letters) as jobs:
        assert "letters" in worker.models
        await ask(client)
        # Nobody has measured it: both ends begin with the same guess, and learn.
        assert worker.estimators["letters"].cost != GUESS
        assert client.seconds("letters", 5, 100) != GUESS.estimate(5, 100)
        await jobs.submit("letters", ITEMS, job="j")
        check([result async for chunk in jobs.results("j") for result in chunk.reply.results])
        twin = SyncClient(letters)
        check(await asyncio.to_thread(of_twin, twin))
        card = (await client.models("letters"))[0]
        assert card.examples == [Item(id="1", data=b"ab", media_type="text/letters")]
        assert card.media_types == ["text/letters"]


def of_twin(client: SyncClient) -> list[Result]:
    with client:
        return [client.classify("letters", item, errors="return") for item in ITEMS]


@pytest.mark.parametrize("processes", [1, 2])
async def test_it_is_run_in_process(letters: Settings, processes: int) -> None:
    several = msgspec.structs.replace(letters, processes=processes)
    async with Pool(several, "letters") as pool:
        assert pool.seconds("letters", 5, 100) == GUESS.estimate(5, 100)
        check((await pool.run(Request(model="letters", items=ITEMS))).results)
        assert pool.seconds("letters", 5, 100) != GUESS.estimate(5, 100)


async def test_it_is_there_in_tests(letters: Settings) -> None:
    async with testing.Client(settings=letters) as client:
        await ask(client)
    check(await asyncio.to_thread(of_twin, testing.SyncClient(settings=letters)))


async def test_it_is_run_in_the_isolated_process(letters: Settings) -> None:
    isolated = IsolatedProcess(letters, "w", {"letters": "1"})
    body = encode(Request(model="letters", items=ITEMS))
    try:
        _, reply = await asyncio.to_thread(isolated.answer, Pack(None), body, MSGPACK)
        check(reply.results)
    finally:
        await asyncio.to_thread(isolated.close)
