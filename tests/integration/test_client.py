"""The client through a real broker: answers, errors, and what is put into the lanes."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import math
import random
import re
import tarfile
import time
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import msgspec
import numpy as np
import pytest

from lmaas.broker_config.errors import (
    BrokerRefused,
    BrokerUnavailable,
    ItemFailed,
    LmaasError,
    MessageError,
    ModelNotFound,
    TimeLimitExceeded,
)
from lmaas.broker_config.messages import Code, Item, Request
from lmaas.broker_config.settings import Settings
from lmaas.producer.batch import Jobs
from lmaas.producer.client import Client
from lmaas.workers.pool import Pool
from lmaas.workers.repository import Repository
from lmaas.workers.worker import Worker
from tests.integration.conftest import LIMIT, MODELS, depth, serving, until, waiting_packs

GOOD, BAD = "a wonderful, moving film", "an awful, boring waste of time"
NO_TEXTS: list[tuple[Any, Code]] = [
    (None, Code.NOT_TEXT),
    (7, Code.NOT_TEXT),
    (b"x", Code.NOT_TEXT),
    ("", Code.EMPTY_TEXT),
    ("  \n", Code.EMPTY_TEXT),
    ("\ud800", Code.INVALID_UTF8),
    ("x" * (1024 * 1024 + 1), Code.TOO_LARGE),
]


async def in_process(settings: Settings, texts: list[str]) -> list[tuple[str | None, float | None]]:
    """Label and score of each text without a queue."""
    items = [Item(id=str(place), text=text) for place, text in enumerate(texts)]
    async with Pool(settings, "sentiment") as pool:
        found = []
        for start in range(0, len(items), 1_000):
            reply = await pool.run(Request(model="sentiment", items=items[start : start + 1_000]))
            found += [(result.label, result.score) for result in reply.results]
        return found


async def test_one_text_gets_its_label(client: Client, worker: Worker) -> None:
    good = await client.classify("sentiment", GOOD)
    bad = await client.classify("sentiment", BAD)
    assert (good.label, bad.label) == ("positive", "negative")
    assert [(r.label, r.score) for r in (good, bad)] == await in_process(
        worker.settings, [GOOD, BAD]
    )


async def test_many_texts_come_in_order(client: Client, worker: Worker, texts: list[str]) -> None:
    results = [result async for result in client.classify_many("sentiment", texts)]
    assert [result.id for result in results] == [str(place) for place in range(len(texts))]
    assert [(r.label, r.score) for r in results] == await in_process(worker.settings, texts)


@pytest.mark.usefixtures("worker")
async def test_many_texts_come_as_completed(client: Client, texts: list[str]) -> None:
    results = client.classify_many("sentiment", iter(texts), ordered=False)
    ids = [result.id async for result in results]
    assert sorted(ids, key=int) == [str(place) for place in range(len(texts))]


@pytest.mark.usefixtures("worker")
async def test_ids_of_the_caller_come_back(client: Client) -> None:
    results = client.classify_many("sentiment", [("first", GOOD), (17, BAD)])
    assert [(r.id, r.label) async for r in results] == [("first", "positive"), ("17", "negative")]


@pytest.mark.usefixtures("worker")
async def test_a_source_that_waits_for_its_own_results_is_answered(client: Client) -> None:
    """As in a chat: nothing of the window or of a pack holds a text back."""
    answered = asyncio.Semaphore(1)

    async def one_by_one() -> Any:
        for text in (GOOD, BAD, GOOD):
            await answered.acquire()
            yield text

    labels = []
    async with asyncio.timeout(LIMIT):
        async for result in client.classify_many("sentiment", one_by_one()):
            labels.append(result.label)
            answered.release()
    assert labels == ["positive", "negative", "positive"]


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(("value", "code"), NO_TEXTS)
async def test_what_is_no_text_is_told_to_a_single_call(
    client: Client, value: Any, code: Code
) -> None:
    result = await client.classify("sentiment", value, errors="return")
    assert result.error is not None
    assert result.error.code == code
    with pytest.raises(ItemFailed) as failure:
        await client.classify("sentiment", value)
    assert failure.value.code == code


@pytest.mark.usefixtures("worker")
async def test_what_is_no_text_is_one_result_among_many(client: Client) -> None:
    values = [part for value, _ in NO_TEXTS for part in (GOOD, value)]
    results = [result async for result in client.classify_many("sentiment", values)]
    assert [result.label for result in results[::2]] == ["positive"] * len(NO_TEXTS)
    found = [result.error and result.error.code for result in results[1::2]]
    assert found == [code for _, code in NO_TEXTS]


class Text(str):
    """As other libraries have texts; what it says of itself is not what it is."""

    __slots__ = ()

    def __str__(self) -> str:
        return "something else"

    def __len__(self) -> int:
        raise AssertionError


class Name(enum.StrEnum):
    SENTIMENT = "sentiment"
    GOOD = GOOD
    FIRST = "1"


@pytest.mark.usefixtures("worker")
async def test_subclasses_of_str_are_texts_names_and_ids(client: Client, jobs: Jobs) -> None:
    given = [GOOD, Text(GOOD), Name.GOOD, np.str_(GOOD), np.array([GOOD])[0]]
    calls = [client.classify("sentiment", text) for text in given]
    calls.append(client.classify(Name.SENTIMENT, GOOD, version=Name.FIRST, top_k=np.int64(1)))
    assert {result.label for result in await asyncio.gather(*calls)} == {"positive"}
    pairs = [(text, text) for text in given]
    results = [r async for r in client.classify_many(np.str_("sentiment"), pairs)]
    assert [(r.id, r.label) for r in results] == [(GOOD, "positive")] * len(given)
    entry = await jobs.submit(Name.SENTIMENT, pairs, version=np.str_("1"))
    found = [r async for chunk in jobs.results(entry.job) for r in chunk.reply.results]
    assert [(r.id, r.label) for r in found] == [(GOOD, "positive")] * len(given)


@pytest.mark.usefixtures("worker")
async def test_odd_arguments_harm_nobody_whose_call_shares_the_pack(client: Client) -> None:
    odd: list[Any] = [{"top_k": 2.0}, {"timeout": "soon"}, {"version": 1}, {"timeout": math.nan}]
    await client.classify("sentiment", GOOD)
    calls = [client.classify("sentiment", GOOD, top_k=2, timeout=10) for _ in range(5)]
    usual = {"top_k": 2, "timeout": 10}
    calls += [client.classify("sentiment", GOOD, **(usual | arguments)) for arguments in odd]
    calls.append(client.classify("sentiment", Mock(spec=str), top_k=2, timeout=10))
    calls.append(client.classify("sentiment", GOOD, top_k=2, timeout=Decimal(10)))  # type: ignore[arg-type]
    calls += [client.classify("sentiment", GOOD, top_k=2, timeout=10) for _ in range(5)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    kinds = [type(result).__name__ for result in results]
    assert kinds[5:10] == ["MessageError", "ValueError", "MessageError", "ValueError", "ItemFailed"]
    assert {*kinds[:5], *kinds[10:]} == {"Result"}
    with pytest.raises(ModelNotFound, match="no model can have the name 7"):
        await client.classify(7, GOOD)  # type: ignore[arg-type]


@pytest.mark.usefixtures("worker")
async def test_many_can_raise_at_the_first_item_that_failed(client: Client) -> None:
    results = client.classify_many("sentiment", [GOOD, None, GOOD], errors="raise")
    assert (await anext(results)).label == "positive"
    with pytest.raises(ItemFailed) as failure:
        await anext(results)
    assert (failure.value.item_id, failure.value.code) == ("1", Code.NOT_TEXT)


@pytest.mark.usefixtures("worker")
async def test_a_worker_with_a_lower_limit_says_so_in_the_result(
    client: Client, settings: Settings
) -> None:
    generous = msgspec.structs.replace(settings, max_item_bytes=3_000_000)
    async with Client(generous) as other:
        result = await other.classify("sentiment", "x" * 2_000_000, errors="return")
    assert result.error is not None
    assert result.error.code == Code.TOO_LARGE
    assert (await client.classify("sentiment", GOOD)).label == "positive"


@pytest.mark.usefixtures("worker")
async def test_an_unknown_model_is_told_at_once(client: Client) -> None:
    with pytest.raises(ModelNotFound, match=r"no worker has ever served model 'nope'"):
        await client.classify("nope", GOOD)
    with pytest.raises(ModelNotFound):
        await anext(client.classify_many("nope", [GOOD]))


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("name", ["", "a b", "x" * 300, "\ud800", "\0", "sentiment.short", "*"])
async def test_a_name_that_no_model_can_have_is_told_at_once(client: Client, name: str) -> None:
    with pytest.raises(ModelNotFound):
        await client.classify(name, GOOD)


@pytest.mark.usefixtures("worker")
async def test_a_version_that_cannot_be_sent_is_told(client: Client) -> None:
    with pytest.raises(MessageError, match="cannot be sent"):
        await client.classify("sentiment", GOOD, version="\ud800")


@pytest.mark.usefixtures("worker")
async def test_an_unknown_version_is_told(client: Client) -> None:
    with pytest.raises(ModelNotFound, match="no version '99'"):
        await client.classify("sentiment", GOOD, version="99")
    with pytest.raises(ModelNotFound, match="no version '99'"):
        await anext(client.classify_many("sentiment", [GOOD], version="99"))


@pytest.mark.usefixtures("worker")
async def test_the_asked_version_answers(client: Client) -> None:
    newest = Repository(MODELS).versions("sentiment")[-1]
    reply = await client.run(
        Request(model="sentiment", version="1", items=[Item(id="a", text=GOOD)])
    )
    assert (reply.version, reply.results[0].label) == ("1", "positive")
    reply = await client.run(Request(model="sentiment", items=[Item(id="a", text=GOOD)]))
    assert reply.version == newest


@pytest.mark.usefixtures("worker")
async def test_top_k_is_the_ranking(client: Client) -> None:
    single = await client.classify("sentiment", GOOD, top_k=2)
    (many,) = [r async for r in client.classify_many("sentiment", [GOOD], top_k=2)]
    assert list(single.scores or {}) == ["positive", "negative"]
    assert single.scores == many.scores


@pytest.mark.usefixtures("worker")
async def test_a_negative_top_k_is_refused(client: Client) -> None:
    with pytest.raises(LmaasError, match="top_k"):
        await client.classify("sentiment", GOOD, top_k=-1)


@pytest.mark.usefixtures("lanes")
async def test_without_a_worker_the_time_limit_ends_a_call(client: Client) -> None:
    with pytest.raises(TimeLimitExceeded, match=r"within 0\.2 s; is a worker running\?"):
        await client.classify("sentiment", GOOD, timeout=0.2)
    with pytest.raises(TimeLimitExceeded, match=r"for 0\.2 s"):
        await anext(client.classify_many("sentiment", [GOOD], timeout=0.2))


@pytest.mark.usefixtures("lanes")
async def test_calls_at_the_same_time_share_a_message(client: Client, settings: Settings) -> None:
    calls = [asyncio.create_task(client.classify("sentiment", f"{GOOD} {n}")) for n in range(200)]
    await until(lambda: at_least(settings, 1))
    async with serving(settings):
        results = await asyncio.gather(*calls)
    assert {result.label for result in results} == {"positive"}


async def at_least(settings: Settings, packs: int) -> bool:
    waiting = await waiting_packs(settings)
    assert waiting <= 2
    return waiting >= packs


@pytest.mark.usefixtures("lanes")
async def test_pack_options_cut_the_stream(settings: Settings) -> None:
    small = msgspec.structs.replace(settings, pack_items=10, window=100)
    async with Client(small) as client:
        results = client.classify_many("sentiment", [GOOD] * 95)
        taking = asyncio.create_task(anext(results))
        await until(lambda: exactly(settings, 10))
        async with serving(settings):
            assert (await taking).label == "positive"
            assert len([result async for result in results]) == 94


@pytest.mark.usefixtures("lanes")
async def test_the_window_bounds_what_is_on_its_way(settings: Settings) -> None:
    small = msgspec.structs.replace(settings, pack_items=1, window=3)
    read = []

    def source() -> Any:
        for number in range(50):
            read.append(number)
            yield f"{GOOD} {number}"

    async with Client(small) as client:
        results = client.classify_many("sentiment", source())
        taking = asyncio.create_task(anext(results))
        await until(lambda: exactly(settings, 3))
        assert len(read) == 3
        async with serving(settings):
            await taking
            assert len([result async for result in results]) == 49


async def exactly(settings: Settings, packs: int) -> bool:
    waiting = await waiting_packs(settings)
    assert waiting <= packs
    return waiting == packs


async def test_stopping_half_way_leaves_nothing_running(
    client: Client, settings: Settings, texts: list[str]
) -> None:
    async with serving(settings):
        before = asyncio.all_tasks()
        async with contextlib.aclosing(client.classify_many("sentiment", texts)) as results:
            async for result in results:
                if result.id == "700":
                    break
        after = asyncio.all_tasks() - before
        mine = re.compile("producer/(client|packing|window)")
        assert [task for task in after if mine.search(repr(task))] == []
        assert (await client.classify("sentiment", GOOD)).label == "positive"


@pytest.mark.usefixtures("lanes")
async def test_closing_the_client_tells_those_who_wait(settings: Settings) -> None:
    client = Client(settings)
    async with client:
        single = asyncio.create_task(client.classify("sentiment", GOOD))
        many = asyncio.ensure_future(anext(client.classify_many("sentiment", [GOOD])))
        await until(lambda: exactly(settings, 2))
    async with asyncio.timeout(5):
        for call in (single, many):
            with pytest.raises(BrokerUnavailable, match="closed"):
                await call
    with pytest.raises(BrokerUnavailable, match="closed"):
        await client.classify("sentiment", GOOD)
    assert await depth(settings, settings.names.client_results(client.id)) is None


# ---------------------------------------------------------------- connecting


def elsewhere(settings: Settings, **changes: Any) -> Settings:
    return msgspec.structs.replace(settings, connect_timeout=0.5, **changes)


async def refusal(settings: Settings, kind: type[LmaasError]) -> str:
    with pytest.raises(kind) as failure:
        async with Client(settings):
            pass
    words = str(failure.value)
    assert "\n" not in words
    assert settings.broker_url not in words, "that would print the password"
    return words


async def test_no_broker_is_told_after_the_time_limit(settings: Settings) -> None:
    url = "amqp://me:secret@127.0.0.1:1/"
    words = await refusal(elsewhere(settings, broker_url=url), BrokerUnavailable)
    assert "no broker at amqp://me:***@127.0.0.1:1/ within 0.5 s" in words


async def test_a_wrong_host_is_told(settings: Settings) -> None:
    url = "amqp://me:secret@nowhere.invalid/"
    words = await refusal(elsewhere(settings, broker_url=url), BrokerUnavailable)
    assert "nowhere.invalid" in words


async def test_a_wrong_password_is_told_at_once(settings: Settings) -> None:
    user = settings.broker_url.partition("//")[2].partition(":")[0]
    place = settings.broker_url.rpartition("@")[2]
    wrong = msgspec.structs.replace(settings, broker_url=f"amqp://{user}:wrong@{place}")
    began = time.monotonic()
    assert "refused user or password" in await refusal(wrong, BrokerRefused)
    assert time.monotonic() - began < settings.connect_timeout / 2


async def test_a_wrong_virtual_host_is_told_at_once(settings: Settings) -> None:
    wrong = msgspec.structs.replace(settings, broker_url=settings.broker_url + "nope")
    assert "no virtual host 'nope'" in await refusal(wrong, BrokerRefused)


async def test_tls_to_a_port_without_tls_is_told_at_once(settings: Settings) -> None:
    wrong = settings.broker_url.replace("amqp://", "amqps://")
    words = await refusal(msgspec.structs.replace(settings, broker_url=wrong), BrokerRefused)
    assert "TLS failed" in words


async def test_something_else_on_the_port_is_told(settings: Settings) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    url = f"amqp://me:secret@127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server:
        await refusal(elsewhere(settings, broker_url=url), BrokerUnavailable)


async def test_the_first_host_that_answers_is_used(settings: Settings) -> None:
    both = f"amqp://me:secret@127.0.0.1:1/,{settings.broker_url}"
    several = msgspec.structs.replace(settings, broker_url=both)
    async with serving(settings), Client(several) as client:
        assert (await client.classify("sentiment", GOOD)).label == "positive"


# ------------------------------------------------------------------ real data


@pytest.fixture(scope="module")
def reviews(imdb: Path) -> list[str]:
    """Three thousand of the test reviews."""
    found = []
    with tarfile.open(imdb) as archive:
        for member in archive:
            if re.search(r"/test/(pos|neg)/\d+_\d+\.txt$", member.name):
                file = archive.extractfile(member)
                assert file is not None
                found.append(file.read().decode())
            if len(found) == 3_000:
                break
    assert len(found) == 3_000
    return found


@pytest.mark.usefixtures("worker")
async def test_reviews_are_answered_alike_in_process_and_through_the_queue(
    settings: Settings, reviews: list[str]
) -> None:
    expected = await in_process(settings, reviews)
    entries = list(enumerate(reviews))
    for pack_items in (1, 7, 256, 1_000):
        random.Random(pack_items).shuffle(entries)
        some = entries[: 500 if pack_items < 10 else None]
        packed = msgspec.structs.replace(settings, pack_items=pack_items)
        async with Client(packed) as client:
            results = [result async for result in client.classify_many("sentiment", some)]
        assert [result.id for result in results] == [str(number) for number, _ in some]
        assert [(r.label, r.score) for r in results] == [expected[number] for number, _ in some]
