"""What pamqp cannot represent: it is read in another way, and what follows it is read rightly."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from typing import Any

import pamqp.decode
import pamqp.encode
import pytest

from broker_config import decoding


@pytest.fixture(autouse=True)
def _pamqp_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pamqp.decode, "METHODS", dict(pamqp.decode.METHODS))
    monkeypatch.setattr(pamqp.decode, "TABLE_MAPPING", dict(pamqp.decode.TABLE_MAPPING))
    decoding.tolerate()


def decoded(value: bytes, kind: str) -> Any:
    """The value, when it has been consumed to its end and no further."""
    consumed, found = pamqp.decode.by_type(value + b"next", kind)
    assert consumed == len(value)
    return found


def test_what_can_be_represented_is_as_before() -> None:
    now = datetime(2024, 1, 2, tzinfo=UTC)
    assert decoded(pamqp.encode.short_string("é"), "shortstr") == "é"
    assert decoded(pamqp.encode.timestamp(now), "timestamp") == now
    table: dict[str, Any] = {"a": [1, {"b": now}], "é": "x"}
    assert decoded(pamqp.encode.field_table(table), "table") == table


def test_a_text_that_is_no_utf_8_shows_its_bytes() -> None:
    assert decoded(b"\x04a\xff\xe4b", "shortstr") == r"a\xff\xe4b"


@pytest.mark.parametrize("moment", [2**40 * 1000, 2**63, 2**64 - 1])
def test_a_moment_that_no_calendar_has_is_none(moment: int) -> None:
    value = struct.pack(">Q", moment)
    assert decoded(value, "timestamp") is None
    inside = b"\x01tT" + value
    assert decoded(struct.pack(">I", len(inside)) + inside, "table") == {"t": None}


def nested(depth: int) -> bytes:
    table = b""
    for _ in range(depth):
        inside = b"\x01nF" + struct.pack(">I", len(table)) + table
        table = inside
    return struct.pack(">I", len(table)) + table


@pytest.mark.parametrize("table", [struct.pack(">I", 3) + b"\x01\xffV", nested(2_000)])
def test_a_table_that_cannot_be_represented_is_empty(table: bytes) -> None:
    assert decoded(table, "table") == {}
