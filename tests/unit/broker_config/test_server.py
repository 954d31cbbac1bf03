"""What a broker's version means."""

from __future__ import annotations

from typing import Any

import pytest

from lmaas.broker_config.server import largest_message

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
