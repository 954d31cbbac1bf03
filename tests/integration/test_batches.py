"""Long work is cut at the batch: between two of them what is shorter goes first."""

from __future__ import annotations

import asyncio
import json
import threading
import time

import msgspec
import prometheus_client
import pytest
from aio_pika import Message
from aio_pika.abc import AbstractIncomingMessage

from lmaas.broker_config.codes import Code
from lmaas.broker_config.messages import JSON, Result, decode_reply
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import routing_key
from lmaas.producer.client import Client
from lmaas.workers.batcher import Batch
from lmaas.workers.heads import Scores
from lmaas.workers.preprocess import Encoded
from lmaas.workers.run import Run
from lmaas.workers.runtime import Runtime
from lmaas.workers.settling.claims import Claims
from lmaas.workers.worker import Worker
from tests.integration.lanes import LIMIT, channel_to, make_lanes, serving, until, waiting_packs
from tests.integration.sender import of_others

#: Eight batches of eight texts.
LONG = [f"a truly {'very ' * size}good film" for size in range(64)]
BATCHES = 8


class Batches:
    """Batches of the shipped model, each of which waits until it may end."""

    def __init__(self) -> None:
        #: Texts of each that was begun.
        self.begun: list[int] = []
        self._permits = threading.Semaphore(0)

    def end(self, batches: int = 1) -> None:
        self._permits.release(batches)

    def run(self, runtime: Runtime, encoded: Encoded, batch: Batch) -> Scores:
        """In the place of Runtime.run."""
        self.begun.append(len(batch.positions))
        assert self._permits.acquire(timeout=LIMIT), "held for ever"
        return RUN(runtime, encoded, batch)

    async def have_begun(self, batches: int) -> None:
        async def begun() -> bool:
            return len(self.begun) >= batches

        await until(begun)


RUN = Runtime.run


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """What comes late has no advantage, and eight texts are a batch."""
    return msgspec.structs.replace(settings, ageing=0.0, batch_units=1, clock_skew=0.0)


@pytest.fixture
def held(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> Batches:
    """From now on; the first runs of a model are over."""
    return hold(monkeypatch)


def hold(monkeypatch: pytest.MonkeyPatch) -> Batches:
    held = Batches()

    def run(runtime: Runtime, encoded: Encoded, batch: Batch) -> Scores:
        return held.run(runtime, encoded, batch)

    monkeypatch.setattr(Runtime, "run", run)
    return held


async def holds(worker: Worker, packs: int) -> None:
    async def holding() -> bool:
        return len(worker.execution.ready) == packs

    await until(holding)


async def test_a_single_call_waits_for_the_batch_that_runs_and_not_for_the_pack(
    worker: Worker, client: Client, held: Batches
) -> None:
    async with asyncio.timeout(LIMIT), Client(worker.settings) as other:
        job, call = await _a_job_and_a_call(worker, held, client, other)
        assert held.begun == [8, 1]
        held.end()
        assert (await call).label == "positive"
        assert not job.done()
        held.end(BATCHES)
        assert all(await job)
    assert held.begun == [8, 1] + [8] * (BATCHES - 1)


async def test_what_is_as_long_or_longer_waits_for_the_end(
    worker: Worker, client: Client, held: Batches, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is held takes longer than what it was estimated to.
    monkeypatch.setattr(Run, "remaining", lambda run, estimated: estimated * run.left)
    async with asyncio.timeout(LIMIT), Client(worker.settings) as other:
        first = asyncio.create_task(_all(client, LONG))
        await held.have_begun(1)
        second = asyncio.create_task(_all(other, LONG[:-1]))
        await holds(worker, 1)
        held.end(BATCHES)
        await first
        assert not second.done()
        held.end(BATCHES)
        await second
    assert held.begun == [8] * BATCHES + [8] * (BATCHES - 1) + [7]


async def test_packs_of_one_size_do_not_leave_each_other_alone(
    worker: Worker, client: Client, held: Batches, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much longer than they were estimated they take."""
    monkeypatch.setattr(Run, "remaining", lambda run, estimated: 1.5 * estimated * run.left)
    async with asyncio.timeout(LIMIT), Client(worker.settings) as other:
        first = asyncio.create_task(_all(client, LONG))
        await held.have_begun(1)
        second = asyncio.create_task(_all(other, LONG))
        await holds(worker, 1)
        held.end(BATCHES)
        await first
        assert not second.done()
        held.end(BATCHES)
        await second


async def test_what_nobody_waits_for_any_more_is_not_run_to_its_end(
    worker: Worker, client: Client, held: Batches, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with asyncio.timeout(LIMIT):
        job = asyncio.create_task(_all(client, LONG))
        await held.have_begun(1)
        monkeypatch.setattr(Claims, "is_cancelled", lambda *_: True)
        held.end(BATCHES)

        async def settled() -> bool:
            return await waiting_packs(worker.settings) == 0 and not worker.execution.running

        await until(settled)
        monkeypatch.undo()
        job.cancel()
    assert held.begun == [8]


async def test_what_is_late_meanwhile_is_not_run_to_its_end(worker: Worker, held: Batches) -> None:
    items = [{"id": str(place), "text": text} for place, text in enumerate(LONG)]
    body = json.dumps({"model": "sentiment", "items": items}).encode()
    replies: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
    async with asyncio.timeout(LIMIT), channel_to(worker.settings) as channel:
        names = worker.settings.names
        results = await channel.declare_queue(of_others(names, "mine"), exclusive=True)
        await results.consume(replies.put, no_ack=True)
        work = await channel.get_exchange(names.work, ensure=False)
        deadline = time.time() + 3  # until then it has begun, on a busy machine, too
        message = Message(
            body, reply_to=results.name, headers={"lmaas-deadline-ms": int(deadline * 1000)}
        )
        await work.publish(message, routing_key("sentiment", "short"))
        await held.have_begun(1)
        await asyncio.sleep(deadline - time.time())
        held.end(BATCHES)
        reply = decode_reply((await replies.get()).body, JSON)
    assert [item.error and item.error.code for item in reply.results] == [
        Code.DEADLINE_EXCEEDED
    ] * len(LONG)
    assert held.begun == [8]


async def test_a_worker_that_stops_ends_what_it_has_left_alone(
    settings: Settings, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with asyncio.timeout(LIMIT), Client(settings) as other, serving(settings) as worker:
        held = hold(monkeypatch)
        job, call = await _a_job_and_a_call(worker, held, client, other)
        worker.stop()
        held.end(BATCHES)
        assert (await call).label == "positive"
        assert all(await job)


async def _a_job_and_a_call(
    worker: Worker, held: Batches, client: Client, other: Client
) -> tuple[asyncio.Task[list[str | None]], asyncio.Task[Result]]:
    """The job has one batch behind it, and the call's is the one that runs."""
    job = asyncio.create_task(_all(client, LONG))
    await held.have_begun(1)
    call = asyncio.create_task(other.classify("sentiment", "a wonderful film"))
    await holds(worker, 1)
    held.end()
    await held.have_begun(2)
    return job, call


async def _all(client: Client, texts: list[str]) -> list[str | None]:
    return [result.label async for result in client.classify_many("sentiment", texts)]


async def test_each_has_its_own_answer_where_others_that_came_with_it_are_not_run(
    settings: Settings,
) -> None:
    """What is late, or is moved to another lane, takes nobody's place."""
    names = settings.names
    replies: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
    await make_lanes(settings)
    async with asyncio.timeout(LIMIT), channel_to(settings) as channel:
        results = await channel.declare_queue(of_others(names, "mine"), exclusive=True)
        await results.consume(replies.put, no_ack=True)
        work = await channel.get_exchange(names.work, ensure=False)
        for number in range(12):
            late = {"lmaas-deadline-ms": 1_000_000_000_000} if number % 3 == 0 else {}
            far = {"lmaas-remaining": 100} if number % 4 == 0 else {}
            words = "a wonderful film" if number % 2 else "a dull and boring film"
            body = json.dumps({"model": "sentiment", "items": [{"id": str(number), "text": words}]})
            message = Message(
                body.encode(), reply_to=results.name, correlation_id=str(number), headers=late | far
            )
            await work.publish(message, routing_key("sentiment", "instant"))
        async with serving(settings):
            for _ in range(12):
                message_in = await replies.get()
                (result,) = decode_reply(message_in.body, JSON).results
                number = int(message_in.correlation_id or "")
                assert result.id == str(number)
                if result.error is None:
                    assert result.label == ("positive" if number % 2 else "negative")
                else:
                    assert result.error.code == Code.DEADLINE_EXCEEDED
                assert (result.error is not None) == (number % 3 == 0)


async def test_what_its_caller_gives_up_is_not_run_any_more(
    worker: Worker, client: Client, held: Batches
) -> None:
    """Neither what has begun, at its next batch, nor what waits: in the worker or in the lane."""

    async def all_published() -> bool:
        return len(worker.execution.ready) + await waiting_packs(worker.settings) == 20

    async def all_cancelled() -> bool:
        return len(worker.cancelled) == 21

    async with asyncio.timeout(LIMIT), Client(worker.settings) as other:
        begun = asyncio.create_task(_all(client, LONG))
        await held.have_begun(1)
        waiting = [asyncio.create_task(_all(client, LONG[:-1])) for _ in range(20)]
        await until(all_published)
        before = dropped()
        for call in (begun, *waiting):
            call.cancel()
        await until(all_cancelled)
        held.end(1)
        call = asyncio.create_task(other.classify("sentiment", LONG[0]))
        await held.have_begun(2)
        held.end(1)
        assert (await call).label == "positive"
        await until(lambda: has_dropped(before + 21))
    assert held.begun == [8, 1]


def dropped() -> float:
    return prometheus_client.REGISTRY.get_sample_value("lmaas_cancelled_total") or 0.0


async def has_dropped(packs: float) -> bool:
    return dropped() == packs


async def test_a_call_that_is_given_up_is_not_run(
    worker: Worker, client: Client, held: Batches
) -> None:
    async def all_cancelled() -> bool:
        return len(worker.cancelled) == 1

    async with asyncio.timeout(LIMIT), Client(worker.settings) as other:
        begun = asyncio.create_task(_all(client, LONG))
        await held.have_begun(1)
        calls = [asyncio.create_task(other.classify("sentiment", text)) for text in LONG[:3]]
        await holds(worker, 1)
        before = dropped()
        for call in calls:
            call.cancel()
        await until(all_cancelled)
        held.end(BATCHES)
        await begun
        await until(lambda: has_dropped(before + 1))
    assert held.begun == [8] * BATCHES
