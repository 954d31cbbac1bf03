"""The worker: what any program may send it, how it ends, and what happens when it is killed."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aio_pika
import aiohttp
import msgspec
import psutil
import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from benchmarks.failures.observed import free_port
from benchmarks.failures.poison import Poison
from benchmarks.failures.processes import forked_by
from lmaas.broker_config.codes import Code
from lmaas.broker_config.errors import LmaasError, ModelNotFound
from lmaas.broker_config.headers import CLOCK, Headers
from lmaas.broker_config.messages import JSON, MSGPACK, Item, Request, encode
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import Names, routing_key
from lmaas.producer.client import Client
from lmaas.workers.preprocess import Encoded
from lmaas.workers.runtime import Runtime
from lmaas.workers.worker import Worker
from tests.integration.lanes import (
    LIMIT,
    as_told,
    channel_to,
    consumers,
    depth,
    having,
    make_lanes,
    sent_in,
    serving,
    until,
    waiting_packs,
)
from tests.integration.sender import of_others
from tests.integration.stage import Stage
from tests.integration.worker_process import StartWorker

GOOD, BAD = "a wonderful, moving film", "an awful, boring waste of time"


class Foreign:
    """A program that knows AMQP and JSON and nothing of this package."""

    def __init__(self, settings: Settings, channel: AbstractChannel) -> None:
        self._names = settings.names
        self.channel = channel
        self.replies: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        self.reply_to = "amq.rabbitmq.reply-to"

    async def listen(self) -> None:
        """On a queue that goes with the connection."""
        name = of_others(self._names, uuid.uuid4().hex)
        queue = await self.channel.declare_queue(name, exclusive=True)
        await queue.consume(self.replies.put, no_ack=True)
        self.reply_to = queue.name

    async def send(self, body: bytes | dict[str, Any], **properties: Any) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        chosen = {"content_type": JSON, "reply_to": self.reply_to} | properties
        work = await self.channel.get_exchange(self._names.work, ensure=False)
        await work.publish(aio_pika.Message(content, **chosen), routing_key("sentiment", "short"))

    async def reply(self) -> tuple[AbstractIncomingMessage, dict[str, Any]]:
        async with asyncio.timeout(LIMIT):
            message = await self.replies.get()
        return message, json.loads(message.body)

    async def dead_lettered(self) -> AbstractIncomingMessage:
        """What is, or comes, in the dead letter queue."""
        dead_letter_queue = await self.channel.get_queue(self._names.dead, ensure=False)
        found: list[AbstractIncomingMessage | None] = []

        async def is_there() -> bool:
            found.append(await dead_letter_queue.get(no_ack=True, fail=False))
            return found[-1] is not None

        await until(is_there)
        assert found[-1] is not None
        return found[-1]


@pytest.fixture
async def foreign(settings: Settings, worker: Worker) -> AsyncIterator[Foreign]:
    async with channel_to(settings) as channel:
        foreign = Foreign(settings, channel)
        await foreign.listen()
        yield foreign


def request(*texts: Any, **more: Any) -> dict[str, Any]:
    items = [{"id": f"i{place}", "text": text} for place, text in enumerate(texts)]
    return {"model": "sentiment", "items": items} | more


# ------------------------------------------------------------ foreign clients


async def test_a_foreign_client_is_answered_in_json(foreign: Foreign) -> None:
    await foreign.send(request(GOOD, BAD), correlation_id="mine")
    message, reply = await foreign.reply()
    assert (message.correlation_id, message.content_type) == ("mine", JSON)
    assert message.type == "lmaas.reply.v1"
    assert [(r["id"], r["label"]) for r in reply["results"]] == [
        ("i0", "positive"),
        ("i1", "negative"),
    ]
    assert (reply["model"], reply["version"]) == ("sentiment", "1")


async def test_without_a_content_type_a_request_is_json(foreign: Foreign) -> None:
    await foreign.send(request(GOOD), content_type=None)
    message, reply = await foreign.reply()
    assert (message.content_type, reply["results"][0]["label"]) == (JSON, "positive")


async def test_who_asks_in_message_pack_is_answered_in_it(foreign: Foreign) -> None:
    await foreign.send(msgspec.msgpack.encode(request(GOOD)), content_type=MSGPACK)
    message = await foreign.replies.get()
    assert message.content_type == MSGPACK
    assert msgspec.msgpack.decode(message.body)["results"][0]["label"] == "positive"


async def test_the_direct_reply_to_of_rabbitmq_is_answered(
    settings: Settings, worker: Worker
) -> None:
    async with channel_to(settings) as channel:
        foreign = Foreign(settings, channel)
        direct = await channel.get_queue("amq.rabbitmq.reply-to", ensure=False)
        await direct.consume(foreign.replies.put, no_ack=True)
        await foreign.send(request(GOOD), correlation_id="d")
        message, reply = await foreign.reply()
    assert message.correlation_id == "d"
    assert reply["results"][0]["label"] == "positive"


async def test_headers_that_a_caller_follows_come_back(foreign: Foreign) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    sent = {"traceparent": trace, "lmaas-job": "night", "lmaas-chunk": 3, "other": "x"}
    await foreign.send(request(GOOD), headers=sent)
    message, _ = await foreign.reply()
    clock = message.headers.pop(CLOCK)
    assert message.headers == {"traceparent": trace, "lmaas-job": "night", "lmaas-chunk": 3}
    assert clock / 1000 == pytest.approx(time.time(), abs=LIMIT)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", JSON),
        (b"{", JSON),
        (b"hello", JSON),
        (b"\x00\xff", MSGPACK),
        (json.dumps(request()).encode(), JSON),
        (json.dumps({"model": "sentiment"}).encode(), JSON),
        (
            b'{"model": "sentiment", "version": "\\ud800", "items": [{"id": "1", "text": "x"}]}',
            JSON,
        ),
        (json.dumps(request(GOOD, options={"top_k": -1})).encode(), JSON),
        (json.dumps(request(GOOD)).encode(), "text/plain"),
    ],
)
async def test_a_broken_body_is_answered_and_dead_lettered_and_its_neighbours_go_on(
    foreign: Foreign, body: bytes, content_type: str
) -> None:
    await foreign.send(request(GOOD))
    await foreign.send(body, content_type=content_type, correlation_id="broken")
    await foreign.send(request(BAD))
    answers: dict[str | None, Any] = {}
    for _ in range(3):
        message = await asyncio.wait_for(foreign.replies.get(), LIMIT)
        decode = msgspec.msgpack if message.content_type == MSGPACK else msgspec.json
        answers.setdefault(message.correlation_id, []).append(decode.decode(message.body))
    (broken,) = answers.pop("broken")
    assert broken["error"]["code"] == Code.MALFORMED
    assert broken["results"] == []
    assert sorted(reply["results"][0]["label"] for reply in answers[None]) == [
        "negative",
        "positive",
    ]
    copy = await foreign.dead_lettered()
    assert (copy.body, copy.content_type, copy.correlation_id) == (body, content_type, "broken")
    assert copy.headers["lmaas-error"] == Code.MALFORMED
    assert copy.headers["lmaas-reason"] == broken["error"]["message"]
    assert copy.headers["lmaas-worker"]


@pytest.mark.parametrize(
    ("item", "code"),
    [
        ({"id": "x", "text": None}, Code.INVALID_ITEM),
        ({"id": "x", "text": 7}, Code.INVALID_ITEM),
        ({"id": "x", "text": ""}, Code.EMPTY_TEXT),
        ({"id": "x", "text": "a", "data": "aGk="}, Code.INVALID_ITEM),
        ({"id": "x", "data": "aGk=", "media_type": "image/png"}, Code.NOT_TEXT),
        ({"id": "x", "text": "a", "unknown": 1}, Code.INVALID_ITEM),
        ({"id": "x", "text": "\ud800"}, Code.INVALID_UTF8),
        ({"text": "no id"}, Code.INVALID_ITEM),
        ("no object", Code.INVALID_ITEM),
    ],
)
async def test_a_bad_item_gets_its_error_and_its_neighbours_their_labels(
    foreign: Foreign, item: Any, code: Code
) -> None:
    good = request(GOOD)["items"]
    await foreign.send({"model": "sentiment", "items": [*good, item, {"id": "z", "text": BAD}]})
    _, reply = await foreign.reply()
    first, bad, last = reply["results"]
    assert (first["label"], last["label"]) == ("positive", "negative")
    assert bad["error"]["code"] == code
    assert "error" not in reply


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"model": "nope"}, Code.MALFORMED),
        ({"model": "../sentiment"}, Code.MALFORMED),
        ({"version": "99"}, Code.UNKNOWN_VERSION),
    ],
)
async def test_what_is_not_there_is_the_error_of_each_item(
    foreign: Foreign, changes: dict[str, str], code: Code
) -> None:
    await foreign.send(request(GOOD, BAD) | changes)
    _, reply = await foreign.reply()
    assert reply["error"]["code"] == code
    assert [result["error"]["code"] for result in reply["results"]] == [code, code]


async def test_a_reply_for_a_queue_that_is_gone_stops_nobody(
    settings: Settings, foreign: Foreign
) -> None:
    await foreign.send(request(GOOD), reply_to=of_others(settings.names, "gone"))
    await foreign.send(request(GOOD), reply_to="amq.rabbitmq.reply-to.g1h2AnU")
    await foreign.send(request(BAD))
    _, reply = await foreign.reply()
    assert reply["results"][0]["label"] == "negative"


OTHERS = ("mine", "another's", "journal")


@pytest.mark.parametrize("victim", [*OTHERS, "lane", "dead letters"])
async def test_no_answer_goes_where_no_answers_belong(
    settings: Settings, foreign: Foreign, victim: str
) -> None:
    names = settings.names
    queue = {
        "mine": f"{settings.prefix}.mine",
        "another's": Names(f"{settings.prefix}2").client_results("c"),
        "lane": names.work_queue("sentiment", "huge"),
        "journal": names.jobs,
        "dead letters": names.dead,
    }[victim]
    await foreign.channel.declare_queue(queue, durable=True, passive=victim not in OTHERS)
    await foreign.send(request(GOOD), reply_to=queue, correlation_id="c")
    await foreign.send(request(BAD))
    _, reply = await foreign.reply()  # the worker goes on
    assert reply["results"][0]["label"] == "negative"
    dead_letter = await foreign.dead_lettered()
    assert (dead_letter.headers["lmaas-error"], dead_letter.reply_to) == ("malformed", None)
    assert f"reply_to '{queue}' is no queue for results" in str(dead_letter.headers["lmaas-reason"])
    assert await depth(settings, queue) == 0
    if victim in OTHERS:
        await foreign.channel.queue_delete(queue)


async def test_a_pack_for_another_model_than_its_lane_s_is_refused(foreign: Foreign) -> None:
    await foreign.send(request(GOOD) | {"model": "secret"})
    _, reply = await foreign.reply()
    assert reply["error"]["code"] == "malformed"
    assert "model 'secret' in a lane of 'sentiment'" in reply["error"]["message"]
    assert (await foreign.dead_lettered()).headers["lmaas-error"] == "malformed"


async def test_a_request_without_reply_to_is_done_with(foreign: Foreign) -> None:
    await foreign.send(request(GOOD), reply_to=None)
    await foreign.send(b"broken", reply_to=None)
    await foreign.send(request(BAD))
    _, reply = await foreign.reply()
    assert reply["results"][0]["label"] == "negative"
    assert (await foreign.dead_lettered()).body == b"broken"


async def test_headers_that_make_no_sense_stop_nobody(foreign: Foreign) -> None:
    odd = {"lmaas-attempt": "x", "lmaas-cost": -1.5, "lmaas-job": 7, "lmaas-chunk": [1], "a": None}
    await foreign.send(request(GOOD), headers=odd, priority=9)
    _, reply = await foreign.reply()
    assert reply["results"][0]["label"] == "positive"


async def test_an_inference_that_fails_is_the_error_of_its_own_item(
    settings: Settings,
    foreign: Foreign,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # pytest-xdist breaks off over a log that no encoding takes.
    caplog.set_level(logging.CRITICAL, "lmaas.workers.plan")
    curse(monkeypatch, RuntimeError("cursed \ud800"))
    texts = [GOOD, "cursed", BAD, "", GOOD]
    async with Client(settings) as client:
        results = [result async for result in client.classify_many("sentiment", texts)]
    assert [result.label for result in results] == ["positive", None, "negative", None, "positive"]
    assert results[1].error is not None
    assert results[1].error.code == Code.INTERNAL
    assert "RuntimeError" in results[1].error.message
    dead_lettered = await foreign.dead_lettered()
    assert [item.text for item in sent_in(dead_lettered, settings).items] == ["cursed"]
    assert dead_lettered.headers["lmaas-error"] == Code.INTERNAL
    assert dead_lettered.headers["lmaas-first-error"] == str(as_told(results[1].error, settings))
    assert dead_lettered.routing_key == "sentiment.instant"


def curse(monkeypatch: pytest.MonkeyPatch, *errors: Exception) -> None:
    """Running the text "cursed" raises the first error, the next time the second and so on."""
    encode, left = Runtime.encode, list(errors)

    def cursed(runtime: Runtime, items: list[Item]) -> Encoded:
        if any(item.text == "cursed" for item in items) and left:
            # What is over several items is narrowed down to the one before it counts.
            raise left[0] if len(items) > 1 else left.pop(0)
        return encode(runtime, items)

    monkeypatch.setattr(Runtime, "encode", cursed)


async def test_memory_that_was_short_is_tried_for_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    curse(monkeypatch, MemoryError(), OSError("the disk sleeps"))
    monkeypatch.setattr("random.random", lambda: 0.0)
    hasty = having(settings, retry_delays=("100ms", "200ms", "9999m"))
    texts = [GOOD, "cursed", BAD]
    async with asyncio.timeout(LIMIT), serving(hasty), Client(hasty) as client:
        began = time.monotonic()
        results = [result async for result in client.classify_many("sentiment", texts)]
    assert time.monotonic() - began >= 0.3
    assert all(result.label for result in results)
    assert await waiting_packs(settings) == 0


async def test_memory_that_stays_short_is_the_error_of_its_item_in_the_end(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    curse(monkeypatch, *[MemoryError()] * 9)
    hasty = having(settings, max_attempts=2, retry_delays=("50ms",))
    async with serving(hasty), channel_to(settings) as channel:
        foreign = Foreign(settings, channel)
        await foreign.listen()
        await foreign.send(request(GOOD, "cursed"), headers={"mine": "goes", "x-death": []})
        _, reply = await foreign.reply()
        dead_lettered = await foreign.dead_lettered()
    assert reply["results"][0]["label"] == "positive"
    assert reply["results"][1]["error"]["code"] == Code.OUT_OF_MEMORY
    assert json.loads(dead_lettered.body) == {
        "model": "sentiment",
        "items": [{"id": "i1", "text": "cursed"}],
    }
    headers = dict(dead_lettered.headers)
    assert headers.pop("lmaas-published-ms") <= headers.pop("lmaas-parked-ms")
    assert headers.pop("lmaas-worker")
    words = "MemoryError: "
    assert headers == {
        "lmaas-attempt": 2,
        "lmaas-first-error": f"out_of_memory: {words}",
        "lmaas-error": "out_of_memory",
        "lmaas-reason": words,
    }


async def test_a_pack_over_which_the_worker_has_a_bug_is_dead_lettered_and_holds_nothing(
    foreign: Foreign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmaas.workers.settling.settler.Settler._answer", None)
    await foreign.send(request(GOOD))

    async def is_dead_lettered() -> bool:
        dead_letter_queue = await foreign.channel.get_queue(foreign._names.dead)
        return dead_letter_queue.declaration_result.message_count == 1

    await until(is_dead_lettered)
    assert json.loads((await foreign.dead_lettered()).body) == request(GOOD)


async def test_an_answer_that_is_too_large_is_told(settings: Settings) -> None:
    narrow = having(settings, max_message_bytes=1_000)
    async with serving(narrow), Client(settings) as client:
        assert (await client.classify("sentiment", GOOD)).label == "positive"
        with pytest.raises(LmaasError, match=r"cannot be sent: .* 1,000: make smaller packs"):
            await anext(client.classify_many("sentiment", [GOOD] * 40))
    assert await waiting_packs(settings) == 0


async def test_an_answer_waits_for_a_results_queue_that_comes_late(
    settings: Settings,
) -> None:
    late = of_others(settings.names, "late")

    async def waits() -> bool:
        return await depth(settings, settings.names.retry("sentiment", "800ms")) == 1

    async with serving(having(settings, retry_delays=("800ms",))), channel_to(settings) as channel:
        foreign = Foreign(settings, channel)
        await foreign.send(request(GOOD), reply_to=late, correlation_id="c")
        await until(waits)
        queue = await channel.declare_queue(late, exclusive=True)
        await queue.consume(foreign.replies.put, no_ack=True)
        message, reply = await foreign.reply()
    assert (message.correlation_id, reply["results"][0]["label"]) == ("c", "positive")


async def test_what_waits_for_a_delay_of_before_comes_back_to_workers_with_other_ones(
    settings: Settings,
) -> None:
    before = having(settings, retry_delays=("500ms",))
    await make_lanes(before)
    async with channel_to(settings) as channel:
        foreign = Foreign(settings, channel)
        await foreign.listen()
        retry = await channel.get_exchange(settings.names.retry("sentiment", "500ms"), ensure=False)
        message = aio_pika.Message(
            json.dumps(request(GOOD)).encode(), content_type=JSON, reply_to=foreign.reply_to
        )
        await retry.publish(message, routing_key("sentiment", "short"))
        async with serving(settings):
            _, reply = await foreign.reply()
    assert reply["results"][0]["label"] == "positive"
    assert await depth(settings, settings.names.retry("sentiment", "500ms")) == 0


async def test_what_a_client_that_is_gone_has_sent_is_not_run(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """Who resumes a file deletes the results queue of the one that was killed."""
    once = msgspec.structs.replace(settings, max_attempts=1)
    names, stage = settings.names, Stage()
    async with stage.serving(once), channel_to(settings) as channel:
        gone = await channel.declare_queue(of_others(names, "gone"))
        work = await channel.get_exchange(names.work, ensure=False)
        stage.hold()
        for number in range(8):
            body = encode(Request(model="sentiment", items=[Item(id=str(number), text=GOOD)] * 256))
            message = aio_pika.Message(body, content_type=MSGPACK, reply_to=gone.name)
            await work.publish(message, routing_key("sentiment", "short"))
        await stage.began()
        async with Client(settings) as client:
            await client.of_file(uuid.uuid4()).follow(gone.name)
            caplog.set_level(logging.INFO)
            stage.step()

            async def known() -> bool:
                return "nobody waits for a reply" in caplog.text

            await until(known)
            await stage.began(2)
            stage.release()
            assert (await client.classify("sentiment", GOOD)).label
    assert await waiting_packs(settings) == 0
    assert stage.packs == ["0", "1", "0"]


async def test_what_comes_back_for_nobody_is_not_run_isolated(settings: Settings) -> None:
    """It may be what ended a worker, and would end the next process."""
    once = msgspec.structs.replace(settings, max_attempts=1)
    names, stage = settings.names, Stage()
    await make_lanes(settings)
    async with channel_to(settings) as channel:
        work = await channel.get_exchange(names.work, ensure=False)
        queues = (of_others(names, "gone"), f"{names.results}.job.gone.12345678")
        for reply_to, job in zip(queues, (None, "gone"), strict=True):
            headers = Headers(job=job, chunk=0 if job else None).table()
            body = encode(Request(model="sentiment", items=[Item(id="vain", text=GOOD)]))
            message = aio_pika.Message(
                body, content_type=MSGPACK, reply_to=reply_to, headers=headers
            )
            await work.publish(message, routing_key("sentiment", "short"))
        lane = await channel.get_queue(names.work_queue("sentiment", "short"))
        for _ in queues:
            held = await lane.get()
        await held.nack(requeue=True, multiple=True)
    async with stage.serving(once), Client(settings) as client:
        assert (await client.classify("sentiment", GOOD)).label
        assert await waiting_packs(settings) == 0
    assert stage.packs == ["0"]


async def test_a_client_that_is_still_there_is_not_followed(
    settings: Settings, client: Client
) -> None:
    queue = settings.names.client_results(client.id)
    async with Client(settings) as other:
        await other.of_file(uuid.uuid4()).follow(queue)
        await other.of_file(uuid.uuid4()).follow(settings.names.dead)
        await other.of_file(uuid.uuid4()).follow(settings.names.client_results("never was"))
    assert await depth(settings, queue) == 0
    assert await depth(settings, settings.names.dead) == 0


async def test_only_the_named_models_are_served(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelNotFound, match="nope"):
        await Worker(settings, ["nope"]).run()
    monkeypatch.setattr("lmaas.broker_config.folders.SHIPPED_MODELS", Path("/nowhere"))
    empty = msgspec.structs.replace(settings, models="/nowhere")
    with pytest.raises(ModelNotFound, match="no model can be served of those in /nowhere;"):
        await Worker(empty).run()


# ------------------------------------------------------------------- its end


async def flood(client: Client, texts: list[str]) -> asyncio.Task[list[str | None]]:
    """Begins to classify; gives the ids and labels when all are there."""

    async def collect() -> list[str | None]:
        found = []
        async for result in client.classify_many("sentiment", texts):
            assert result.id == str(len(found)), "lost or doubled"
            found.append(result.label)
        return found

    return asyncio.create_task(collect())


async def labels_of(task: asyncio.Task[list[str | None]]) -> list[str | None]:
    async with asyncio.timeout(LIMIT):
        return await task


@pytest.fixture
def small_packs(settings: Settings) -> Settings:
    """Many packs, most of which wait in the lanes."""
    return msgspec.structs.replace(settings, pack_items=5, window=200)


async def first_reply(client: Client) -> None:
    """Waits until a worker has begun to answer."""
    at = client._replies.last_arrival

    async def came() -> bool:
        return client._replies.last_arrival > at

    await until(came)


async def test_a_worker_that_is_killed_loses_nothing(
    small_packs: Settings, start_worker: StartWorker, texts: list[str]
) -> None:
    victim = await start_worker()
    async with Client(small_packs) as client:
        answers = await flood(client, texts)
        await first_reply(client)
        await victim.kill()
        assert not answers.done()
        await start_worker()
        labels = await labels_of(answers)
    assert len(labels) == len(texts)
    assert set(labels) == {"positive", "negative"}
    assert await waiting_packs(small_packs) == 0


async def test_sigterm_finishes_what_was_begun_and_hands_back_the_rest(
    small_packs: Settings, start_worker: StartWorker, texts: list[str]
) -> None:
    first = await start_worker()
    async with Client(small_packs) as client:
        answers = await flood(client, texts)
        await first_reply(client)
        first.send(signal.SIGTERM)
        assert await first.ended() == 0
        assert "draining" in "".join(first.lines)
        assert not answers.done()

        async def are_in_the_lanes() -> bool:
            return await waiting_packs(small_packs) == len(client._replies._waiting)

        # No worker now: all that is not answered is in the lanes, and nothing comes twice.
        await until(are_in_the_lanes)
        await start_worker()
        assert len(await labels_of(answers)) == len(texts)


async def has_waiting(settings: Settings, packs: int) -> bool:
    return await waiting_packs(settings) == packs


async def test_a_second_signal_ends_at_once(settings: Settings, start_worker: StartWorker) -> None:
    """Also in the midst of a run, whose pack goes back to its lane."""
    port = free_port()
    worker = await start_worker(module=("benchmarks.poisoned",), LMAAS_HEALTH_PORT=str(port))

    async def is_running() -> bool:
        url = f"http://127.0.0.1:{port}/metrics"
        async with aiohttp.ClientSession() as http, http.get(url) as answer:
            return "\nlmaas_packs_running 1.0\n" in await answer.text()

    async with channel_to(settings) as channel:
        foreign = Foreign(settings, channel)
        await foreign.listen()
        await foreign.send(request(f"{GOOD} {Poison.SLEEP}"))
        await until(is_running)
        worker.send(signal.SIGTERM)
        await worker.says("draining")
        worker.send(signal.SIGINT)
        assert await worker.ended() == 130
        await until(lambda: has_waiting(settings, 1))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_while_it_waits_for_the_broker_ends_a_worker(
    start_worker: StartWorker, number: signal.Signals
) -> None:
    worker = await start_worker(
        until="no broker", LMAAS_BROKER_URL="amqp://127.0.0.1:1/", LMAAS_CONNECT_TIMEOUT="600"
    )
    worker.send(number)
    assert await worker.ended() == 0
    assert "Traceback" not in "".join(worker.lines)


async def test_a_worker_without_a_broker_says_so_in_one_line(start_worker: StartWorker) -> None:
    worker = await start_worker(
        until="error:", LMAAS_BROKER_URL="amqp://u:secret@127.0.0.1:1/", LMAAS_CONNECT_TIMEOUT="0.3"
    )
    assert await worker.ended() == 1
    told = "".join(worker.lines)
    assert "is it running" in told
    assert "secret" not in told
    assert "Traceback" not in told


async def test_several_workers_without_a_broker_say_the_reason_once(
    start_worker: StartWorker,
) -> None:
    supervisor = await start_worker(
        "--processes", "2", until="error:",
        LMAAS_BROKER_URL="amqp://127.0.0.1:1/", LMAAS_CONNECT_TIMEOUT="0.3",
    )  # fmt: skip
    assert await supervisor.ended() == 1
    told = [line for line in supervisor.lines if "no broker at" in line]
    assert len(told) == 2, supervisor.lines
    assert "yet; trying for 0.3 s" in told[0]
    assert "is it running" in told[1]


# --------------------------------------------------------------- supervision


async def all_gone(processes: list[psutil.Process]) -> None:
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, LIMIT)
    assert alive == []


async def test_a_supervised_worker_that_is_killed_is_started_again(
    small_packs: Settings, start_worker: StartWorker, texts: list[str]
) -> None:
    supervisor = await start_worker("--processes", "2", until=None)
    await supervisor.says("ready", times=2)
    before = forked_by(supervisor.pid)
    assert len(before) == 2
    async with Client(small_packs) as client:
        answers = await flood(client, texts)
        await first_reply(client)
        before[0].kill()
        assert len(await labels_of(answers)) == len(texts)
    await supervisor.says("SIGKILL")
    await supervisor.says("ready", times=3)
    assert "Traceback" not in "".join(supervisor.lines)
    # And none of them outlives the supervisor, however it ends.
    left = psutil.Process(supervisor.pid).children(recursive=True)
    supervisor.send(signal.SIGKILL)
    await all_gone(left)


async def test_workers_that_cannot_start_end_their_supervisor(start_worker: StartWorker) -> None:
    supervisor = await start_worker("--processes", "2", "--model", "nope", until="error:")
    assert await supervisor.ended() == 1
    told = "".join(supervisor.lines)
    assert "no model 'nope'" in told
    assert "Traceback" not in told


async def test_a_signal_before_they_are_ready_ends_all_workers(start_worker: StartWorker) -> None:
    supervisor = await start_worker(
        "--processes", "2", until=None,
        LMAAS_BROKER_URL="amqp://127.0.0.1:1/", LMAAS_CONNECT_TIMEOUT="600",
    )  # fmt: skip
    await supervisor.says("no broker")
    left = forked_by(supervisor.pid)
    supervisor.send(signal.SIGINT)
    assert await supervisor.ended() == 0
    await all_gone(left)
    assert "Traceback" not in "".join(supervisor.lines)


def test_a_worker_imports_no_training_libraries() -> None:
    code = (
        "import sys, lmaas.workers.worker, lmaas.cli.worker, lmaas.cli.up\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=LIMIT
    )
    found = set(done.stdout.split())
    assert "onnxruntime" in found
    assert not found & {"tensorflow", "keras", "tf2onnx", "onnx", "pyarrow", "matplotlib"}


async def test_what_it_dead_letters_and_leaves_is_nothing_when_all_went_well(
    client: Client, worker: Worker
) -> None:
    assert (await client.classify("sentiment", GOOD)).label == "positive"
    assert await depth(worker.settings, worker.settings.names.dead) == 0


@pytest.mark.parametrize("part", ["lane", "results"])
async def test_a_queue_that_was_deleted_is_made_and_consumed_again(
    client: Client, worker: Worker, settings: Settings, part: str
) -> None:
    assert (await client.classify("sentiment", GOOD)).label == "positive"
    names = settings.names
    name = names.work_queue("sentiment", "short")
    if part == "results":
        name = names.client_results(client.id)
    async with channel_to(settings) as channel:
        await channel.queue_delete(name)

    async def is_back() -> bool:
        return await consumers(settings, name) == 1

    await until(is_back)
    assert (await client.classify("sentiment", GOOD)).label == "positive"


async def test_lanes_that_filled_before_the_worker_came_are_emptied(settings: Settings) -> None:
    await make_lanes(settings)
    async with Client(settings) as client:
        answers = await flood(client, [GOOD] * 1_000)
        await until(lambda: has_waiting(settings, 4))
        async with serving(settings):
            assert await labels_of(answers) == ["positive"] * 1_000
