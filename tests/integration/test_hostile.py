"""No single message hurts anybody but its sender, whatever is in it."""

from __future__ import annotations

import asyncio
import json
import signal

import aio_pika
import pytest

from benchmarks.failures.attacks import Attack, attacks
from benchmarks.failures.hostile import Found, hostile
from benchmarks.poisoned import DECODER_BUG
from lmaas.broker_config.codes import Code
from lmaas.broker_config.copies import copied
from lmaas.broker_config.headers import Headers
from lmaas.broker_config.messages import JSON
from lmaas.broker_config.settings import Settings
from lmaas.producer import dead_letters
from lmaas.producer.client import Client
from lmaas.producer.dead_letter import Filter
from lmaas.workers.worker import Worker
from tests import tls
from tests.integration.lanes import (
    LIMIT,
    channel_to,
    depth,
    having,
    make_lanes,
    serving,
    until,
    waiting_packs,
)
from tests.integration.sender import sending
from tests.integration.worker_process import StartWorker

GOOD = "a wonderful, moving film"
#: Bytes by which a worker may grow, and seconds for which its event loop may stand still. TLS has
#: messages of 11 MiB in buffers of its own, on their way in and out; more of them take no more.
MAY_GROW = (90 if tls.are_wanted() else 50) * 2**20
MAY_BLOCK = 2.0


def chosen(*words: str) -> list[Attack]:
    found = [
        attack for attack in attacks("sentiment") if any(word in attack.kind for word in words)
    ]
    assert len(found) >= len(words)
    return found


def nobody_noticed(found: Found) -> None:
    """Each message has one answer, and at most one dead letter; the good client its own."""
    assert found.wrong == {}
    assert found.left == 0
    assert (found.code, found.disconnected, found.redelivered) == (0, 0, 0)
    assert found.grown < MAY_GROW
    assert found.peak < 2 * MAY_GROW
    assert found.blocked < MAY_BLOCK
    assert max(found.attacked) < 2 * MAY_BLOCK


async def test_a_header_that_names_lanes_does_not_multiply_a_pack(settings: Settings) -> None:
    found = await hostile(settings, chosen("CC"), calm=0.5, between=0.1)
    assert sum(found.expected.values()) > len(found.expected)
    nobody_noticed(found)


async def test_a_million_items_neither_stop_an_event_loop_nor_fill_a_memory(
    settings: Settings,
) -> None:
    # Without a heartbeat for two seconds the broker would hang up.
    hasty = having(settings, heartbeat=1)
    crowds = chosen("Mi items", "1 MiB of", "bad items", "deep", "giant", "11 MiB")
    nobody_noticed(await hostile(hasty, crowds, calm=0.5, between=0.1))


async def test_headers_as_large_as_a_frame_cost_no_connection(settings: Settings) -> None:
    frames = chosen("foreign", "lmaas-job", "first-error", "traceparent", "baggage")
    nobody_noticed(await hostile(settings, frames, calm=0.5, between=0.0))


async def test_what_is_replayed_goes_to_its_own_lane_only(
    settings: Settings, worker: Worker
) -> None:
    lanes = [f"sentiment.{lane}" for lane in ("instant", "short", "medium")]
    async with channel_to(settings) as channel, sending(settings) as sender:
        dead = await channel.get_exchange(settings.names.dead, ensure=False)
        body = {"model": "sentiment", "items": [{"id": "0", "text": GOOD}]}
        await dead.publish(
            aio_pika.Message(
                json.dumps(body).encode(),
                content_type=JSON,
                correlation_id="parked",
                reply_to=sender._reply_to,
                headers={"CC": lanes[1:], "x": "y" * 130_000},
            ),
            lanes[0],
        )
        outcome = await dead_letters.replay(settings, Filter())
        assert outcome.done == 1
        await sender.body("last", json.dumps(body).encode(), "instant")
        assert sorted(await sender.replies(2)) == ["last", "parked"]
    assert await waiting_packs(settings) == 0


async def test_a_copy_that_the_broker_does_not_take_is_dead_lettered_by_the_broker(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swollen(
        message: aio_pika.abc.AbstractIncomingMessage,
        headers: Headers,
        *,
        body: bytes | None = None,
    ) -> aio_pika.Message:
        copy = copied(message, headers, body=body)
        copy.headers["giant"] = "x" * 140_000
        return copy

    monkeypatch.setattr("lmaas.workers.settling.dead_letters.copied", swollen)
    async with serving(settings), sending(settings) as sender, Client(settings) as client:
        await sender.body("broken", b"{", "instant")
        name, reply = await sender.reply()
        assert (name, reply.error and reply.error.code) == ("broken", Code.MALFORMED)
        assert (await client.classify("sentiment", GOOD)).label == "positive"
    async with channel_to(settings) as channel:
        dead_letter_queue = await channel.get_queue(settings.names.dead, ensure=False)
        message = await dead_letter_queue.get(no_ack=True)
        assert message is not None
        assert message.body == b"{"
        assert "x-death" in message.headers
    assert await depth(settings, settings.names.dead) == 0


async def test_more_bytes_than_a_pack_may_have_are_refused_and_kept(settings: Settings) -> None:
    narrow = having(settings, max_pack_bytes=1_000)
    async with serving(narrow), sending(settings) as sender:
        await sender.body("large", b" " * 1_001, "instant")
        _, reply = await sender.reply()
        assert reply.error is not None
        assert "1,001 bytes; the limit is 1,000 (setting max_pack_bytes)" in reply.error.message

    async def is_dead_lettered() -> bool:
        return await depth(settings, settings.names.dead) == 1

    await until(is_dead_lettered)
    assert await waiting_packs(settings) == 0


async def test_a_body_that_ends_its_decoder_ends_one_worker_and_is_dead_lettered(
    settings: Settings, start_worker: StartWorker
) -> None:
    await make_lanes(settings)
    items = [{"id": "0", "text": f"{GOOD} {DECODER_BUG} " + "x" * 70_000}]
    body = json.dumps({"model": "sentiment", "items": items}).encode()
    first = await start_worker(module=("benchmarks.poisoned",))
    async with sending(settings) as sender:
        await sender.body("deadly", body, "short")
        assert await first.ended() == -signal.SIGSEGV
        second = await start_worker(module=("benchmarks.poisoned",))
        name, reply = await sender.reply()
    assert (name, reply.error and reply.error.code) == ("deadly", Code.POISON)
    assert await depth(settings, settings.names.dead) == 1
    async with asyncio.timeout(LIMIT), Client(settings) as client:
        assert (await client.classify("sentiment", GOOD)).label == "positive"
    second.send(signal.SIGTERM)
    assert await second.ended() == 0
    assert await waiting_packs(settings) == 0
