"""What users send is in sealed bodies alone: each road, and everything that tells of it.

A canary is in the texts, in their ids and in a label. Every exchange has a tap.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from aio_pika.abc import AbstractIncomingMessage
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import REGISTRY, generate_latest

from lmaas.broker_config import tracing
from lmaas.broker_config.codes import Code
from lmaas.broker_config.declaring import declare
from lmaas.broker_config.errors import ItemFailed
from lmaas.broker_config.messages import CARDS, Item
from lmaas.broker_config.scheduling import LANES
from lmaas.broker_config.sealing import ENCODING
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import journal, routing_key, topology
from lmaas.producer.batch import Jobs
from lmaas.producer.client import Client
from lmaas.producer.gateway.settings import GatewaySettings
from lmaas.service.logs import JsonLines
from lmaas.workers.runtime import Runtime
from tests import leaks
from tests.gateway.conftest import Gateway, listening
from tests.integration.lanes import channel_to, having, serving, until
from tests.payload_keys import new_keys, sealed
from tests.unit.workers import networks

CANARY = "zz-canary-of-a-text-zz"
LABEL = "zz-canary-of-a-label-zz"
MODEL = "tiny"
DELAY = "100ms"
#: A text begins with a word of the model; what is in it makes trouble.
GOOD, FAILS, PASSES = (f"good {what} {CANARY}" for what in ("one", "that-fails", "that-passes"))


def item(text: str) -> Item:
    return Item(id=f"id {CANARY}", text=text)


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    networks.describe(networks.save(tmp_path / "models" / MODEL / "1"), ["other", LABEL])
    settings = sealed(settings, new_keys(tmp_path / "payload.keys"))
    return having(settings, models=str(tmp_path / "models"), retry_delays=(DELAY,), max_attempts=2)


class Taps:
    """What went through each exchange."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, AbstractIncomingMessage]] = []

    def through(self, exchange: str) -> list[AbstractIncomingMessage]:
        return [message for name, message in self.seen if name == exchange]


@contextlib.asynccontextmanager
async def tapped(settings: Settings) -> AsyncIterator[Taps]:
    names, taps = settings.names, Taps()
    keys = {
        names.work: [routing_key(MODEL, lane) for lane in LANES],
        names.copies(MODEL): [routing_key(MODEL, lane) for lane in LANES],
        names.retry(MODEL, DELAY): [""],
        names.dead: [""],
        names.results: ["#"],
        names.cards: [MODEL, ""],
        names.own: [names.jobs],
    }
    async with channel_to(settings) as channel:
        await declare(channel, topology(names, settings.queue_type, [MODEL], settings.retry_delays))
        await declare(channel, journal(names, settings.queue_type))
        for exchange, own in keys.items():
            tap = await channel.declare_queue(exclusive=True)
            for key in own:
                await tap.bind(exchange, key)

            async def note(message: AbstractIncomingMessage, exchange: str = exchange) -> None:
                taps.seen.append((exchange, message))

            await tap.consume(note, no_ack=True)
        yield taps


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_tracer", lambda: provider.get_tracer("test"))
    return exporter


@pytest.fixture
def trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model cannot read some texts, and one of them at the first time only."""
    encode, failed = Runtime.encode, []

    def encoded(self: Runtime, items: Sequence[Item]) -> Any:
        texts = [one.text or "" for one in items]
        if any(text == FAILS for text in texts):
            raise ValueError(f"cannot encode {texts}")
        if any(text == PASSES for text in texts) and not failed:
            failed.append(True)
            raise MemoryError(f"no memory for {texts}")
        return encode(self, items)

    monkeypatch.setattr(Runtime, "encode", encoded)


async def shown(settings: Settings, *arguments: str) -> str:
    """All that `lmaas dead` writes."""
    mine = {"LMAAS_BROKER_URL": settings.broker_url, "LMAAS_PREFIX": settings.prefix}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "lmaas", "dead", *arguments,
        env={**os.environ, **mine, "COLUMNS": "300"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output = b"".join(await process.communicate()).decode()
    assert process.returncode == 0, output
    return output


async def answered(settings: Settings, gateway: Gateway, taps: Taps) -> None:
    """A call that is answered, one that fails, one that is tried again, jobs, and calls by HTTP."""
    async with Client(settings) as client, Jobs(settings) as jobs:
        assert (await client.classify(MODEL, item(GOOD))).label == LABEL
        assert (await client.classify(MODEL, item(PASSES))).label == LABEL
        with pytest.raises(ItemFailed) as failure:
            await client.classify(MODEL, item(FAILS))
        assert failure.value.code == Code.INTERNAL
        entry = await jobs.submit(MODEL, [item(GOOD), item(FAILS)])
        found = [chunk.reply.results async for chunk in jobs.results(entry.job)]
        assert LABEL in str(found)
    call = {"model": MODEL, "items": [{"id": f"id {CANARY}", "text": GOOD}]}
    status, answer = await gateway.post("/v1/classify", json=call)
    assert (status, answer["results"][0]["label"]) == (200, LABEL)
    status, job = await gateway.post("/v1/jobs", json=call)
    assert status == 202

    async def has_ended() -> bool:
        return (await gateway.get(f"/v1/jobs/{job['id']}"))[1]["ended"] is not None

    await until(has_ended)


async def given_up(settings: Settings, taps: Taps) -> None:
    """A call whose caller leaves, and a job that is cancelled, before a worker is there."""
    async with Client(settings) as client, Jobs(settings) as jobs:
        call = asyncio.create_task(client.classify(MODEL, item(GOOD)))
        await came(taps, settings.names.work)
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call
        await jobs.cancel((await jobs.submit(MODEL, [item(GOOD)])).job)
        await came(taps, settings.names.cards)


async def came(taps: Taps, exchange: str) -> None:
    async def has_come() -> bool:
        return bool(taps.through(exchange))

    await until(has_come)


@pytest.mark.usefixtures("trouble")
async def test_a_text_its_id_and_its_label_are_in_sealed_bodies_alone(
    settings: Settings,
    tmp_path: Path,
    spans: InMemorySpanExporter,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for text in (GOOD, FAILS, PASSES, f"id {CANARY}", LABEL):
        leaks.canary(text)
    caplog.set_level(logging.DEBUG, "lmaas")
    names = settings.names
    gateway_settings = GatewaySettings(access="open", port=0, folder=str(tmp_path / "gateway"))
    async with tapped(settings) as taps:
        await given_up(settings, taps)
        async with serving(settings), listening(gateway_settings, settings) as gateway:
            await answered(settings, gateway, taps)
            told = {
                "metrics of the gateway": await text_of(gateway, "/metrics"),
                "dead letters of the gateway": await text_of(gateway, "/v1/dead-letters"),
                "dead list": await shown(settings, "list"),
                "dead list --json": await shown(settings, "list", "--json"),
            }
        for exchange in (names.retry(MODEL, DELAY), names.dead, names.results, names.own):
            await came(taps, exchange)
    told["metrics"] = generate_latest(REGISTRY).decode()
    told["traces"] = "".join(span.to_json() for span in spans.get_finished_spans())
    told["logs"] = "".join(JsonLines().format(record) for record in caplog.records)
    for number, (exchange, message) in enumerate(taps.seen):
        if message.type == CARDS:  # a card names the labels of its model, and is not sealed
            assert CANARY not in repr((message.headers, message.body))
            continue
        told[f"{number}: a message through {exchange}"] = repr(
            (message.info(), message.headers, message.body, message.routing_key)
        )
    assert all(told.values()), [what for what, text in told.items() if not text]
    assert [what for what, text in told.items() if CANARY in text or LABEL in text] == []
    assert len(json.loads(told["dead letters of the gateway"])["dead_letters"]) == 2
    sealed = [names.work, names.retry(MODEL, DELAY), names.dead, names.own]
    for exchange in sealed:
        bodies = [one for one in taps.through(exchange) if one.body]  # an entry's end has none
        assert {one.content_encoding for one in bodies} == {ENCODING}, exchange


async def text_of(gateway: Gateway, path: str) -> str:
    async with gateway.http.get(gateway.url + path) as answer:
        assert answer.status == 200
        return await answer.text()
