"""Which packs count as redelivered."""

from __future__ import annotations

from unittest.mock import AsyncMock, Mock

import pytest
from aio_pika.abc import AbstractIncomingMessage

from lmaas.broker_config.estimator import Estimator
from lmaas.broker_config.messages import JSON
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import Names
from lmaas.workers import consumer as consuming
from lmaas.workers.callers import Callers
from lmaas.workers.consumer import Consumer
from lmaas.workers.lane import Lane
from lmaas.workers.ready_queue import ReadyQueue

BODY = b'{"model": "m", "items": [{"id": "1", "text": "a"}]}'


def message(message_id: str | None, *, again: bool) -> AbstractIncomingMessage:
    return Mock(
        message_id=message_id, redelivered=again, body=BODY, content_type=JSON, headers={},
        reply_to=None, user_id=None,
    )  # fmt: skip


@pytest.fixture
async def consumer() -> Consumer:
    return Consumer(
        Settings(),
        "w",
        {"m": Estimator()},
        {"m": "1"},
        ReadyQueue(0.1),
        ReadyQueue(0.1),
        AsyncMock(),
        Callers(Names()),
    )


def redelivered(consumer: Consumer, message_id: str | None, *, again: bool) -> bool:
    lane = Lane("m", "short", Mock(), 2)
    sent = message(message_id, again=again)
    return consumer._delivery(sent, lane).is_redelivered


async def test_what_a_worker_had_first_and_survived_is_not_redelivered(consumer: Consumer) -> None:
    assert not redelivered(consumer, "mine", again=False)
    assert not redelivered(consumer, "mine", again=True)


async def test_what_it_has_not_met_or_met_when_it_was_redelivered_stays_so(
    consumer: Consumer,
) -> None:
    for _ in range(2):
        assert redelivered(consumer, "another worker's", again=True)


async def test_what_has_no_id_is_known_to_nobody(consumer: Consumer) -> None:
    for message_id in (None, ""):
        assert not redelivered(consumer, message_id, again=False)
        assert redelivered(consumer, message_id, again=True)


async def test_a_worker_remembers_so_many(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consuming, "REMEMBERED", 2)
    for message_id in "abc":
        redelivered(consumer, message_id, again=False)
    assert [redelivered(consumer, message_id, again=True) for message_id in "abc"] == [
        True,
        False,
        False,
    ]


async def test_who_is_alone_with_a_lane_for_a_moment_is_not_given_more(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is back first after a restart of the broker would hoard what waits."""
    lane = Lane("m", "short", Mock(cancel=AsyncMock()), 5)
    consumer._lanes = [lane]
    monkeypatch.setattr(consumer, "_consume", AsyncMock())
    seen = []
    for others in (0, 1, 0, 0):
        monkeypatch.setattr(consumer, "_consumers", AsyncMock(return_value=1 + others))
        await consumer._tune_lanes(Mock())
        seen.append(lane.prefetch)
    assert seen[:3] == [5, 5, 5]
    assert seen[3] > 5
