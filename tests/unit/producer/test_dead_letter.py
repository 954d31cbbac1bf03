"""What is said of a dead letter, whoever wrote it; which are meant; how it is sent again."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from unittest.mock import Mock

import aio_pika
import pamqp.encode
import pytest
from aio_pika import IncomingMessage
from aiormq.abc import DeliveredMessage
from hypothesis import given
from hypothesis import strategies as st
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from lmaas.broker_config.codes import Code
from lmaas.broker_config.headers import Headers
from lmaas.broker_config.messages import JSON, MSGPACK, REQUEST, Item, Request, encode
from lmaas.broker_config.settings import Settings
from lmaas.producer.dead_letter import Filter, Summary, again, describe, exported, lane_key

ID = "0123456789abcdef0123456789abcdef"
NOW = 1_700_000_000_000
PACK = Request(model="sentiment", items=[Item(id="a", text="good"), Item(id="b", text="bad")])


def arrived(
    body: bytes = encode(PACK), key: str = "sentiment.short", **properties: Any
) -> IncomingMessage:
    """As aio-pika hands it over."""
    message = aio_pika.Message(body, **properties)
    return IncomingMessage(
        DeliveredMessage(
            delivery=Basic.Deliver("consumer", 1, False, "dead", key),
            header=ContentHeader(0, len(body), message.properties),
            body=body,
            channel=Mock(),
        )
    )


def dead_lettered_by_a_worker(**changes: Any) -> IncomingMessage:
    """With all that a worker sets."""
    headers = Headers(
        attempt=5,
        deadline_ms=NOW - 1,
        cost=0.5,
        remaining=1.5,
        published_ms=NOW - 9,
        job="night",
        chunk=3,
        traceparent="00-trace-01",
        first_error="time_limit: 30 s",
        error=Code.POISON,
        reason="it ended its process",
        worker="w1",
        parked_ms=NOW,
        replays=1,
    )
    properties: dict[str, Any] = {
        "content_type": MSGPACK,
        "correlation_id": "night.3",
        "headers": headers.table(),
        "message_id": ID,
        "priority": 3,
        "reply_to": "results",
        "type": REQUEST,
    }
    return arrived(**properties | changes)


def test_all_that_a_worker_says_is_there() -> None:
    assert describe(dead_lettered_by_a_worker()) == Summary(
        id=ID,
        message_id=ID,
        model="sentiment",
        lane="short",
        error="poison",
        reason="it ended its process",
        first_error="time_limit: 30 s",
        worker="w1",
        attempts=5,
        items=2,
        job="night",
        chunk=3,
        parked_ms=NOW,
        replays=1,
    )


def test_what_the_broker_dead_lettered_has_the_brokers_reason_and_time() -> None:
    moment = datetime(2024, 1, 2, tzinfo=UTC)
    death = {"reason": "delivery_limit", "queue": "work", "time": moment, "count": 1}
    summary = describe(arrived(headers={"x-death": [death, {"reason": "older"}]}))
    assert (summary.error, summary.parked_ms) == ("delivery_limit", moment.timestamp() * 1000)
    assert summary.reason == "put here by the broker, from queue work"


@pytest.mark.parametrize("death", [None, 7, "x", [], [7], {}, [{}], [{"reason": 7, "time": "x"}]])
def test_a_death_that_makes_no_sense_is_none(death: Any) -> None:
    summary = describe(arrived(headers={"x-death": death}))
    assert (summary.error, summary.parked_ms) == (None, None)


@pytest.mark.parametrize(
    ("key", "lane"),
    [
        ("sentiment.short", "sentiment.short"),
        ("a.b.huge", "a.b.huge"),
        ("sentiment.short.any", "sentiment.short"),
        ("short", None),
        (".short", None),
        ("sentiment.any", None),
        ("", None),
        (None, None),
    ],
)
def test_the_lane_is_the_one_that_all_workers_share(key: str | None, lane: str | None) -> None:
    assert lane_key(key) == lane


def test_without_a_lane_the_model_is_the_bodys() -> None:
    summary = describe(arrived(encode(PACK, JSON), key="elsewhere"))
    assert (summary.model, summary.lane, summary.items) == ("sentiment", None, 2)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[]", b'{"items": 7}', b"[" * 100_000])
@pytest.mark.parametrize("content_type", [None, JSON, MSGPACK, "text/plain"])
def test_a_body_that_is_no_request_has_no_items(body: bytes, content_type: str | None) -> None:
    message = arrived(body, content_type=content_type)
    summary = describe(message)
    assert summary.items is None
    line = json.loads(exported(message, summary, Settings()))
    assert base64.b64decode(line["body_base64"]) == body


def test_more_than_a_worker_decodes_is_exported_as_it_was_sent() -> None:
    for settings in (Settings(max_pack_items=1), Settings(max_pack_bytes=10)):
        message = arrived(encode(PACK, JSON), content_type=JSON)
        line = json.loads(exported(message, describe(message), settings))
        assert base64.b64decode(line["body_base64"]) == message.body
        assert "body" not in line


# ----------------------------------------------------------------------------- ids


def test_what_has_no_id_gets_one_that_stays() -> None:
    one, same, other = (describe(arrived(body)) for body in (b"x", b"x", b"y"))
    assert one.id == same.id != other.id
    assert describe(arrived(b"x", correlation_id="c")).id != one.id
    assert describe(arrived(b"x", headers={"n": 1})).id != one.id


def test_an_id_that_may_be_there_twice_is_told_apart_and_names_both() -> None:
    one, other = (describe(arrived(body, message_id="1")) for body in (b"x", b"y"))
    assert len({one.id, other.id, "1"}) == 3
    for summary in (one, other):
        assert Filter(ids=frozenset({"1"})).matches(summary)
        assert Filter(ids=frozenset({summary.id})).matches(summary)
    assert not Filter(ids=frozenset({one.id})).matches(other)


def test_the_brokers_count_of_deliveries_does_not_change_an_id() -> None:
    ids = {describe(arrived(b"x", headers={"x-delivery-count": count})).id for count in range(3)}
    assert len(ids) == 1


# ----------------------------------------------------------------------------- filters


@pytest.mark.parametrize(
    ("given", "matches"),
    [
        ({}, True),
        ({"model": "sentiment", "error": "poison", "job": "night"}, True),
        ({"model": "other"}, False),
        ({"error": "time_limit"}, False),
        ({"job": "day"}, False),
        ({"ids": frozenset({ID, "x"})}, True),
        ({"ids": frozenset({"x"})}, False),
        ({"ids": frozenset({ID}), "model": "other"}, False),
        ({"after": NOW}, True),
        ({"after": NOW + 1}, False),
        ({"before": NOW}, False),
        ({"after": NOW, "before": NOW + 1}, True),
    ],
)
def test_a_filter_matches_when_all_that_is_given_holds(
    given: dict[str, Any], matches: bool
) -> None:
    wanted = Filter(**given)
    assert wanted.matches(describe(dead_lettered_by_a_worker())) is matches
    assert wanted.is_empty == (not given)


def test_what_has_no_time_is_in_no_range() -> None:
    timeless = describe(arrived())
    assert not Filter(after=1).matches(timeless)
    assert not Filter(before=NOW).matches(timeless)
    assert Filter().matches(timeless)


# ----------------------------------------------------------------------------- sent again


def test_a_replay_is_the_same_request_and_begins_anew() -> None:
    message = dead_lettered_by_a_worker()
    fresh = again(message, NOW + 5)
    assert fresh.body == message.body
    assert (fresh.content_type, fresh.correlation_id) == (MSGPACK, "night.3")
    assert (fresh.reply_to, fresh.priority, fresh.type) == ("results", 3, REQUEST)
    assert fresh.message_id not in {None, ID}
    assert fresh.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
    assert Headers.from_table(fresh.headers) == Headers(
        cost=0.5,
        remaining=1.5,
        published_ms=NOW + 5,
        job="night",
        chunk=3,
        traceparent="00-trace-01",
        replays=2,
    )


def test_of_the_headers_a_replay_has_ours_and_no_other() -> None:
    trace = {"traceparent": "00-a-b-01", "tracestate": "a=1", "baggage": "tenant=t"}
    foreign = {
        "tenant": "t",
        "x-tenant": ["u"],
        "x-death": [{"reason": "rejected"}],
        "x-delivery-count": 3,
        "CC": ["sentiment.long"],
        "BCC": ["sentiment.huge"],
        "deep": {"far": [1e300]},
    }
    fresh = again(arrived(headers=trace | foreign, user_id="somebody", expiration=5), NOW)
    assert fresh.headers == {
        **trace,
        "lmaas-published-ms": NOW,
        "lmaas-replays": 1,
        "lmaas-tenant": "somebody",  # whose message it was
    }
    assert (fresh.user_id, fresh.expiration) == (None, None)


def test_headers_that_our_library_cannot_send_are_not_sent() -> None:
    message = arrived()
    message.headers = {"far": 1e300, "lmaas-cost": 1e300, "lmaas-job": "x" * 130_000}
    headers = again(message, NOW).headers
    assert set(headers) == {"lmaas-cost", "lmaas-published-ms", "lmaas-replays"}
    assert len(pamqp.encode.field_table(headers)) < 200


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text()
    | st.binary().map(bytearray)
    | st.datetimes(timezones=st.just(UTC))
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.just(Decimal("1e300")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
_NAMES = st.sampled_from(
    ["lmaas-attempt", "lmaas-error", "lmaas-parked-ms", "lmaas-chunk", "lmaas-replays", "x-death"]
)


@given(
    body=st.binary(),
    key=st.text(),
    content_type=st.sampled_from([None, JSON, MSGPACK, "x"]) | st.text(),
    headers=st.dictionaries(_NAMES | st.text(), _VALUES),
    message_id=st.none() | st.text(),
)
def test_nothing_that_anybody_sends_is_too_strange(
    body: bytes, key: str, content_type: str | None, headers: dict[str, Any], message_id: str | None
) -> None:
    message = arrived(body, key, content_type=content_type, message_id=message_id)
    message.headers = headers
    summary = describe(message)
    assert describe(message) == summary
    assert json.loads(exported(message, summary, Settings()))["id"] == summary.id
    fresh = again(message, NOW)
    assert fresh.body == body
    pamqp.encode.field_table(fresh.headers)
    assert Headers.from_table(fresh.headers).attempt == 1
    Filter(ids=frozenset({"x"}), after=1).matches(summary)
