"""What is changed in the libraries below."""

from __future__ import annotations

import asyncio
import logging
import struct

import aiormq.connection
import pamqp.frame
import pytest
from aiormq.tools import Countdown
from pamqp.header import ContentHeader

from lmaas.broker_config import upstream
from lmaas.broker_config.decoding import decode_request
from lmaas.broker_config.errors import MessageError
from lmaas.broker_config.upstream import UNREADABLE, alarm

upstream.apply()

CORRELATION_ID = 1 << 10
HEADERS = 1 << 13
TIMESTAMP = 1 << 6


def received(flags: int, values: bytes) -> ContentHeader:
    """What a consumer gets of a message of 7 bytes with these properties."""
    payload = struct.pack(">HHQH", 60, 0, 7, flags) + values
    frame = struct.pack(">BHI", 2, 1, len(payload)) + payload + b"\xce"
    _, _, header = pamqp.frame.unmarshal(frame)
    assert isinstance(header, ContentHeader)
    return header


def nested(depth: int) -> bytes:
    table = b""
    for _ in range(depth):
        table = b"\x01tF" + struct.pack(">I", len(table)) + table
    return struct.pack(">I", len(table)) + table


@pytest.mark.parametrize(
    ("flags", "values"),
    [
        (CORRELATION_ID, b"\x02\xff\xfe"),
        (HEADERS, b"\x00\x00\x00\x03\x01\xfft\x01"),
        (HEADERS, b"\x00\x00\x00\x03\x01a?"),
        (HEADERS, nested(5_000)),
        (TIMESTAMP, b"\xff" * 8),
        (CORRELATION_ID, b""),
    ],
)
def test_unreadable_properties_are_told_in_the_content_type(flags: int, values: bytes) -> None:
    header = received(flags, values)
    assert header.body_size == 7
    told = header.properties.content_type
    assert told is not None
    assert told.startswith(UNREADABLE)
    assert header.properties.reply_to is None
    with pytest.raises(MessageError, match=UNREADABLE):
        decode_request(b"{}", told, max_item_bytes=1, max_items=1)


def test_readable_properties_stay_as_they_are() -> None:
    header = received(CORRELATION_ID, b"\x03" + "é1".encode())
    assert header.properties.correlation_id == "é1"
    assert header.properties.content_type is None


class Connection:
    """Hashable and weakly referable, as aiormq's are."""


@pytest.mark.parametrize("level", [logging.DEBUG, logging.CRITICAL])
def test_the_reason_for_an_alarm_is_heard_at_any_log_level(
    level: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("aiormq"), "level", level)
    one, other = Connection(), Connection()
    # As aiormq writes it; the integration test has it from a broker.
    aiormq.connection.log.warning("Connection %r was blocked by: %r", one, "low on disk")
    aiormq.connection.log.warning("Connection %r was unblocked", one)
    assert alarm(one) == "low on disk"  # type: ignore[arg-type]
    assert alarm(other) == "memory or disk alarm"  # type: ignore[arg-type]
    assert [(line.name, line.message) for line in caplog.records] == [
        ("lmaas.broker_config.upstream", "the broker blocks publishers: low on disk"),
        ("lmaas.broker_config.upstream", "the broker takes messages again"),
    ]


async def test_a_cancellation_is_not_lost_to_an_answer_of_the_same_turn() -> None:
    answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def asked() -> str:
        return await Countdown(60.0)(answer)

    asking = asyncio.create_task(asked())
    await asyncio.sleep(0)
    answer.set_result("declared")
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_a_countdown_that_is_over_begins_nothing() -> None:
    begun = False

    async def begin() -> None:
        nonlocal begun
        begun = True

    with pytest.raises(TimeoutError):
        await Countdown(0.0)(begin())
    assert not begun
    with pytest.raises(TimeoutError):
        await Countdown(0.001)(asyncio.Event().wait())
