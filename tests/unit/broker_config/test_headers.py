"""Headers of requests: what goes through AMQP, and what anybody may have written."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pamqp.decode
import pamqp.encode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmaas.broker_config.headers import HEADER_NAMES, Headers

#: Texts that are short enough for every header.
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)


@given(
    st.builds(
        Headers,
        attempt=st.integers(0, 2**31 - 1),
        replays=st.integers(0, 2**31 - 1),
        deadline_ms=st.none() | st.integers(1, 2**53 - 1),
        published_ms=st.none() | st.integers(1, 2**53 - 1),
        cost=st.none() | st.floats(2**-20, 3600, width=32),
        remaining=st.none() | st.floats(2**-20, 1e9, width=32),
        job=st.none() | names,
        chunk=st.none() | st.integers(0, 2**31 - 1),
        tenant=st.none() | names,
        key=st.none() | names,
        traceparent=st.none() | names,
        tracestate=st.none() | names,
        baggage=st.none() | names,
        first_error=st.none() | names,
        error=st.none() | names,
        reason=st.none() | names,
        worker=st.none() | names,
        parked_ms=st.none() | st.integers(1, 2**53 - 1),
    )
)
def test_headers_come_back_as_they_were(headers: Headers) -> None:
    _, table = pamqp.decode.field_table(pamqp.encode.field_table(headers.table()))
    assert Headers.from_table(table) == headers


def test_header_names() -> None:
    headers = Headers(attempt=2, replays=1, deadline_ms=5_000, cost=0.1, job="j", chunk=3)
    assert headers.table() == {
        "lmaas-attempt": 2,
        "lmaas-replays": 1,
        "lmaas-deadline-ms": 5_000,
        "lmaas-cost": 0.1,
        "lmaas-job": "j",
        "lmaas-chunk": 3,
    }
    assert Headers().table() == {}
    assert Headers(traceparent="00-a-b-01").table() == {"traceparent": "00-a-b-01"}


@pytest.mark.parametrize("letter", ["x", "é", "電", "😀"])
def test_headers_are_bounded(letter: str) -> None:
    long = 130_000 * letter
    fields = ("job", "worker", "error", "reason", "first-error")
    told = {f"lmaas-{field}": long for field in fields}
    found = Headers.from_table(told | dict.fromkeys(("traceparent", "tracestate", "baggage"), long))
    # A part of an id would be another id; the beginning of what is for people still helps them.
    assert (found.job, found.traceparent, found.tracestate, found.baggage) == (None,) * 4
    for part, limit in ((found.worker, 255), (found.reason, 1_000), (found.first_error, 1_000)):
        assert part is not None
        assert long.startswith(part)
        assert limit - 4 < len(part.encode()) <= limit
    assert Headers.from_table({"lmaas-remaining": 1e300, "lmaas-cost": 2**62}) == Headers(
        remaining=1e9, cost=1e9
    )


def test_the_largest_headers_and_properties_fit_into_the_smallest_frame() -> None:
    limits = {"tracestate": 512, "baggage": 1_024, "reason": 1_000, "first_error": 1_000}
    texts = ("job", "tenant", "key", "traceparent", "error", "worker")
    table = {HEADER_NAMES[name]: "x" * limits.get(name, 255) for name in (*texts, *limits)}
    counts = {
        "lmaas-attempt": 2**31 - 1,
        "lmaas-items": 2**31 - 1,
        "lmaas-replays": 2**31 - 1,
        "lmaas-redacted": True,
        "lmaas-chunk": 2**31 - 1,
    }
    moments = {f"lmaas-{name}-ms": 2**53 - 1 for name in ("deadline", "published", "parked")}
    seconds = {"lmaas-cost": 1.5, "lmaas-remaining": 1.5}
    headers = Headers.from_table(table | counts | moments | seconds)
    assert len(headers.table()) == len(Headers.__struct_fields__)
    properties = 7 * 256  # strings of 255 bytes each
    assert len(pamqp.encode.field_table(headers.table())) + properties + 100 < 8_192


ABSURD = [
    None, True, -1, 2**31, 2**63, float("nan"), float("inf"), -0.0, "", "text", b"bytes",
    Decimal("1.5"), [1], {"a": 1}, datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
]  # fmt: skip


#: Any positive number is a cost; any whole one that is positive a moment.
ABSURD_COSTS = [value for value in ABSURD if value not in (True, 2**31, 2**63)]
ABSURD_MOMENTS = [value for value in ABSURD if value != 2**31]


@pytest.mark.parametrize("name", [f"lmaas-{field}" for field in ("attempt", "replays")])
@pytest.mark.parametrize("value", ABSURD, ids=repr)
def test_an_absurd_count_counts_as_not_given(name: str, value: object) -> None:
    assert Headers.from_table({name: value}) == Headers()


@pytest.mark.parametrize("value", ABSURD_COSTS, ids=repr)
@pytest.mark.parametrize("name", ["lmaas-cost", "lmaas-remaining"])
def test_an_absurd_cost_counts_as_not_given(name: str, value: object) -> None:
    assert Headers.from_table({name: value}) == Headers()


@pytest.mark.parametrize("value", [*ABSURD_MOMENTS, 1.8e9], ids=repr)
@pytest.mark.parametrize("name", ["lmaas-deadline-ms", "lmaas-published-ms"])
def test_an_absurd_moment_counts_as_not_given(name: str, value: object) -> None:
    assert Headers.from_table({name: value}) == Headers()


@pytest.mark.parametrize("value", [value for value in ABSURD if value != "text"], ids=repr)
@pytest.mark.parametrize("name", ["lmaas-job", "lmaas-chunk", "traceparent"])
def test_an_absurd_place_counts_as_not_given(name: str, value: object) -> None:
    assert Headers.from_table({name: value}) == Headers()


@pytest.mark.parametrize("table", [None, {}, {"x-death": [{"count": 9}], "other": 1}])
def test_foreign_headers_do_not_matter(table: Mapping[str, Any] | None) -> None:
    assert Headers.from_table(table) == Headers()
