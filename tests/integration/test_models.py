"""Workers beside models that cannot be used: what is healthy is served, and the rest is told."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from lmaas.broker_config.codes import Code
from lmaas.broker_config.errors import ModelNotFound
from lmaas.broker_config.messages import MSGPACK, Item, Request, encode
from lmaas.broker_config.settings import Settings
from lmaas.cli.exits import Exit
from lmaas.producer.client import Client
from lmaas.workers.pack import Pack
from tests.integration.lanes import serving
from tests.integration.worker_process import StartWorker
from tests.unit.workers import networks

NAN = float("nan")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four versions of "tiny", of which only the first one is any good; and a hopeless model."""
    root = tmp_path / "models"
    for version in ("1", "2", "3", "4"):
        networks.save(root / "tiny" / version)
    (root / "tiny" / "2" / "manifest.json").unlink()
    (root / "tiny" / "3" / "vocabulary.txt").unlink()
    (root / "tiny" / "4" / "model.onnx").write_bytes(b"half")
    networks.save(root / "hopeless" / "1", [(17.18, -3.0)] * 5)
    return root


@pytest.fixture
def settings(settings: Settings, folder: Path) -> Settings:
    return msgspec.structs.replace(settings, models=str(folder))


async def test_workers_serve_what_is_healthy_and_tell_the_rest_once(
    settings: Settings, start_worker: StartWorker
) -> None:
    worker = await start_worker("--processes", "2")
    await worker.says("ready: sentiment, tiny", times=2)
    async with Client(settings) as client:
        mine = await client.classify("tiny", "good")
        shipped = await client.classify("sentiment", "a wonderful, moving film")
        with pytest.raises(ModelNotFound, match="no worker has ever served"):
            await client.classify("hopeless", "good")
    assert (mine.label, mine.score, shipped.label) == ("label 1", 0.9, "positive")
    warnings = [line for line in worker.lines if "WARNING" in line]
    told = (
        "left out, 1 is used instead: model 'tiny' version 4: ",
        "left out, 1 is used instead: model 'tiny' version 3: ",
        "left out, 1 is used instead: model 'tiny' version 2: ",
        "not served: model 'hopeless' version 1: ",
    )
    for words in told:
        assert sum(words in line for line in warnings) == 1
    assert len(warnings) == len(told)


async def test_a_model_that_was_named_and_cannot_be_used_ends_the_worker(
    start_worker: StartWorker,
) -> None:
    worker = await start_worker("--processes", "2", "--model", "hopeless", until=None)
    assert await worker.ended() == Exit.FAILED
    assert any("17.18 where a probability is declared" in line for line in worker.lines)
    assert not any("Traceback" in line for line in worker.lines)


async def test_without_anything_to_serve_a_worker_ends_with_words(
    settings: Settings, start_worker: StartWorker
) -> None:
    worker = await start_worker("--processes", "1", "--model", "nope", until=None)
    assert await worker.ended() == Exit.FAILED
    assert "no model 'nope' in " in worker.lines[-1]
    assert str(settings.models) in worker.lines[-1]


async def test_nan_fails_its_item_and_none_beside_it(settings: Settings, tmp_path: Path) -> None:
    networks.save(tmp_path / "more" / "odd" / "1", [*networks.PROBABILITIES[:4], (NAN, 0.5)])
    settings = msgspec.structs.replace(settings, models=str(tmp_path / "more"))
    async with serving(settings), Client(settings) as client:
        found = client.classify_many("odd", ["good", "strange", "bad"], top_k=2)
        results = [result async for result in found]
    assert [result.label for result in results] == ["label 1", None, "label 0"]
    assert results[1].error is not None
    assert results[1].error.code == Code.INTERNAL
    json.loads(msgspec.json.encode(results), parse_constant=pytest.fail)


async def test_what_is_run_isolated_is_answered_by_the_version_that_the_worker_serves(
    settings: Settings, folder: Path
) -> None:
    body = encode(Request(model="tiny", items=[Item(id="1", text="good")]))
    named = encode(Request(model="tiny", items=[Item(id="1", text="good")], version="7"))
    async with serving(settings) as worker:
        networks.save(folder / "tiny" / "7", [(0.75, 0.25)] * 5)  # while it runs
        isolation = worker.execution._isolation
        found = [
            await isolation.answer(Pack(None), sent, MSGPACK, "tiny") for sent in (body, named)
        ]
    assert [(reply.version, reply.results[0].score) for _, reply in found] == [
        ("1", 0.9),
        ("7", 0.75),
    ]
    assert [pack.request and pack.request.version for pack, _ in found] == [None, "7"]
