"""What a log line says of a pack, and what tracing costs who has none."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import pytest

from lmaas.broker_config import tracing
from lmaas.broker_config.headers import Headers

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (Headers(), {}),
        (Headers(job="night", chunk=0), {"job": "night", "chunk": 0}),
        (Headers(traceparent=TRACEPARENT), {"trace": TRACE}),
        (Headers(traceparent="nonsense"), {}),
    ],
)
def test_a_line_has_what_the_pack_has(headers: Headers, expected: dict[str, Any]) -> None:
    assert tracing.context(headers) == expected


def test_without_opentelemetry_a_pack_goes_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, tracing.LIBRARY, raising=False)
    table: dict[str, Any] = {}
    with tracing.publishing("work", "m.short", "m", 1, table):
        pass
    tracing.processed(Headers(), "work", "m.short", "m", "short", Counter(), 0.1)
    assert table == {}
    assert tracing.LIBRARY not in sys.modules
