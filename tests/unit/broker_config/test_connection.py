"""Connections to what is no broker."""

from __future__ import annotations

from typing import Any

import pytest

from lmaas.broker_config.connection import connect
from lmaas.broker_config.errors import BrokerUnavailable
from lmaas.broker_config.settings import Settings


async def test_who_closes_each_connection_at_once_is_a_broker_that_is_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a load balancer does whose broker has gone.

    Whether aiormq sees the end of the stream before it reads or while it does depends on luck; it
    is the first that it has a strange word for.
    """

    async def closed_before_it_is_read(*_: Any, **__: Any) -> None:
        raise StopAsyncIteration

    monkeypatch.setattr("aio_pika.connect", closed_before_it_is_read)
    with pytest.raises(BrokerUnavailable, match="closes them at once"):
        await connect(Settings(connect_timeout=0.3), name="test")
