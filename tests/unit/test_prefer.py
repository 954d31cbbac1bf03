"""The header `Prefer`."""

from __future__ import annotations

import pytest

from lmaas.producer.gateway.prefer import Preferences


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", 30),
        ("respond-async", 0),
        ("Respond-Async, wait=10", 10),
        ('wait="5"', 5),
        ("wait=100", 30),
        ("wait=5, wait=7", 5),
        ("wait=0", 0),
        ("wait=-1", 30),
        ("wait=soon", 30),
        ("wait=nan", 30),
        ("wait", 30),
        ("return=minimal; foo, respond-async; bar=2", 0),
    ],
)
def test_how_long_a_caller_waits(header: str, seconds: float) -> None:
    assert Preferences.of(header).patience(30) == seconds
