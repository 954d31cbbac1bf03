"""A gateway that listens, before a broker with a worker; what comes over HTTP is real."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from lmaas.broker_config.settings import Settings
from lmaas.producer.gateway.serving import serving as serving_http
from lmaas.producer.gateway.settings import GatewaySettings
from lmaas.workers.worker import Worker
from tests.integration.conftest import client, lanes, node, own_node, texts
from tests.integration.lanes import MODELS, serving

__all__ = ["client", "lanes", "node", "own_node", "texts"]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The test's own queues, and the shipped models."""
    return msgspec.structs.replace(settings, models=str(MODELS), processes=1)


@pytest.fixture
def gateway_settings(tmp_path: Path) -> GatewaySettings:
    """Open, at a port that is free, with a folder of its own."""
    return GatewaySettings(access="open", port=0, folder=str(tmp_path / "gateway"))


@dataclass(frozen=True)
class Gateway:
    """One that listens, and a caller of it."""

    url: str
    http: aiohttp.ClientSession

    async def post(self, path: str, **options: Any) -> tuple[int, Any]:
        """Status and JSON."""
        async with self.http.post(self.url + path, **options) as answer:
            return answer.status, await answer.json()

    async def get(self, path: str, **options: Any) -> tuple[int, Any]:
        """Status and JSON."""
        async with self.http.get(self.url + path, **options) as answer:
            return answer.status, await answer.json()


@contextlib.asynccontextmanager
async def listening(settings: GatewaySettings, engine: Settings) -> AsyncIterator[Gateway]:
    """A gateway of these settings, as `lmaas gateway` runs it."""
    async with serving_http(settings, engine) as url, aiohttp.ClientSession() as http:
        yield Gateway(url, http)


@pytest.fixture
async def worker(settings: Settings) -> AsyncIterator[Worker]:
    async with serving(settings) as worker:
        yield worker


@pytest.fixture
async def gateway(gateway_settings: GatewaySettings, settings: Settings) -> AsyncIterator[Gateway]:
    async with listening(gateway_settings, settings) as gateway:
        yield gateway
