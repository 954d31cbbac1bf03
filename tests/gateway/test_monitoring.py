"""Lanes, workers, dead letters and failures over HTTP, with a real broker and worker."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

import aio_pika
import pytest

from lmaas.broker_config.messages import JSON
from lmaas.broker_config.scheduling import LANES
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.statuses import LaneStatus, WorkerStatus
from lmaas.producer.gateway.monitoring.looks import FRESH, TOO_LONG, Look, Looks, states
from lmaas.workers.worker import Worker
from tests.gateway.conftest import Gateway
from tests.integration.lanes import channel_to, until

BODY = b'{"model": "sentiment", "items": [{"id": "a", "text": "a fine film"}]}'


async def put_dead(settings: Settings, name: str = "", model: str = "sentiment") -> str:
    """A dead letter as a worker leaves it; its id."""
    name = name or uuid.uuid4().hex
    message = aio_pika.Message(
        BODY.replace(b"sentiment", model.encode()),
        content_type=JSON,
        message_id=name,
        headers={
            "lmaas-error": "poison",
            "lmaas-reason": "it ended the process twice",
            "lmaas-parked-ms": int(time.time() * 1000),
        },
    )
    async with channel_to(settings) as channel:
        exchange = await channel.get_exchange(settings.names.dead, ensure=False)
        await exchange.publish(message, f"{model}.short")
    return name


@pytest.mark.usefixtures("worker")
async def test_lanes_have_a_depth_and_workers_are_named(gateway: Gateway, worker: Worker) -> None:
    status, seen = await gateway.get("/v1/lanes")
    assert status == 200
    assert [(one["model"], one["lane"]) for one in seen["lanes"]] == [
        ("sentiment", lane) for lane in LANES
    ]
    assert {(one["depth"], one["consumers"]) for one in seen["lanes"]} == {(0, 1)}
    assert seen["dead_letters"] == 0
    status, found = await gateway.get("/v1/workers")
    (one,) = found["workers"]
    assert (one["worker"], one["models"], one["problem"]) == (
        worker.name, {"sentiment": "1"}, None,
    )  # fmt: skip


@pytest.mark.usefixtures("worker")
async def test_what_workers_take_is_told_as_a_rate(gateway: Gateway) -> None:
    async def rates() -> list[float]:
        _, seen = await gateway.get("/v1/lanes")
        return [one["rate"] for one in seen["lanes"] if one["rate"]]

    async def has_rate() -> bool:
        await gateway.post("/v1/classify", json={"model": "sentiment", "items": ["a fine film"]})
        return bool(await rates())

    await until(has_rate)


async def test_what_waits_is_seen_when_its_workers_have_gone(
    gateway: Gateway, worker: Worker, settings: Settings
) -> None:
    await gateway.get("/v1/lanes")
    worker.stop()

    async def gone() -> bool:
        _, found = await gateway.get("/v1/workers")
        return found["workers"] == []

    await until(gone)
    async with channel_to(settings) as channel:
        queue = settings.names.work_queue("sentiment", "short")
        await channel.default_exchange.publish(aio_pika.Message(BODY), queue)

    async def seen() -> bool:
        _, found = await gateway.get("/v1/lanes")
        return ("short", 1, 0) in {
            (one["lane"], one["depth"], one["consumers"]) for one in found["lanes"]
        }

    await until(seen)


async def test_who_looks_at_the_same_time_looks_together(
    settings: Settings, worker: Worker
) -> None:
    async with Looks(settings) as looks:
        found = await asyncio.gather(*(looks.now() for _ in range(50)))
        assert len({id(look) for look in found}) == 1
        assert await looks.now() is found[0] or time.monotonic() - found[0].at >= FRESH


def status_of(taken: int, waited: float = 0.0, own: int = 0) -> WorkerStatus:
    lane = LaneStatus(model="m", lane="short", taken=taken, waited=waited, own=own)
    return WorkerStatus(
        worker="w", models={"m": "1"}, problem=None, held=0, running=0, lanes=[lane]
    )


@pytest.mark.parametrize(
    ("before", "now", "seconds", "rate"),
    [
        (10, 30, 2.0, 10.0),
        (30, 30, 2.0, 0.0),
        (30, 8, 2.0, 4.0),  # it was connected anew
        (10, 30, TOO_LONG + 1, None),
    ],
)
def test_a_rate_is_what_was_taken_between_two_looks(
    before: int, now: int, seconds: float, rate: float | None
) -> None:
    look = Look(100.0, [status_of(before)], [], 0)
    (lane,) = states({("m", "short"): (3, 1)}, [status_of(now, 1.5)], look, 100.0 + seconds)
    assert (lane.depth, lane.consumers, lane.age, lane.rate) == (3, 1, 1.5, rate)


def test_queues_of_a_workers_own_count_and_an_empty_lane_has_no_age() -> None:
    (lane,) = states({("m", "short"): None}, [status_of(5, 2.0, own=4)], None, 1.0)
    assert (lane.depth, lane.age, lane.rate) == (4, 2.0, None)
    (lane,) = states({("m", "short"): (0, 1)}, [status_of(5, 2.0)], None, 1.0)
    assert lane.age == 0.0
    (lane,) = states({("m", "short"): (7, 0)}, [], None, 1.0)
    assert lane.age is None


async def dead_letters(gateway: Gateway, query: str = "") -> tuple[int, Any]:
    return await gateway.get(f"/v1/dead-letters{query}")


@pytest.mark.usefixtures("worker")
async def test_dead_letters_are_seen_replayed_and_dropped(
    gateway: Gateway, settings: Settings
) -> None:
    first, second = [await put_dead(settings) for _ in range(2)]
    status, found = await dead_letters(gateway)
    assert status == 200
    assert [one["id"] for one in found["dead_letters"]] == [first, second]
    assert found["dead_letters"][0]["reason"] == "it ended the process twice"
    assert found["dead_letters"][0]["items"] == 1
    _, page = await dead_letters(gateway, "?limit=1")
    assert ([one["id"] for one in page["dead_letters"]], page["more"]) == ([first], True)
    _, none = await dead_letters(gateway, "?error=other")
    assert (none["dead_letters"], none["more"]) == ([], False)

    path = f"/v1/dead-letters/{first}/replay"
    assert await gateway.post(path) == (200, {"done": 1})
    status, answer = await gateway.post(path)
    assert (status, answer["error"]["code"]) == (404, "not_found")
    async with gateway.http.delete(f"{gateway.url}/v1/dead-letters/{second}") as dropped:
        assert (dropped.status, await dropped.json()) == (200, {"done": 1})
    _, found = await dead_letters(gateway)
    assert found["dead_letters"] == []


async def test_what_no_queue_takes_stays(gateway: Gateway, settings: Settings) -> None:
    name = await put_dead(settings, model="nobody")
    status, answer = await gateway.post(f"/v1/dead-letters/{name}/replay")
    assert (status, answer["error"]["code"]) == (409, "unroutable")
    _, found = await dead_letters(gateway)
    assert len(found["dead_letters"]) == 1


async def test_a_wrong_limit_is_told(gateway: Gateway) -> None:
    status, answer = await dead_letters(gateway, "?limit=0")
    assert (status, answer["error"]["code"]) == (422, "invalid")


@pytest.mark.usefixtures("worker")
async def test_the_last_failures_are_remembered(gateway: Gateway) -> None:
    item = {"id": "a", "data": "AAAA", "media_type": "image/png"}  # the model takes texts
    call = {"model": "sentiment", "items": [item]}
    await gateway.post("/v1/classify", json=call)
    await gateway.post("/v1/classify", json={"model": "sentiment", "items": ["fine"]})
    status, found = await gateway.get("/v1/failures")
    assert status == 200
    (failed,) = found["failures"]
    assert (failed["model"], failed["code"]) == ("sentiment", "not_text")
    assert failed["message"]
