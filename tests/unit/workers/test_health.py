"""The pages of a worker, without a broker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any
from unittest.mock import Mock

import pytest
from aiohttp.test_utils import TestClient, TestServer

from lmaas.broker_config.settings import Settings
from lmaas.service.health import create_app
from lmaas.workers.lane import Lane
from lmaas.workers.state import State
from lmaas.workers.worker import Worker

Page = Callable[[str], Any]


@pytest.fixture
async def worker(worker_settings: Settings) -> Worker:
    return Worker(worker_settings)


@pytest.fixture
async def client(worker: Worker) -> AsyncIterator[TestClient[Any, Any]]:
    async with TestClient(TestServer(create_app(worker, State(worker)))) as client:
        yield client


async def test_a_worker_that_has_not_begun_lives_and_is_not_ready(
    client: TestClient[Any, Any], worker: Worker
) -> None:
    live = await client.get("/health/live")
    assert (live.status, (await live.json())["problem"]) == (200, None)
    ready = await client.get("/health/ready")
    assert (ready.status, await ready.json()) == (
        503,
        {"worker": worker.name, "models": ["sentiment"], "problem": "starting"},
    )


async def test_a_run_that_passed_its_time_limit_is_no_life(
    client: TestClient[Any, Any], worker: Worker
) -> None:
    worker.execution.overdue.set()
    live = await client.get("/health/live")
    assert (live.status, (await live.json())["problem"]) == (503, "a run takes longer than 60 s")


def test_a_lane_has_an_age_while_something_waits_in_it() -> None:
    lane = Lane("sentiment", "short", Mock(), 1, waited=3.0)
    assert lane.age == 0.0
    lane.depth = 1
    assert lane.age == 3.0
