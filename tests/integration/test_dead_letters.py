"""The dead letter queue on a broker: read, replayed, purged; whoever wrote it, whatever breaks."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
import struct
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import aio_pika
import msgspec
import pamqp.encode
import pytest
from aio_pika import DeliveryMode
from aio_pika.abc import AbstractIncomingMessage

from lmaas.broker_config.codes import Code
from lmaas.broker_config.errors import BrokerError, BrokerUnavailable
from lmaas.broker_config.headers import Headers
from lmaas.broker_config.hosts import Pauses
from lmaas.broker_config.messages import JSON, MSGPACK, Item, Request, Result, encode
from lmaas.broker_config.scheduling import LANES
from lmaas.broker_config.settings import Settings
from lmaas.producer import dead_letter_queue
from lmaas.producer.batch import Jobs
from lmaas.producer.checkpoint import PartialFile
from lmaas.producer.collect import collect
from lmaas.producer.dead_letter import Filter, Summary
from lmaas.producer.dead_letter_queue import LARGEST_PAGE
from lmaas.producer.dead_letters import DeadLetter, export, purge, read, replay
from lmaas.producer.tables import Place
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
from tests.integration.proxy import Proxy

GOOD = "a wonderful, moving film"
ALL = Filter()


def pack(text: str = GOOD, **changes: Any) -> bytes:
    return encode(Request(**{"model": "sentiment", "items": [Item(id="0", text=text)]} | changes))


def headers(**changes: Any) -> dict[str, Any]:
    """As a worker dead-letters a pack."""
    given: dict[str, Any] = {
        "attempt": 3,
        "deadline_ms": 1,
        "published_ms": 1,
        "first_error": "unavailable: no file",
        "error": Code.POISON,
        "reason": "it ended its process",
        "worker": "w1",
        "parked_ms": int(time.time() * 1000),
    }
    return Headers(**given | changes).table()


async def dead_letter(
    settings: Settings, messages: Iterable[aio_pika.Message], key: str = "sentiment.short"
) -> None:
    """Put into the dead letter queue as a worker does it."""
    async with channel_to(settings) as channel:
        dead = await channel.get_exchange(settings.names.dead, ensure=False)
        await asyncio.gather(*(dead.publish(message, key) for message in messages))


def summary(number: int, body: bytes | None = None, **changes: Any) -> aio_pika.Message:
    given: dict[str, Any] = {
        "content_type": MSGPACK,
        "correlation_id": str(number),
        "delivery_mode": DeliveryMode.PERSISTENT,
        "headers": headers(),
        "message_id": uuid.uuid4().hex,
        "reply_to": "nobody",
    }
    return aio_pika.Message(pack() if body is None else body, **given | changes)


async def found(settings: Settings, wanted: Filter = ALL) -> list[DeadLetter]:
    async with asyncio.timeout(LIMIT), contextlib.aclosing(read(settings, wanted)) as pages:
        return [dead_letter async for page in pages for dead_letter in page]


async def seen(settings: Settings, wanted: Filter = ALL) -> list[Summary]:
    return [dead_letter.summary for dead_letter in await found(settings, wanted)]


async def consumed(pages: AsyncIterator[list[DeadLetter]]) -> int:
    """How many come."""
    return sum([len(page) async for page in pages])


async def taken(settings: Settings, queue: str) -> list[AbstractIncomingMessage]:
    """Everything in a queue, which is empty then."""
    messages = []
    async with channel_to(settings) as channel:
        source = await channel.get_queue(queue)
        while message := await source.get(no_ack=True, fail=False):
            messages.append(message)
    return messages


def json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def in_lanes(settings: Settings) -> Counter[str]:
    """Correlation id -> how often it waits in a lane; the lanes are empty then."""
    names = [settings.names.work_queue("sentiment", lane) for lane in LANES]
    messages = [message for name in names for message in await taken(settings, name)]
    return Counter(message.correlation_id or "" for message in messages)


pytestmark = pytest.mark.usefixtures("lanes")


async def dead_letter_twice(settings: Settings, count: int) -> None:
    """As when a producer was killed and resumed, or a worker lost before its ack."""
    for _ in range(2):
        await dead_letter(
            settings,
            [summary(n, message_id=uuid.uuid5(uuid.NAMESPACE_OID, str(n)).hex)
             for n in range(count)],
        )  # fmt: skip


# ------------------------------------------------------------------------------ reading


async def test_reading_leaves_everything_in_its_order(settings: Settings) -> None:
    await dead_letter(settings, map(summary, range(1_250)))
    for _ in range(3):
        dead_letters = await found(settings)
        numbers = [int(dead_letter.message.correlation_id or "") for dead_letter in dead_letters]
        assert numbers == list(range(1_250))
        assert await depth(settings, settings.names.dead) == 1_250


async def test_what_was_dead_lettered_twice_is_one_dead_letter(
    settings: Settings, tmp_path: Path
) -> None:
    await dead_letter_twice(settings, 300)
    await dead_letter(settings, [summary(300), summary(300)])  # two that only look alike
    numbers = [dead_letter.message.correlation_id for dead_letter in await found(settings)]
    assert Counter(numbers) == {**{str(number): 1 for number in range(300)}, "300": 2}
    with PartialFile(Place.of(str(tmp_path / "dead.jsonl"))) as file:
        file.start(b"")
        assert await export(settings, ALL, file) == 302
    one = (await seen(settings))[7].id
    outcome = await replay(settings, Filter(ids=frozenset({one})))
    assert (outcome.done, outcome.missing) == (1, frozenset())
    assert await in_lanes(settings) == {"7": 1}
    assert await depth(settings, settings.names.dead) == 600
    assert (await replay(settings, ALL)).done == 301
    assert set((await in_lanes(settings)).values()) == {1, 2}
    assert await depth(settings, settings.names.dead) == 0
    await dead_letter_twice(settings, 300)
    assert (await purge(settings, ALL)).done == 300
    assert await depth(settings, settings.names.dead) == 0


async def test_a_quorum_queue_keeps_everything_too(settings: Settings) -> None:
    """More often than a queue with any limit on deliveries would stand."""
    settings = having(settings, prefix=f"{settings.prefix}-q", queue_type="quorum")
    await make_lanes(settings)
    await dead_letter(settings, map(summary, range(1_250)))
    async with channel_to(settings) as channel:
        for _ in range(5):
            dead_letters = await found(settings)
            numbers = sorted(
                int(dead_letter.message.correlation_id or "") for dead_letter in dead_letters
            )
            assert numbers == list(range(1_250))
            queue = await channel.get_queue(settings.names.dead)
            assert queue.declaration_result.message_count == 1_250, "everything is back at once"
    assert (await replay(settings, ALL)).done == 1_250
    assert await in_lanes(settings) == Counter(map(str, range(1_250)))


def messages_in_memory() -> int:
    return sum(isinstance(one, aio_pika.IncomingMessage) for one in gc.get_objects())


@pytest.mark.chaos
async def test_three_thousand_large_messages_are_read_in_little_memory(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letter_queue, "PAGE_BYTES", 2_000_000)
    body = pack("x" * 20_000)
    await dead_letter(settings, (summary(number, body) for number in range(3_000)))
    before = messages_in_memory()
    counts, held = [], []
    async with contextlib.aclosing(read(settings, ALL)) as pages:
        async for page in pages:
            counts.append(len(page))
            held.append(messages_in_memory() - before)
    assert sum(counts) == 3_000
    assert max(counts) <= 100
    assert 90 <= max(held) <= 210, "a page, and the one before it"


async def test_who_stops_at_the_first_page_has_taken_nothing_out(settings: Settings) -> None:
    await dead_letter(settings, map(summary, range(300)))
    async with contextlib.aclosing(read(settings, ALL)) as pages:
        first = await anext(pages)
    assert 0 < len(first) < 300
    assert len(await found(settings)) == 300


async def test_filters_pick(settings: Settings) -> None:
    await dead_letter(settings, [summary(0), summary(1, headers=headers(error=Code.TIME_LIMIT))])
    await dead_letter(settings, [summary(2, headers=headers(job="night", chunk=7))], "other.huge")
    zero, one, two = await seen(settings)
    assert await seen(settings, Filter(error="time_limit")) == [one]
    assert await seen(settings, Filter(model="other")) == [two]
    assert await seen(settings, Filter(job="night")) == [two]
    assert await seen(settings, Filter(ids=frozenset({zero.id, two.id}))) == [zero, two]
    assert (two.lane, two.chunk, two.items, two.attempts) == ("huge", 7, 1, 3)


async def test_a_second_reader_is_told_and_the_first_sees_everything(settings: Settings) -> None:
    await dead_letter(settings, map(summary, range(300)))
    async with contextlib.aclosing(read(settings, ALL)) as pages:
        count = len(await anext(pages))
        for attempt in (found(settings), replay(settings, ALL), purge(settings, ALL)):
            with pytest.raises(BrokerUnavailable, match="is being read by somebody else"):
                await attempt
        count += await consumed(pages)
    assert count == 300
    assert len(await found(settings)) == 300


async def test_a_reader_that_leaves_at_this_moment_is_not_told_of(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RabbitMQ 4.3 keeps what is exclusive to a connection a little longer than that."""
    refused = asyncio.Event()

    class Told(Pauses):
        def next(self) -> float:
            refused.set()
            return super().next()

    monkeypatch.setattr(dead_letter_queue, "Pauses", Told)
    await dead_letter(settings, map(summary, range(3)))
    async with channel_to(settings) as channel:
        await channel.declare_queue(f"{settings.names.dead}.reader", exclusive=True)
        second = asyncio.create_task(found(settings))
        await refused.wait()
    assert len(await second) == 3


async def test_a_foreign_consumer_is_told_of(settings: Settings) -> None:
    await dead_letter(settings, map(summary, range(3)))
    async with channel_to(settings) as channel:
        queue = await channel.get_queue(settings.names.dead)
        arrivals: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        await channel.set_qos(1)
        await queue.consume(arrivals.put)
        await arrivals.get()
        with pytest.raises(BrokerUnavailable, match="is being read by somebody else"):
            await found(settings)
    await until(lambda: has(settings, settings.names.dead, 3))
    assert len(await found(settings)) == 3


async def has(settings: Settings, queue: str, count: int) -> bool:
    return await depth(settings, queue) == count


async def test_what_is_purged_by_somebody_else_meanwhile_is_not_waited_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letter_queue, "SILENCE", 0.1)
    await dead_letter(settings, map(summary, range(300)))
    async with asyncio.timeout(LIMIT), contextlib.aclosing(read(settings, ALL)) as pages:
        await anext(pages)
        async with channel_to(settings) as channel:
            await (await channel.get_queue(settings.names.dead)).purge()
        assert [page async for page in pages] == []


async def test_a_dead_letter_queue_that_is_not_there_is_told(settings: Settings) -> None:
    with pytest.raises(BrokerError, match="has no dead letter queue"):
        await found(having(settings, prefix="nobody"))


async def test_a_reader_whose_line_breaks_is_told(settings: Settings, proxy: Proxy) -> None:
    await dead_letter(settings, map(summary, range(300)))
    cut = having(settings, broker_url=proxy.url)
    async with contextlib.aclosing(read(cut, ALL)) as pages:
        await anext(pages)
        proxy.cut()
        with pytest.raises(BrokerUnavailable, match="nothing was taken out"):
            await consumed(pages)
    await until(lambda: has(settings, settings.names.dead, 300))


# ------------------------------------------------------------------- foreign and broken


async def test_whatever_lies_there_is_shown_and_can_be_sent_on(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_string = pamqp.encode.short_string

    def any_bytes(value: str) -> bytes:
        return b"\x02\xff\xfe" if value == "no utf-8" else short_string(value)

    def year_34865(value: Any) -> bytes:
        return struct.pack(">Q", 2**40 * 1000)

    strange = [
        aio_pika.Message(b""),
        aio_pika.Message(b"\x00\xff" * 50, content_type="image/png", message_id="1"),
        aio_pika.Message(b"{", content_type=JSON, message_id="1"),
        aio_pika.Message(pack(), message_id="same"),
        aio_pika.Message(pack(), message_id="same"),
        aio_pika.Message(b"[" * 50_000),
        aio_pika.Message(b'{"model": 1, "items": {}}', correlation_id="no utf-8"),
        aio_pika.Message(b"x", headers={"no utf-8": 1}),
        aio_pika.Message(b"x", headers={"x-death": 7, "lmaas-attempt": "x", "lmaas-job": [1]}),
        aio_pika.Message(b"x", timestamp=1),
    ]
    with monkeypatch.context() as patched:
        for name, encoder in (("short_string", any_bytes), ("timestamp", year_34865)):
            patched.setattr(pamqp.encode, name, encoder)
        patched.setitem(pamqp.encode.METHODS, "shortstr", any_bytes)
        patched.setitem(pamqp.encode.METHODS, "timestamp", year_34865)
        await dead_letter(settings, strange, "elsewhere")
    await dead_letter(settings, [summary(0)])
    before = await seen(settings)
    assert len(before) == 11
    assert all(one.id for one in before)
    assert len({one.id for one in before}) == 10, "two of them are the same"
    assert await seen(settings) == before

    place = Place.of(str(tmp_path / "dead.jsonl"))
    with PartialFile(place) as file:
        file.start(b"")
        assert await export(settings, ALL, file) == 11
        file.finish(lambda path: path)
    lines = json_lines(Path(place.path))
    assert [line["id"] for line in lines] == [one.id for one in before]
    assert lines[-1]["body"]["items"][0]["text"] == GOOD

    outcome = await replay(settings, ALL)
    assert (outcome.done, outcome.unroutable) == (1, Counter({"elsewhere": 10}))
    assert await seen(settings) == before[:-1]
    assert (await purge(settings, Filter(ids=frozenset({"same"})))).done == 2
    assert (await purge(settings, ALL)).done == 8
    assert await depth(settings, settings.names.dead) == 0


async def test_what_the_broker_dead_lettered_is_shown_with_its_reason_and_sent_again(
    settings: Settings,
) -> None:
    lane = settings.names.work_queue("sentiment", "short")
    async with channel_to(settings) as channel:
        work = await channel.get_exchange(settings.names.work, ensure=False)
        await work.publish(summary(0, headers={}), "sentiment.short")
        message = await (await channel.get_queue(lane)).get(timeout=LIMIT)
        assert message is not None
        await message.reject(requeue=False)
    await until(lambda: has(settings, settings.names.dead, 1))
    (one,) = await seen(settings)
    assert (one.error, one.model, one.lane) == ("rejected", "sentiment", "short")
    assert one.reason == f"put here by the broker, from queue {lane}"
    assert abs((one.parked_ms or 0) / 1000 - time.time()) < 60
    assert (await replay(settings, ALL)).done == 1
    (again,) = await taken(settings, lane)
    assert not [name for name in again.headers if name.startswith("x-")]


# ----------------------------------------------------------------------------- replaying


async def test_a_replay_goes_to_its_lane_as_it_was_and_begins_anew(settings: Settings) -> None:
    body = json.dumps({"model": "sentiment", "items": []}).encode()
    sent = summary(7, body, content_type=JSON, priority=2, reply_to="here")
    await dead_letter(settings, [sent], "sentiment.long")
    outcome = await replay(settings, ALL)
    assert (outcome.done, outcome.unroutable, outcome.missing) == (1, Counter(), frozenset())
    (message,) = await taken(settings, settings.names.work_queue("sentiment", "long"))
    assert (message.body, message.content_type) == (body, JSON)
    assert (message.correlation_id, message.reply_to, message.priority) == ("7", "here", 2)
    assert message.message_id not in {None, sent.message_id}
    found = Headers.from_table(message.headers)
    assert found == Headers(replays=1, published_ms=found.published_ms)
    assert abs((found.published_ms or 0) / 1000 - time.time()) < 60
    assert await depth(settings, settings.names.dead) == 0


async def test_a_pack_of_a_workers_own_lane_goes_to_the_lane_that_all_share(
    settings: Settings,
) -> None:
    await dead_letter(settings, [summary(0)], "sentiment.short.any")
    assert (await replay(settings, ALL)).done == 1
    assert await in_lanes(settings) == Counter({"0": 1})


async def test_only_matches_leave_and_ids_that_are_not_there_are_told(settings: Settings) -> None:
    await dead_letter(settings, map(summary, range(4)))
    await dead_letter(settings, [summary(4)], "nobody.short")
    ids = [one.id for one in await seen(settings)]
    outcome = await replay(settings, Filter(ids=frozenset({ids[1], ids[4], "x"})))
    assert (outcome.done, outcome.missing) == (1, frozenset({"x"}))
    assert outcome.unroutable == Counter({"nobody.short": 1})
    assert await in_lanes(settings) == Counter({"1": 1})
    assert (await purge(settings, Filter(ids=frozenset({ids[2]})))).done == 1
    assert [one.id for one in await seen(settings)] == [ids[0], ids[3], ids[4]]


async def test_what_is_dead_lettered_meanwhile_is_not_replayed_for_ever(settings: Settings) -> None:
    """A worker that dead-letters again at once what it gets."""
    await dead_letter(settings, map(summary, range(300)))
    async with channel_to(settings) as channel:
        dead = await channel.get_exchange(settings.names.dead, ensure=False)

        async def dead_letter_again(message: AbstractIncomingMessage) -> None:
            body, given = message.body, Headers.from_table(message.headers).table()
            await dead.publish(summary(0, body, headers=given), "sentiment.short")

        lane = await channel.get_queue(settings.names.work_queue("sentiment", "short"))
        await lane.consume(dead_letter_again, no_ack=True)
        async with asyncio.timeout(LIMIT):
            assert (await replay(settings, ALL)).done == 300
        await until(lambda: has(settings, settings.names.dead, 300))
    assert {one.replays for one in await seen(settings)} == {1}


async def test_a_replay_goes_on_when_its_line_breaks(settings: Settings, proxy: Proxy) -> None:
    await dead_letter(settings, map(summary, range(3_000)))
    cut = having(settings, broker_url=proxy.url)
    cuts = 0

    def report(looked: int, total: int) -> None:
        nonlocal cuts
        if looked >= 600 and cuts < 3:
            cuts += 1
            asyncio.get_running_loop().call_later(0.02, proxy.cut)

    async with asyncio.timeout(LIMIT):
        outcome = await replay(cut, ALL, report)
    assert cuts == 3
    assert outcome.done == 3_000
    assert await depth(settings, settings.names.dead) == 0
    lanes = await in_lanes(settings)
    assert set(lanes) == set(map(str, range(3_000)))
    # A publish whose confirm was lost is published again; nothing else is.
    assert lanes.total() <= 3_000 + cuts * LARGEST_PAGE


async def test_what_was_confirmed_before_its_ack_was_lost_is_not_published_again(
    settings: Settings, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line breaks when all of the second page is in the lanes."""
    pages = 0
    ack = dead_letter_queue.DeadLetterQueue.ack

    async def cut(dead_letter_queue: Any, messages: list[AbstractIncomingMessage]) -> None:
        nonlocal pages
        pages += 1
        if pages == 2:
            proxy.cut()
        await ack(dead_letter_queue, messages)

    monkeypatch.setattr(dead_letter_queue.DeadLetterQueue, "ack", cut)
    await dead_letter(settings, map(summary, range(1_000)))
    async with asyncio.timeout(LIMIT):
        assert (await replay(having(settings, broker_url=proxy.url), ALL)).done == 1_000
    assert pages > 3
    assert await in_lanes(settings) == Counter(map(str, range(1_000)))


async def test_a_replay_that_is_killed_half_way_loses_nothing(settings: Settings) -> None:
    await dead_letter(settings, map(summary, range(3_000)))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "lmaas", "dead", "replay", "--all",
        env=os.environ | {"LMAAS_BROKER_URL": settings.broker_url, "LMAAS_PREFIX": settings.prefix},
    )  # fmt: skip
    try:
        async with channel_to(settings) as channel:  # one for all looks: it is soon half-way
            lane = settings.names.work_queue("sentiment", "short")

            async def is_half_way() -> bool:
                found = (await channel.get_queue(lane)).declaration_result
                return (found.message_count or 0) >= 700

            await until(is_half_way)
            process.kill()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    assert await process.wait() == -signal.SIGKILL

    async def is_put_back() -> bool:
        waiting = await waiting_packs(settings)
        return waiting + (await depth(settings, settings.names.dead) or 0) >= 3_000

    await until(is_put_back)
    left = {dead_letter.message.correlation_id for dead_letter in await found(settings)}
    lanes = await in_lanes(settings)
    assert 0 < len(left) < 3_000
    assert left | set(lanes) == set(map(str, range(3_000)))
    assert len(left & set(lanes)) <= LARGEST_PAGE
    assert set(lanes.values()) == {1}
    assert (await replay(settings, ALL)).done == len(left)
    assert set(await in_lanes(settings)) == left


async def test_a_purge_drops_the_matches(settings: Settings) -> None:
    await dead_letter(settings, map(summary, range(30)))
    await dead_letter(
        settings, [summary(0, headers=headers(error=Code.TIME_LIMIT)) for _ in range(5)]
    )
    assert (await purge(settings, Filter(error="poison"))).done == 30
    assert {one.error for one in await seen(settings)} == {"time_limit"}
    assert (await purge(settings, ALL)).done == 5
    assert await found(settings) == []


# -------------------------------------------------------------------- results of a job


@pytest.fixture
def failing(settings: Settings) -> Settings:
    """Chunks of ten."""
    return msgspec.structs.replace(settings, pack_items=10)


TEXTS = [GOOD if number % 7 else "" for number in range(35)]
FAILED = [number for number in range(35) if not number % 7]


async def failed_job(settings: Settings) -> str:
    """A job whose empty texts were answered with an error; mended ones are dead-lettered."""
    async with Jobs(settings) as jobs:
        entry = await jobs.submit("sentiment", TEXTS, job="night")
        await until(lambda: is_finished(jobs))
    for number in FAILED:
        body = pack(items=[Item(id=str(number), text=GOOD)])
        given = headers(job="night", chunk=number // 10)
        await dead_letter(settings, [summary(number, body, headers=given, reply_to=entry.queue)])
    return entry.queue


async def is_finished(jobs: Jobs) -> bool:
    return (await jobs.progress("night")).finished


async def replayed_to(settings: Settings, queue: str) -> None:
    """Until the answers are in the job's results queue, which has its 4 chunks and its seal."""
    assert (await replay(settings, Filter(job="night"))).done == len(FAILED)
    await until(lambda: has(settings, queue, 5 + len(FAILED)))


async def test_replayed_items_of_a_job_amend_its_results(failing: Settings) -> None:
    async with serving(failing):
        queue = await failed_job(failing)
        await replayed_to(failing, queue)
        chunks: dict[int, list[Result]] = {}
        amended = []
        async with Jobs(failing) as jobs:
            async for chunk in jobs.results("night"):
                if chunk.amends:
                    assert chunk.number in chunks
                    amended += chunk.reply.results
                else:
                    assert chunk.number not in chunks
                    chunks[chunk.number] = chunk.reply.results
    results = [result for number in sorted(chunks) for result in chunks[number]]
    assert [int(result.id) for result in results if result.error] == FAILED
    assert sorted((int(result.id), result.label) for result in amended) == [
        (number, "positive") for number in FAILED
    ]  # each is a pack of its own, and packs may pass each other


async def test_a_collected_file_has_the_answers_of_replays(
    failing: Settings, tmp_path: Path
) -> None:
    path = tmp_path / "results.jsonl"
    async with serving(failing), Jobs(failing) as jobs:
        queue = await failed_job(failing)
        await replayed_to(failing, queue)
        assert await collect(jobs, "night", Place.of(str(path))) == (35, 0)
    rows = json_lines(path)
    assert [row["id"] for row in rows] == list(map(str, range(35)))
    assert {row["label"] for row in rows} == {"positive"}


async def test_a_job_that_was_not_replayed_keeps_its_errors(
    failing: Settings, tmp_path: Path
) -> None:
    path = tmp_path / "results.jsonl"
    async with serving(failing), Jobs(failing) as jobs:
        await failed_job(failing)
        assert await collect(jobs, "night", Place.of(str(path))) == (35, len(FAILED))


async def test_a_chunk_that_the_broker_dead_lettered_is_answered_by_its_replay(
    failing: Settings, tmp_path: Path
) -> None:
    """Nobody has answered it before: it is whole, and no amendment."""
    path = tmp_path / "results.jsonl"
    async with Jobs(failing) as jobs:
        await jobs.submit("sentiment", [GOOD] * 35, job="night")
        async with channel_to(failing) as channel:
            for lane in LANES:
                queue = await channel.get_queue(failing.names.work_queue("sentiment", lane))
                if message := await queue.get(fail=False):
                    await message.reject(requeue=False)
                    break
        await until(lambda: has(failing, failing.names.dead, 1))
        async with serving(failing):
            assert (await replay(failing, ALL)).done == 1
            async with asyncio.timeout(LIMIT):
                assert await collect(jobs, "night", Place.of(str(path))) == (35, 0)
    rows = json_lines(path)
    assert [row["id"] for row in rows] == list(map(str, range(35)))
