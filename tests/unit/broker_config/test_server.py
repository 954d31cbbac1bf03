"""What a broker's version and its alarms mean."""

from __future__ import annotations

import logging
from typing import Any

import aiormq.connection
import pytest

from lmaas.broker_config.server import alarm, largest_message

MIB = 1024**2


@pytest.mark.parametrize(
    ("properties", "limit"),
    [
        ({"version": "3.10.8"}, 128 * MIB),
        ({"version": b"3.13.7"}, 128 * MIB),
        ({"version": "4.0.0"}, 16 * MIB),
        ({"version": "4.3.5+1"}, 16 * MIB),
        ({"version": "10.0"}, 16 * MIB),
        ({"version": "unknown"}, 16 * MIB),
        ({"version": "\xff"}, 16 * MIB),
        ({}, 16 * MIB),
    ],
)
def test_the_largest_message_by_version(properties: dict[str, Any], limit: int) -> None:
    assert largest_message(properties) == limit


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
        ("lmaas.broker_config.server", "the broker blocks publishers: low on disk"),
        ("lmaas.broker_config.server", "the broker takes messages again"),
    ]
