"""Answers of a model that gives several labels an item, by every way in."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from lmaas.broker_config.messages import JSON, Reply, Request, Result, encode
from lmaas.broker_config.settings import Settings
from lmaas.producer.batch import Jobs
from lmaas.producer.client import Client
from lmaas.workers.worker import Worker
from tests.gateway.conftest import Gateway
from tests.integration.lanes import LIMIT, serving
from tests.unit.workers import networks

TEXTS = ["good", "strange", "bad"]
LABELS = [["kind", "calm"], [], ["loud"]]
CALL = {"model": "moods", "items": TEXTS}


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    networks.save_multi_label(tmp_path / "models" / "moods" / "1")
    return msgspec.structs.replace(settings, models=str(tmp_path / "models"))


@pytest.fixture
async def worker(settings: Settings) -> AsyncIterator[Worker]:
    async with serving(settings) as worker:
        yield worker


async def test_calls_and_jobs(worker: Worker, settings: Settings) -> None:
    async with Client(settings) as client:
        found = [await client.classify("moods", text, top_k=1) for text in TEXTS]
        assert [result.labels for result in found] == LABELS
        assert [result.label for result in found] == ["kind", None, "loud"]
        assert [result.scores for result in found][1] == {"calm": 0.4}
        less = await client.classify("moods", "strange", min_score=0.25)
        assert less.labels == ["calm", "kind"]
        many = [result async for result in client.classify_many("moods", TEXTS)]
        assert [result.labels for result in many] == LABELS
        (card,) = await client.models("moods")
        assert card.multi_label
    async with Jobs(settings) as jobs:
        entry = await jobs.submit("moods", TEXTS)
        got = [each async for chunk in jobs.results(entry.job) for each in chunk.reply.results]
        assert [result.labels for result in got] == LABELS


async def test_over_http(worker: Worker, gateway: Gateway) -> None:
    status, answer = await gateway.post("/v1/classify", json=CALL)
    assert status == 200
    assert [each["labels"] for each in answer["results"]] == LABELS
    assert [each.get("label") for each in answer["results"]] == ["kind", None, "loud"]
    _, answer = await gateway.post("/v1/classify", json=CALL | {"min_score": 0.75})
    assert [each["labels"] for each in answer["results"]] == [["kind"], [], ["loud"]]
    _, answer = await gateway.get("/v1/models/moods")
    assert answer["multi_label"] is True


async def test_files_of_a_jobs_results(worker: Worker, gateway: Gateway) -> None:
    status, job = await gateway.post("/v1/jobs", json=CALL)
    assert status == 202
    url = f"{gateway.url}/v1/jobs/{job['id']}/results"
    async with gateway.http.get(f"{url}?follow=true") as answer:
        lines = (await answer.text()).splitlines()
    assert [msgspec.json.decode(line, type=Result).labels for line in lines] == LABELS
    async with gateway.http.get(f"{url}?format=csv", timeout=LIMIT) as answer:
        rows = list(csv.DictReader((await answer.text()).splitlines()))
    assert [row["label"] for row in rows] == ["kind;calm", "", "loud"]


async def test_protocols_of_others(worker: Worker, gateway: Gateway) -> None:
    call = {"model": "moods", "input": TEXTS}
    _, answer = await gateway.post("/v1/moderations", json=call)
    assert [each["categories"] for each in answer["results"]] == [
        {"calm": True, "kind": True, "loud": False},
        {"calm": False, "kind": False, "loud": False},
        {"calm": False, "kind": False, "loud": True},
    ]
    assert [each["flagged"] for each in answer["results"]] == [True, False, True]
    _, answer = await gateway.post("/v1/classifications", json=call)
    assert [each["labels"] for each in answer["results"]] == LABELS
    texts = {"name": "text", "datatype": "BYTES", "shape": [3], "data": TEXTS}
    _, answer = await gateway.post("/v2/models/moods/infer", json={"inputs": [texts]})
    outputs = {each["name"]: each["data"] for each in answer["outputs"]}
    assert outputs["label"] == ["kind;calm", "", "loud"]


def test_a_single_label_has_the_bytes_that_it_had() -> None:
    """The new field is left out where a model gives one label."""
    reply = Reply(model="m", results=[Result(id="1", label="a", score=0.5)])
    assert encode(reply, JSON) == b'{"model":"m","results":[{"id":"1","label":"a","score":0.5}]}'
    assert b"labels" not in encode(Request(model="m", items=[]), JSON)
    none = Result(id="1", score=0.5, labels=[])
    assert b'"labels":[]' in encode(Reply(model="m", results=[none]), JSON)
