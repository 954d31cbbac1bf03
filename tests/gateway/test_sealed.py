"""A gateway whose calls and jobs are sealed on their way over the broker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lmaas.broker_config.settings import Settings
from lmaas.producer.gateway.settings import GatewaySettings
from tests.gateway.conftest import Gateway, listening
from tests.integration.lanes import having, make_lanes, serving, until
from tests.payload_keys import new_keys, sealed

GOOD = "a wonderful, moving film"


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    settings = sealed(settings, new_keys(tmp_path / "payload.keys"))
    return having(settings, retry_delays=("100ms",), max_attempts=2)


async def test_calls_and_jobs_are_answered(settings: Settings, gateway: Gateway) -> None:
    async with serving(settings):
        call = {"model": "sentiment", "items": [GOOD]}
        status, answer = await gateway.post("/v1/classify", json=call)
        assert (status, answer["results"][0]["label"]) == (200, "positive")
        status, job = await gateway.post("/v1/jobs", json=call)
        assert status == 202
        found: dict[str, Any] = {}

        async def has_ended() -> bool:
            found.update((await gateway.get(f"/v1/jobs/{job['id']}"))[1])
            return found["ended"] is not None

        await until(has_ended)
        assert (found["state"], found["failed"]) == ("finished", 0)


async def test_a_gateway_and_workers_that_disagree_are_told_apart_from_bad_calls(
    settings: Settings, gateway_settings: GatewaySettings
) -> None:
    await make_lanes(settings)
    call = {"model": "sentiment", "items": [GOOD]}
    async with serving(having(settings, payload_keys=None)):
        async with listening(gateway_settings, settings) as gateway:
            status, answer = await gateway.post("/v1/classify", json=call)
        assert (status, answer["error"]["code"]) == (503, "key_missing")
