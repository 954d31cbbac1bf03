"""CloudEvents in and out, made and read by the `cloudevents` package, through a real broker."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings import http
from cloudevents.core.bindings.http import HTTPMessage
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from lmaas.producer.gateway import cloud_events
from tests.gateway.conftest import Gateway
from tests.gateway.test_jobs import ended

pytestmark = pytest.mark.usefixtures("worker")

GOOD = "a wonderful, moving film"
CALL = {"model": "sentiment", "items": [GOOD, {"id": "n", "text": 5}], "top_k": 2}
BATCH = "application/cloudevents-batch+json"


def event(data: Any, kind: str = "application/json", **attributes: str) -> CloudEvent:
    return CloudEvent(
        {
            "id": "e 1 ü%", "source": "/tests", "type": "review.written", "datacontenttype": kind,
            **attributes,
        },
        data,
    )  # fmt: skip


async def exchange(
    gateway: Gateway, message: HTTPMessage, query: str = ""
) -> tuple[int, BaseCloudEvent, str]:
    """Status, the event that came back, and its content type."""
    async with gateway.http.post(
        f"{gateway.url}/v1/events{query}", data=message.body, headers=message.headers
    ) as answer:
        body = await answer.read()
        assert answer.status == 200, body
        # The package knows the header Content-Type in small letters only.
        headers = {name.lower(): value for name, value in answer.headers.items()}
        back = http.from_http_event(HTTPMessage(headers, body))
        return answer.status, back, answer.content_type


def results_of(back: BaseCloudEvent) -> list[Any]:
    data = back.get_data()
    assert isinstance(data, dict)
    return [one.get("label") or one["error"]["code"] for one in data["results"]]


async def test_binary_mode(gateway: Gateway) -> None:
    message = http.to_binary_event(event(CALL))
    _, back, kind = await exchange(gateway, message)
    assert kind == "application/json"
    assert (back.get_type(), back.get_specversion()) == ("lmaas.classified", "1.0")
    assert back.get_extension("causationid") == "e 1 ü%"
    assert results_of(back) == ["positive", "invalid_item"]


async def test_structured_mode(gateway: Gateway) -> None:
    message = http.to_structured_event(event(CALL, subject="review/7", correlationid="c"))
    _, back, kind = await exchange(gateway, message)
    assert kind == cloud_events.STRUCTURED
    assert back.get_extension("causationid") == "e 1 ü%"
    assert back.get_extension("correlationid") == "c"
    assert back.get_subject() == "review/7"
    assert results_of(back) == ["positive", "invalid_item"]


async def test_an_event_that_comes_again_has_an_answer_of_the_same_id(gateway: Gateway) -> None:
    message = http.to_structured_event(event(CALL))
    (_, first, _), (_, second, _) = [await exchange(gateway, message) for _ in range(2)]
    assert first.get_id() == second.get_id()


@pytest.mark.parametrize("mode", ["binary", "structured"])
@pytest.mark.parametrize(
    ("data", "kind"),
    [(GOOD, "text/plain"), (GOOD, "application/json"), (GOOD.encode(), "application/octet-stream")],
)
async def test_a_text_alone_has_its_model_in_the_query_or_the_subject(
    gateway: Gateway, mode: str, data: Any, kind: str
) -> None:
    to = http.to_binary_event if mode == "binary" else http.to_structured_event
    if mode == "binary" and kind == "application/json":
        data = json.dumps(data)  # the package takes a str for what is JSON already
    _, back, _ = await exchange(gateway, to(event(data, kind)), "?model=sentiment")
    assert results_of(back) == ["positive"]
    _, back, _ = await exchange(gateway, to(event(data, kind, subject="sentiment")))
    assert results_of(back) == ["positive"]


@pytest.mark.parametrize(
    ("data", "query", "label"),
    [
        (GOOD, "?model=sentiment&min_score=1", "unsure"),
        (CALL | {"items": [GOOD], "min_score": 1.0}, "", "unsure"),
        (CALL | {"items": [GOOD], "min_score": 0}, "?min_score=1", "positive"),
    ],
)
async def test_below_a_score_it_is_not_sure(
    gateway: Gateway, data: Any, query: str, label: str
) -> None:
    _, back, _ = await exchange(gateway, http.to_structured_event(event(data)), query)
    assert results_of(back) == [label]


@pytest.mark.parametrize("mode", ["binary", "structured"])
async def test_what_takes_longer_than_one_waits_becomes_a_job(gateway: Gateway, mode: str) -> None:
    to = http.to_binary_event if mode == "binary" else http.to_structured_event
    message = to(event(CALL))
    for wanted in ("respond-async", "wait=0.000001"):
        async with gateway.http.post(
            f"{gateway.url}/v1/events",
            data=message.body,
            headers={**message.headers, "Prefer": wanted},
        ) as answer:
            body = await answer.read()
            assert answer.status == 202, body
            headers = {name.lower(): value for name, value in answer.headers.items()}
        back = http.from_http_event(HTTPMessage(headers, body))
        assert back.get_type() == "lmaas.accepted"
        assert back.get_extension("causationid") == "e 1 ü%"
        job = back.get_data()
        assert isinstance(job, dict)
        assert headers["location"] == job["links"]["self"] == f"/v1/jobs/{job['id']}"
        assert (await ended(gateway, job["id"]))["items"] == 2


async def test_events_of_a_batch_become_jobs(gateway: Gateway) -> None:
    batch = [written(event(CALL, id=name)) for name in "ab"]
    async with gateway.http.post(
        f"{gateway.url}/v1/events",
        data=json.dumps(batch),
        headers={"Content-Type": BATCH, "Prefer": "respond-async"},
    ) as answer:
        back = await answer.json(content_type=None)
        assert answer.status == 200
    assert [(one["causationid"], one["type"]) for one in back] == [
        ("a", "lmaas.accepted"),
        ("b", "lmaas.accepted"),
    ]
    assert len({one["data"]["id"] for one in back}) == 2


def written(one: CloudEvent) -> Any:
    body = JSONFormat().write(one)
    return json.loads(body)


async def test_a_batch_is_answered_event_by_event(gateway: Gateway) -> None:
    batch = [
        written(event(CALL)),
        {"id": "x", "source": "/tests", "specversion": "1.0"},
        7,
        {**written(event(CALL)), "id": "old", "specversion": "0.3"},
        written(event({"model": "nobody", "items": ["x"]}, id="n")),
        written(event({"model": "sentiment"}, id="d")),
        written(event("x", "text/plain", id="s", subject="sentiment")),
    ]
    async with gateway.http.post(
        f"{gateway.url}/v1/events", data=json.dumps(batch), headers={"Content-Type": BATCH}
    ) as answer:
        assert (answer.status, answer.content_type) == (200, BATCH)
        back = await answer.json(content_type=None)
    told = [
        (one.get("causationid"), one["type"], one["data"].get("error", {}).get("code"))
        for one in back
    ]
    assert told == [
        ("e 1 ü%", "lmaas.classified", None),
        (None, "lmaas.failed", "malformed"),
        (None, "lmaas.failed", "malformed"),
        (None, "lmaas.failed", "malformed"),
        ("n", "lmaas.failed", "unknown_model"),
        ("d", "lmaas.failed", "invalid"),
        ("s", "lmaas.classified", None),
    ]
    assert "event 1 of the batch" in back[1]["data"]["error"]["message"]


@pytest.mark.parametrize(
    ("headers", "body", "status", "code"),
    [
        ({"Content-Type": "application/json"}, b"{}", 415, "unsupported_media_type"),
        ({"Content-Type": cloud_events.STRUCTURED}, b"{}", 400, "malformed"),
        ({"Content-Type": cloud_events.STRUCTURED}, b"{", 400, "malformed"),
        ({"Content-Type": BATCH}, b"{}", 400, "malformed"),
        ({"Content-Type": "text/plain", "ce-id": "1"}, b"x", 400, "malformed"),
        (
            {"ce-id": "1", "ce-source": "s", "ce-type": "t", "ce-specversion": "1.0",
             "Content-Type": "text/plain"},
            b"x", 422, "invalid",
        ),
        (
            {"ce-id": "1", "ce-source": "s", "ce-type": "t", "ce-specversion": "1.0",
             "ce-subject": "sentiment", "Content-Type": "text/plain"},
            b"\xff\xfe", 422, "invalid",
        ),
        (
            {"ce-id": "1", "ce-source": "s", "ce-type": "t", "ce-specversion": "1.0",
             "Content-Type": "application/json"},
            b"", 422, "invalid",
        ),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_told(
    gateway: Gateway, headers: dict[str, str], body: bytes, status: int, code: str
) -> None:
    found, answer = await gateway.post("/v1/events", data=body, headers=headers)
    assert (found, answer["error"]["code"]) == (status, code)
