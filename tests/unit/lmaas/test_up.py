"""`lmaas up`'s watch over its broker."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import topology
from lmaas.cli import up


async def test_the_watch_ends_although_a_library_loses_its_cancellation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connecting = asyncio.Event()

    @contextlib.asynccontextmanager
    async def connection() -> AsyncIterator[None]:
        yield

    async def connect(settings: Settings, *, name: str) -> Any:
        """As `asyncio.wait_for` of Python 3.11 when the answer comes in the same turn."""
        connecting.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return connection()

    async def hanging(*_: Any) -> None:
        return None

    monkeypatch.setattr(up, "INTERVAL", 0.0)
    monkeypatch.setattr(up, "connect", connect)
    monkeypatch.setattr(up, "hanging", hanging)
    settings = Settings()
    watching = asyncio.create_task(up._until_hanging(settings, topology(settings.names)))
    await connecting.wait()
    watching.cancel()
    async with asyncio.timeout(60):
        await asyncio.wait([watching])
    assert watching.cancelled()
