"""Sealed bodies on a real broker: each way through it, each thing that is refused, rotation."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage
from click.testing import CliRunner

from lmaas.broker_config.codes import Code
from lmaas.broker_config.errors import ItemFailed, JobError, SealError
from lmaas.broker_config.messages import (
    JOB,
    JSON,
    MSGPACK,
    Item,
    ItemError,
    Reply,
    Request,
    Result,
    encode,
)
from lmaas.broker_config.payload_keys import key_file as of_process
from lmaas.broker_config.sealing import (
    ENCODING,
    KEY_HEADER,
    Keyring,
    Label,
    parsed,
)
from lmaas.broker_config.settings import Settings
from lmaas.cli.keys import command as keys_command
from lmaas.producer import dead_letters
from lmaas.producer.batch import Jobs
from lmaas.producer.checkpoint import Pipe
from lmaas.producer.client import Client
from lmaas.producer.dead_letter import Filter
from lmaas.workers.consumer import Consumer
from lmaas.workers.runtime import Runtime
from tests.integration.lanes import (
    LIMIT,
    channel_to,
    depth,
    having,
    in_process,
    make_lanes,
    serving,
    until,
)
from tests.integration.sender import of_others
from tests.payload_keys import new_keys, sealed

CANARY = "zzcanaryzz"
GOOD = f"a wonderful, moving film {CANARY}"
NAMED = Item(id=f"id-{CANARY}", text=GOOD)
#: What cannot be opened for now is tried a second time, soon.
IMPATIENT: dict[str, Any] = {"retry_delays": ("100ms",), "max_attempts": 2}


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return new_keys(tmp_path / "payload.keys", "a")


@pytest.fixture
def settings(settings: Settings, keys: Path) -> Settings:
    return having(sealed(settings, keys), **IMPATIENT)


def added(path: Path, other: Path) -> None:
    path.write_text(path.read_text() + other.read_text())


def ring(path: Path) -> Keyring:
    return Keyring(parsed(path.read_text()))


async def taken(settings: Settings, queue: str) -> list[AbstractIncomingMessage]:
    """Everything that is ready in a queue; it is gone then."""
    found = []
    async with channel_to(settings) as channel:
        there = await channel.get_queue(queue)
        while message := await there.get(fail=False, no_ack=True):
            found.append(message)
    return found


def is_hidden(message: AbstractIncomingMessage) -> bool:
    """Whether nothing of the canary is in it, and it is sealed."""
    everything = (message.body, message.headers, message.info())
    return message.content_encoding == ENCODING and CANARY not in repr(everything)


async def request_in_lane(settings: Settings, work: asyncio.Task[Any]) -> AbstractIncomingMessage:
    """The one that a client has sent, while no worker is there."""
    found: list[AbstractIncomingMessage] = []

    async def came() -> bool:
        assert not work.done(), work
        for lane in ("instant", "short"):
            found.extend(await taken(settings, settings.names.work_queue("sentiment", lane)))
        return bool(found)

    await until(came)
    (message,) = found
    return message


async def publish(
    settings: Settings,
    body: Callable[[str], bytes],
    *,
    encoding: str | None = ENCODING,
    key: str | None = "a",
) -> AbstractIncomingMessage:
    """JSON, as a foreign program sends it; the answer that comes to it."""
    async with channel_to(settings) as channel:
        name = of_others(settings.names, uuid.uuid4().hex)
        queue = await channel.declare_queue(name, exclusive=True)
        message = aio_pika.Message(
            body(name),
            content_encoding=encoding,
            content_type=JSON,
            correlation_id="1",
            headers={KEY_HEADER: key} if key else {},
            reply_to=name,
        )
        work = await channel.get_exchange(settings.names.work)
        await work.publish(message, "sentiment.short")
        async with asyncio.timeout(LIMIT), queue.iterator(no_ack=True) as answers:
            return await anext(answers)


def asking(item: Item = NAMED, content_type: str = MSGPACK) -> bytes:
    return encode(Request(model="sentiment", items=[item]), content_type)


# ------------------------------------------------------------------------ each way through it


async def test_calls_streams_and_jobs_get_the_answers_that_they_get_without_keys(
    settings: Settings, texts: list[str]
) -> None:
    own = texts[:300]
    expected = await in_process(settings, own)
    async with serving(settings), Client(settings) as client, Jobs(settings) as jobs:
        result = await client.classify("sentiment", NAMED)
        assert (result.id, result.label) == (NAMED.id, "positive")
        with pytest.raises(ItemFailed, match="empty"):
            await client.classify("sentiment", "")
        streamed = [result async for result in client.classify_many("sentiment", own)]
        entry = await jobs.submit("sentiment", own)
        collected = [
            result async for chunk in jobs.results(entry.job) for result in chunk.reply.results
        ]
    assert [(one.label, one.score) for one in streamed] == expected
    assert sorted(int(one.id) for one in collected) == [*range(300)]
    assert {(one.id, one.label) for one in collected} == {(one.id, one.label) for one in streamed}


async def test_large_bodies_are_sealed_and_opened_as_well(settings: Settings) -> None:
    items = [Item(id=str(place), text="good film " * 65_000) for place in range(2)]
    async with serving(settings), Client(settings) as client:
        reply = await client.run(Request(model="sentiment", items=items))
    assert [result.error for result in reply.results] == [None, None]


async def test_nothing_at_the_broker_tells_a_text_or_an_id(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await make_lanes(settings)
    async with Jobs(settings) as jobs:
        entry = await jobs.submit("sentiment", [NAMED])
        lanes = [settings.names.work_queue("sentiment", lane) for lane in ("instant", "short")]
        waiting = [message for lane in lanes for message in await taken(settings, lane)]
        ends = await taken(settings, entry.queue)
        journal = await taken(settings, settings.names.jobs)
    assert [message.type for message in ends] == [JOB]
    for message in (*waiting, *ends, *journal):
        assert is_hidden(message), message
    assert (len(waiting), len(journal)) == (1, 2)
    assert CANARY not in caplog.text


async def test_a_pack_that_comes_back_is_opened_in_the_isolated_process(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    delivered = Consumer._delivery

    def noted(self: Consumer, *arguments: Any) -> Any:
        delivery = delivered(self, *arguments)
        seen.append((delivery.is_redelivered, delivery.pack.is_read))
        return delivery

    monkeypatch.setattr(Consumer, "_delivery", noted)
    await make_lanes(settings)
    async with Client(settings) as client:
        work = asyncio.create_task(client.classify("sentiment", NAMED))
        async with channel_to(settings) as channel:
            names = [settings.names.work_queue("sentiment", lane) for lane in ("instant", "short")]
            queues = [await channel.get_queue(name) for name in names]

            async def handed_back() -> bool:
                for queue in queues:
                    if message := await queue.get(fail=False):
                        await message.nack(requeue=True)
                        return True
                return False

            await until(handed_back)
        async with serving(settings):
            assert (await work).label == "positive"
    assert seen == [(True, False)]


async def test_a_program_in_another_language_seals_json(settings: Settings, keys: Path) -> None:
    async with serving(settings):
        answer = await publish(settings, sealed_for(keys))
    assert is_hidden(answer)
    label = Label("reply", "sentiment", answer.routing_key or "", "1", JSON)
    opened = json.loads(ring(keys).open(answer.body, answer.headers[KEY_HEADER], label))
    assert [(one["id"], one["label"]) for one in opened["results"]] == [(NAMED.id, "positive")]


# ------------------------------------------------------------------------ what a worker refuses


def sealed_for(keys: Path, **label: str) -> Callable[[str], bytes]:
    """For a results queue: a body that fits, but for what is given."""

    def sealed(reply_to: str) -> bytes:
        own = Label("request", "sentiment", reply_to, "1", JSON)._replace(**label)  # type: ignore[arg-type]
        return ring(keys).seal(asking(content_type=JSON), own).body

    return sealed


def plain(_: str) -> bytes:
    return asking(content_type=JSON)


Bad = Callable[[Path], dict[str, Any]]
#: What is wrong -> what is published, by the file of the worker's keys, and the code for that.
BAD: dict[str, tuple[Bad, Code]] = {
    "wrong key": (
        lambda keys: {"body": sealed_for(new_keys(keys.with_name("other"), "a"))},
        Code.SEAL_BROKEN,
    ),
    "unknown key": (
        lambda keys: {"body": sealed_for(new_keys(keys.with_name("other"), "b")), "key": "b"},
        Code.KEY_UNKNOWN,
    ),
    "no key named": (lambda keys: {"body": sealed_for(keys), "key": None}, Code.KEY_UNKNOWN),
    "cut": (lambda keys: {"body": lambda name: sealed_for(keys)(name)[:-1]}, Code.SEAL_BROKEN),
    "no format": (lambda _: {"body": lambda _: b"?"}, Code.SEAL_BROKEN),
    "another model": (lambda keys: {"body": sealed_for(keys, model="other")}, Code.SEAL_BROKEN),
    "another caller": (lambda keys: {"body": sealed_for(keys, queue="q")}, Code.SEAL_BROKEN),
    "another request": (lambda keys: {"body": sealed_for(keys, id="2")}, Code.SEAL_BROKEN),
    "a reply": (lambda keys: {"body": sealed_for(keys, direction="reply")}, Code.SEAL_BROKEN),
    "not sealed": (lambda _: {"body": plain, "encoding": None}, Code.NOT_SEALED),
}


async def test_what_does_not_open_is_refused_and_kept(settings: Settings, keys: Path) -> None:
    async with serving(settings):
        for what, (bad, code) in BAD.items():
            answer = await publish(settings, **bad(keys))
            reply = json.loads(answer.body)
            assert (what, reply["error"]["code"], reply["results"]) == (what, code, [])
            (kept,) = await taken(settings, settings.names.dead)
            assert (what, kept.headers["lmaas-error"]) == (what, code)
            assert is_hidden(kept) or what == "not sealed"


async def test_a_worker_without_keys_says_so(settings: Settings, keys: Path) -> None:
    settings = having(settings, payload_keys=None)
    async with serving(settings):
        answer = await publish(settings, sealed_for(keys))
    assert json.loads(answer.body)["error"]["code"] == Code.KEY_MISSING
    (kept,) = await taken(settings, settings.names.dead)
    assert is_hidden(kept)


async def test_a_caller_is_told_why_and_the_pack_is_answered_once_the_key_is_there(
    settings: Settings, keys: Path, tmp_path: Path
) -> None:
    other = new_keys(tmp_path / "other.keys", "b")
    theirs = having(settings, payload_keys=str(other))
    async with serving(settings) as worker, Jobs(theirs) as jobs:
        async with Client(theirs) as client:
            with pytest.raises(SealError, match="key 'b'") as caught:
                await client.classify("sentiment", NAMED)
        assert caught.value.code == Code.KEY_UNKNOWN
        entry = await jobs.submit("sentiment", [NAMED])

        async def both_are_kept() -> bool:
            return await depth(settings, settings.names.dead) == 2

        await until(both_are_kept)
        added(keys, other)
        outcome = await dead_letters.replay(settings, Filter(job=entry.job))  # without that key
        assert outcome.done == 1
        found = [chunk.reply.results async for chunk in jobs.results(entry.job)]
        assert [[one.label for one in results] for results in found] == [["positive"]]
        assert worker.held == 0


async def test_a_pack_waits_for_its_key(settings: Settings, keys: Path, tmp_path: Path) -> None:
    other = new_keys(tmp_path / "other.keys", "b")
    patient = having(settings, retry_delays=("1s",), max_attempts=20)
    theirs = having(patient, payload_keys=str(other))
    async with serving(patient), Client(theirs) as client:
        work = asyncio.create_task(client.classify("sentiment", NAMED))

        async def waits() -> bool:
            return bool(await depth(patient, patient.names.retry("sentiment", "1s")))

        await until(waits)
        added(keys, other)
        assert (await work).label == "positive"


# ------------------------------------------------------------------------ what a client refuses


async def answered(
    settings: Settings, ask: AbstractIncomingMessage, reply: aio_pika.Message
) -> None:
    reply.correlation_id = ask.correlation_id
    async with channel_to(settings) as channel:
        await channel.default_exchange.publish(reply, ask.reply_to or "")


def label_of(ask: AbstractIncomingMessage) -> Label:
    return Label("reply", "sentiment", ask.reply_to or "", ask.correlation_id or "", MSGPACK)


LABELLED = encode(
    Reply(model="sentiment", results=[Result(id=NAMED.id, label="forged", score=1.0)])
)


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("replayed", Code.SEAL_BROKEN),
        ("of another model", Code.SEAL_BROKEN),
        ("the request itself", Code.SEAL_BROKEN),
        ("not sealed", Code.NOT_SEALED),
        ("with an unknown key", Code.KEY_UNKNOWN),
        ("a refusal", Code.KEY_MISSING),
    ],
)
async def test_a_client_takes_no_answer_that_was_not_made_for_it(
    settings: Settings, keys: Path, tmp_path: Path, what: str, code: Code
) -> None:
    await make_lanes(settings)
    async with Client(settings) as client:
        first = asyncio.create_task(client.classify("sentiment", NAMED))
        earlier = await request_in_lane(settings, first)
        first.cancel()
        second = asyncio.create_task(client.classify("sentiment", NAMED))
        ask = await request_in_lane(settings, second)
        key, encoding, label = "a", ENCODING, label_of(ask)
        body = LABELLED
        match what:
            case "replayed":
                label = label_of(earlier)
            case "of another model":
                label = label._replace(model="other")
            case "a refusal":
                error = ItemError(code=Code.KEY_MISSING, message="no keys")
                body, encoding = encode(Reply(model="", results=[], error=error)), ""
            case "not sealed":
                encoding = ""
        if encoding:
            body = ring(keys).seal(body, label).body
        if what == "the request itself":
            body = ask.body
        if what == "with an unknown key":
            key = "z"
        message = aio_pika.Message(
            body, content_type=MSGPACK, content_encoding=encoding or None, headers={KEY_HEADER: key}
        )
        await answered(settings, ask, message)
        with pytest.raises(SealError) as caught:
            await second
    assert caught.value.code == code
    with contextlib.suppress(asyncio.CancelledError):
        await first


async def test_a_chunk_cannot_take_the_place_of_another(settings: Settings) -> None:
    settings = having(settings, pack_items=1)
    async with serving(settings), Jobs(settings) as jobs:
        entry = await jobs.submit("sentiment", ["good", "bad"])

        async def both() -> bool:
            return await depth(settings, entry.queue) == 3

        await until(both)
        messages = await taken(settings, entry.queue)
        async with channel_to(settings) as channel:
            for message in messages:
                headers = dict(message.headers)
                if message.type != JOB:
                    headers["lmaas-chunk"] = 1 - int(str(headers["lmaas-chunk"]))
                swapped = aio_pika.Message(
                    message.body,
                    headers=headers,
                    content_type=message.content_type,
                    content_encoding=message.content_encoding,
                    type=message.type,
                )
                await channel.default_exchange.publish(swapped, entry.queue)
        with pytest.raises(JobError, match=r"the answer to chunk . .* is refused: the seal"):
            _ = [chunk async for chunk in jobs.results(entry.job)]
        await until(both)  # are there again


async def test_a_job_whose_packs_were_refused_unread_is_collected(settings: Settings) -> None:
    plain_ones = having(settings, payload_keys=None, pack_items=2)
    async with serving(settings), Jobs(plain_ones) as jobs:
        entry = await jobs.submit("sentiment", ["good", "bad", "good"])
        found = {chunk.number: chunk.reply.results async for chunk in jobs.results(entry.job)}
    assert {number: len(results) for number, results in found.items()} == {0: 2, 1: 1}
    codes = {one.error and one.error.code for results in found.values() for one in results}
    assert codes == {Code.NOT_SEALED}


async def test_who_lacks_the_key_is_told_what_the_list_of_jobs_hides(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    await make_lanes(settings)
    async with Jobs(settings) as jobs:
        entry = await jobs.submit("sentiment", ["good"])
        assert [one.entry.job for one in await jobs.list()] == [entry.job]
    async with Jobs(having(settings, payload_keys=None)) as blind:
        assert await blind.list() == []
        assert "passed over: it is sealed with the key 'a'" in caplog.text
        forged = await blind.submit("sentiment", ["good"], job="forged")  # an entry without a seal
    async with Jobs(settings) as jobs:
        assert [one.entry.job for one in await jobs.list()] == [entry.job]
        await jobs.cancel(forged)


# ------------------------------------------------------------------------ change-over, rotation


async def test_keys_are_introduced_without_a_pause(settings: Settings) -> None:
    """Workers first, then clients; at last nothing else is taken."""
    plain = having(settings, payload_keys=None)
    both = having(settings, accept_unsealed=True)
    async with serving(both):
        async with Client(plain) as before, Client(settings) as after, Jobs(plain) as jobs:
            assert (await before.classify("sentiment", GOOD)).label == "positive"
            assert (await after.classify("sentiment", GOOD)).label == "positive"
            entry = await jobs.submit("sentiment", [GOOD])
        async with Jobs(both) as jobs:
            chunks = [chunk async for chunk in jobs.results(entry.job)]
    assert [result.label for chunk in chunks for result in chunk.reply.results] == ["positive"]
    async with serving(settings), Client(plain) as late:
        with pytest.raises(SealError) as caught:
            await late.classify("sentiment", GOOD)
        assert caught.value.code == Code.NOT_SEALED


async def rotated(settings: Settings, keys: Path, items: int) -> None:
    """A key is rotated by `lmaas keys` while a job of so many items runs; none is lost."""

    def told(*arguments: str) -> str:
        outcome = CliRunner().invoke(keys_command, arguments, catch_exceptions=False)
        assert outcome.exit_code == 0, outcome.output
        return outcome.output.strip()

    moved = asyncio.Event()

    async def seals_now() -> bool:
        return of_process(str(keys)).keyring().first != "a"

    async def texts() -> Any:
        for place in range(items):
            if place == items // 2:
                fresh = told("new", str(keys))
                assert told("first", str(keys), fresh) == ""
                assert told("list", str(keys)).split() == [fresh, "a"]
                moved.set()
                await until(seals_now)
            yield f"{place} {GOOD}"

    async with serving(settings), Jobs(settings) as jobs:
        entry = await jobs.submit("sentiment", texts())
        assert moved.is_set()
        seals = set()
        found = {}
        async for chunk in jobs.results(entry.job, keep=True):
            found |= {result.id: result.label for result in chunk.reply.results}
        for message in await taken(settings, entry.queue):
            assert is_hidden(message)
            seals.add(message.headers[KEY_HEADER])
        await jobs.remove(entry)
    assert len(seals) == 2
    assert found == dict.fromkeys(map(str, range(items)), "positive")
    assert await depth(settings, settings.names.dead) == 0


async def test_a_key_is_rotated_while_a_job_runs(settings: Settings, keys: Path) -> None:
    await rotated(having(settings, pack_items=20), keys, 400)


# ------------------------------------------------------------------------ dead letters


class Lines(Pipe):
    """In the place of a file."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.lines += data.splitlines()


async def shown(settings: Settings, *arguments: str) -> str:
    """What `lmaas dead` prints."""
    environment = {
        "LMAAS_BROKER_URL": settings.broker_url,
        "LMAAS_PREFIX": settings.prefix,
        "LMAAS_PAYLOAD_KEYS": settings.payload_keys or "",
        "COLUMNS": "180",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "lmaas", "dead", *arguments,
        env={**os.environ, **environment}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


async def test_what_failed_is_kept_sealed_and_told_to_nobody_else(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither logs nor headers quote it; its owner gets the words, who has the key the items."""
    caplog.set_level(logging.DEBUG)
    encoded = Runtime.encode

    def failing(self: Runtime, items: Sequence[Item]) -> Any:
        if any(CANARY in (item.text or "") for item in items):
            raise ValueError(f"cannot encode {[item.text for item in items]}")
        return encoded(self, items)

    monkeypatch.setattr(Runtime, "encode", failing)
    items = [NAMED, Item(id="b", text="a good film")]
    async with serving(settings), Client(settings) as client:
        reply = await client.run(Request(model="sentiment", items=items))
    bad, good = reply.results
    assert good.label == "positive"
    assert CANARY in str(bad.error)
    assert CANARY not in caplog.text
    assert "inference failed: ValueError" in caplog.text

    listed = json.loads(await shown(settings, "list", "--json"))
    (summary,) = listed["parked"]
    assert (summary["items"], summary["error"], summary["key"]) == (1, "internal", "a")
    assert CANARY not in json.dumps(listed)
    blind = having(settings, payload_keys=None)
    with_key = await shown(settings, "show", summary["id"])
    assert (CANARY in with_key, "a good film" in with_key) == (True, False)
    without = await shown(blind, "show", summary["id"])
    assert (CANARY in without, "there are no keys here" in without) == (False, True)
    for is_open in (False, True):
        exported = Lines()
        await dead_letters.export(settings, Filter(), exported, open_sealed=is_open)
        (line,) = map(json.loads, exported.lines)
        assert (CANARY in json.dumps(line), "body" in line) == (is_open, is_open)

    monkeypatch.setattr(Runtime, "encode", encoded)
    async with serving(settings):
        assert (await dead_letters.replay(blind, Filter())).done == 1

        async def is_gone() -> bool:
            lanes = [settings.names.work_queue("sentiment", lane) for lane in ("instant", "short")]
            return sum([await depth(settings, lane) or 0 for lane in lanes]) == 0

        await until(is_gone)
    assert await depth(settings, settings.names.dead) == 0


async def test_metrics_tell_no_text(settings: Settings) -> None:
    from prometheus_client import REGISTRY, generate_latest

    async with serving(settings), Client(settings) as client:
        await client.classify("sentiment", NAMED)
    assert CANARY.encode() not in generate_latest(REGISTRY)


# ------------------------------------------------------------------------ at length


def telling(folder: Path) -> list[Path]:
    """Files that have the canary in them."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any("msg_store" in str(path) for path in files)
    return [path for path in files if CANARY.encode() in path.read_bytes()]


@pytest.mark.chaos
async def test_a_key_is_rotated_while_a_job_of_100000_items_runs_and_no_file_tells_a_text(
    settings: Settings, keys: Path, rabbitmq: Path
) -> None:
    from lmaas.broker_config.local_node import LocalNode

    node = LocalNode()
    await node.start()
    try:
        own = having(settings, broker_url=node.url, pack_items=256)
        await rotated(own, keys, 100_000)
        async with Client(own) as client:  # some that nobody takes
            await make_lanes(own)
            packs = [
                asyncio.create_task(client.classify("sentiment", NAMED, timeout=5))
                for _ in range(10)
            ]
            await asyncio.wait(packs)
            for pack in packs:
                pack.exception()
        assert await asyncio.to_thread(telling, Path(node.folder)) == []
    finally:
        await node.stop()
