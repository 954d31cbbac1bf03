"""The client through a real broker: what is put into the lanes, connecting (see test_both)."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import tarfile
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from yarl import URL

from lmaas.broker_config import replies
from lmaas.broker_config.codes import Code
from lmaas.broker_config.errors import (
    BrokerRefused,
    BrokerUnavailable,
    LmaasError,
)
from lmaas.broker_config.messages import Reply
from lmaas.broker_config.settings import Settings
from lmaas.producer.batch import Jobs
from lmaas.producer.client import Client
from tests.integration.lanes import LIMIT, depth, in_process, serving, until, waiting_packs
from tests.unit.workers import networks

GOOD = "a wonderful, moving film"


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
    async with asyncio.timeout(LIMIT):
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
    url = str(URL(settings.broker_url).with_password("wrong"))
    wrong = msgspec.structs.replace(settings, broker_url=url)
    began = time.monotonic()
    assert "refused user or password" in await refusal(wrong, BrokerRefused)
    assert time.monotonic() - began < settings.connect_timeout / 2


async def test_a_wrong_virtual_host_is_told_at_once(settings: Settings) -> None:
    wrong = msgspec.structs.replace(settings, broker_url=settings.broker_url + "nope")
    assert "no virtual host 'nope'" in await refusal(wrong, BrokerRefused)


@pytest.mark.plain_tcp("the broker of the suite is at a port without TLS")
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
    both = f"amqp://{settings.user}:secret@127.0.0.1:1/,{settings.broker_url}"
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


async def test_large_answers_are_decoded_beside_the_loop_and_stay_in_order(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reply of 64 items has the scores of 2,000 labels each, 3 MB; those of single calls few."""
    large: list[int] = []
    decode = replies.decode_by_result

    def watched(body: bytes, content_type: str | None) -> Reply:
        assert threading.current_thread() is not threading.main_thread()
        large.append(len(body))
        return decode(body, content_type)

    monkeypatch.setattr(replies, "decode_by_result", watched)
    rows = np.full((5, 2000), 0.5 / 1999)
    rows[range(5), [0, 1, 2, 3, 4]] = 0.5
    networks.save(tmp_path / "wide" / "1", rows.tolist())
    wide = msgspec.structs.replace(settings, models=str(tmp_path), pack_items=64)
    words = (networks.WORDS * 100)[:192]
    async with serving(wide), Client(wide) as client, Jobs(wide) as jobs:
        found = [one async for one in client.classify_many("wide", words, top_k=2000)]
        assert [one.label for one in found] == [f"label {place % 3 + 2}" for place in range(192)]
        assert {len(one.scores or {}) for one in found} == {2000}
        assert len(large) == 3
        assert (await client.classify("wide", "good", top_k=2000)).label == "label 2"
        assert len(large) == 3
        entry = await jobs.submit("wide", words, top_k=2000)
        chunks = [chunk async for chunk in jobs.results(entry.job)]
    chunks.sort(key=lambda chunk: chunk.number)
    assert [one.label for chunk in chunks for one in chunk.reply.results] == [
        one.label for one in found
    ]
    assert len(large) == 6
    assert min(large) > 1024 * 1024
