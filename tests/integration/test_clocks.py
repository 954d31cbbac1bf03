"""A client, and a submitter of jobs, whose clock is not the workers'."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import aio_pika
import pytest

from lmaas.broker_config.codes import Code
from lmaas.broker_config.headers import CLOCK, Headers
from lmaas.broker_config.messages import Item, Request
from lmaas.broker_config.settings import Settings
from lmaas.producer.batch import Jobs
from lmaas.producer.client import Client
from tests.integration.worker_process import StartWorker

GOOD, BAD = "a wonderful, moving film", "an awful, boring waste of time"
real = time.time


@pytest.fixture(params=[-60, 60, -86_400, 86_400])
async def offset(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, start_worker: StartWorker
) -> int:
    """Seconds by which this process's clock is wrong; the worker is another process."""
    await start_worker()
    seconds: int = request.param
    monkeypatch.setattr(time, "time", lambda: real() + seconds)
    return seconds


def deadlines(client: Client, monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """The deadlines of the packs that a client publishes from now on."""
    found: list[int | None] = []
    publish: Callable[..., Any] = client._publisher.publish

    async def noting(exchange: str, key: str, message: aio_pika.Message) -> None:
        found.append(Headers.from_table(message.headers).deadline_ms)
        await publish(exchange, key, message)

    monkeypatch.setattr(client._publisher, "publish", noting)
    return found


async def test_single_calls_are_answered_and_the_offset_is_learnt(
    offset: int, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Client(settings) as client:
        found = deadlines(client, monkeypatch)
        assert (await client.classify("sentiment", GOOD, timeout=30)).label == "positive"
        first = 2 if offset < 0 else 1  # who is behind is refused, and asks again without deadline
        assert len(found) == first
        assert found[1:] in ([], [None])
        assert (await client.classify("sentiment", BAD, timeout=30)).label == "negative"
    assert len(found) == first + 1
    deadline = found[-1]
    assert deadline is not None
    assert deadline / 1000 == pytest.approx(real() + 30, abs=20)


async def test_many_texts_and_jobs_are_answered(offset: int, settings: Settings) -> None:
    async with Client(settings) as client:
        results = [r async for r in client.classify_many("sentiment", [GOOD, BAD], timeout=30)]
    assert [result.label for result in results] == ["positive", "negative"]
    async with Jobs(settings) as jobs:
        entry = await jobs.submit("sentiment", [GOOD, BAD])
        labels = [
            result.label
            async for chunk in jobs.results(entry.job)
            for result in chunk.reply.results
        ]
    assert labels == ["positive", "negative"]


@pytest.mark.parametrize("offset", [-60], indirect=True)
@pytest.mark.usefixtures("offset")
async def test_workers_that_do_not_tell_their_clock_answer_too(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Client(settings) as client:
        take = client._replies.take

        def without_clock(*reply: Any) -> Any:
            headers = {name: value for name, value in reply[3].items() if name != CLOCK}
            return take(*reply[:3], headers, *reply[4:])

        monkeypatch.setattr(client._replies, "take", without_clock)
        for _ in range(2):
            assert (await client.classify("sentiment", GOOD, timeout=30)).label == "positive"


@pytest.mark.parametrize("offset", [-60], indirect=True)
@pytest.mark.usefixtures("offset")
async def test_others_are_told_what_both_clocks_show(settings: Settings) -> None:
    async with Client(settings) as client:
        request = Request(model="sentiment", items=[Item(id="a", text=GOOD)])
        headers = Headers(deadline_ms=int(time.time() * 1000))
        reply = await client._exchange(request, 30, headers)
    error = reply.results[0].error
    assert error is not None
    assert error.code == Code.DEADLINE_EXCEEDED
    assert "this worker's clock shows" in error.message
    assert "the sender's clock is wrong" in error.message
