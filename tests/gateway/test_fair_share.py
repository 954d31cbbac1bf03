"""Jobs of one API key do not keep those of another one waiting; workers are told whose they are."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from lmaas.broker_config.scheduling import LANES
from lmaas.broker_config.settings import Settings
from lmaas.producer.gateway import api_keys
from lmaas.producer.gateway.jobs import collecting
from lmaas.producer.gateway.settings import GatewaySettings
from lmaas.producer.gateway.state import State, keys
from lmaas.producer.gateway.state.jobs import jobs
from tests.gateway.conftest import Gateway, listening
from tests.integration.lanes import LIMIT, channel_to, make_lanes, serving, until

#: Jobs of the key that has many of them.
MANY = 18


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """By what waits, and hardly by when it came."""
    return msgspec.structs.replace(settings, ageing=0.0001)


@pytest.fixture
def gateway_settings(tmp_path: Path) -> GatewaySettings:
    return GatewaySettings(port=0, folder=str(tmp_path / "gateway"))


async def made(settings: GatewaySettings, *scopes: str) -> dict[str, str]:
    """What a new key's caller sends."""
    written, key = api_keys.make("test", scopes or ("jobs",), time.time())
    async with State(settings) as state, state.writing() as connection:
        await keys.add(connection, key)
    return {"X-API-Key": written}


async def submitted(gateway: Gateway, key: dict[str, str], items: list[str]) -> str:
    status, job = await gateway.post(
        "/v1/jobs", json={"model": "sentiment", "items": items}, headers=key
    )
    assert status == 202, job
    name: str = job["id"]
    return name


async def ended(gateway: Gateway, key: dict[str, str], job: str) -> float:
    """When a job has ended, which is awaited."""
    async with asyncio.timeout(LIMIT):
        async with gateway.http.get(f"{gateway.url}/v1/jobs/{job}/events", headers=key) as events:
            await events.read()
        _, view = await gateway.get(f"/v1/jobs/{job}", headers=key)
    assert view["state"] == "finished", view
    moment: float = view["ended"]
    return moment


async def test_one_job_does_not_wait_for_all_of_another_key(
    gateway_settings: GatewaySettings, settings: Settings, texts: list[str]
) -> None:
    """They are all of one size, and those of the other key came first."""
    async with serving(settings):
        pass  # the model has lanes now
    greedy, other = await made(gateway_settings), await made(gateway_settings)
    items = texts[:500]
    async with listening(gateway_settings, settings) as gateway:
        many = [await submitted(gateway, greedy, items) for _ in range(MANY)]
        small = await submitted(gateway, other, items)
        async with serving(settings):
            moment = await ended(gateway, other, small)
            others = [await ended(gateway, greedy, job) for job in many]
    assert sum(other < moment for other in others) <= MANY // 3


async def test_one_key_does_not_hold_all_that_collects(
    gateway_settings: GatewaySettings, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a worker no job ends; one of each key is looked after all the same."""
    monkeypatch.setattr(collecting, "MOST", 2)
    monkeypatch.setattr(collecting, "MOST_OF_ONE", 1)
    monkeypatch.setattr(collecting, "GULP", 1)
    async with serving(settings):
        pass  # the model has lanes now
    greedy, other = await made(gateway_settings), await made(gateway_settings)
    async with listening(gateway_settings, settings) as gateway:
        for _ in range(3):
            await submitted(gateway, greedy, ["x"])
        await submitted(gateway, other, ["x"])
        expected = {api_keys.id_of(key["X-API-Key"]) for key in (greedy, other)}
        async with State(gateway_settings) as state, asyncio.timeout(LIMIT):
            while await held(state) != expected:
                pass


async def held(state: State) -> set[str]:
    """The owners of the jobs that a gateway collects."""
    query = sa.select(jobs.c.owner).where(jobs.c.holder.is_not(None), jobs.c.state == "running")
    async with state.reading() as connection:
        return set(await connection.scalars(query))


async def told(settings: Settings) -> set[tuple[str | None, str | None]]:
    """Users and tenants of what is in the lanes, which is awaited and taken out."""
    found: set[tuple[str | None, str | None]] = set()

    async def taken() -> bool:
        async with channel_to(settings) as channel:
            for lane in LANES:
                queue = await channel.get_queue(settings.names.work_queue("sentiment", lane))
                while message := await queue.get(no_ack=True, fail=False):
                    tenant = message.headers.get("lmaas-tenant")
                    found.add((message.user_id, tenant and str(tenant)))
        return bool(found)

    await until(taken)
    return found


@contextlib.asynccontextmanager
async def calling(gateway: Gateway, items: int, *keys: dict[str, str]) -> AsyncIterator[None]:
    """A call of each key, which nobody answers."""
    body = {"model": "sentiment", "items": ["x"] * items}
    calls = [
        asyncio.create_task(gateway.post("/v1/classify", json=body, headers=key)) for key in keys
    ]
    try:
        yield
    finally:
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


async def test_workers_are_told_for_which_key_the_gateway_asks(
    gateway_settings: GatewaySettings, settings: Settings
) -> None:
    """In a job, a call that has messages of its own, and smaller ones that share with nobody."""
    await make_lanes(settings)
    key = await made(gateway_settings, "jobs", "classify")
    mine = {(settings.user, api_keys.id_of(key["X-API-Key"]))}
    async with listening(gateway_settings, settings) as gateway:
        await submitted(gateway, key, ["x"])
        assert await told(settings) == mine
        for items in (1, 32, 33):
            async with calling(gateway, items, key):
                assert await told(settings) == mine


async def test_what_calls_of_several_keys_share_counts_for_the_gateway(
    gateway_settings: GatewaySettings, settings: Settings
) -> None:
    """While a pack is on its way the next one waits until two calls have filled it."""
    await make_lanes(settings)
    one, other = [await made(gateway_settings, "classify") for _ in range(2)]
    both = msgspec.structs.replace(settings, linger=LIMIT, pack_items=2)
    async with listening(gateway_settings, both) as gateway, calling(gateway, 1, one):
        assert await told(settings) == {(settings.user, api_keys.id_of(one["X-API-Key"]))}
        async with calling(gateway, 1, one, other):
            assert await told(settings) == {(settings.user, None)}
        async with calling(gateway, 1, other, other):
            assert await told(settings) == {(settings.user, api_keys.id_of(other["X-API-Key"]))}
