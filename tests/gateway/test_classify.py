"""`POST /v1/classify` and `GET /v1/models`, over HTTP, through a real broker."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import zlib

import msgspec
import pytest

from lmaas.broker_config.settings import Settings
from lmaas.producer.client import Client
from lmaas.producer.gateway.settings import GatewaySettings
from tests.gateway.conftest import Gateway, listening

pytestmark = pytest.mark.usefixtures("worker")

GOOD = "a wonderful, moving film"
BAD = "dull and awful, a waste of time"


async def test_a_text_gets_its_label(gateway: Gateway) -> None:
    status, answer = await gateway.post(
        "/v1/classify", json={"model": "sentiment", "items": [GOOD]}
    )
    assert status == 200
    assert answer["model"] == "sentiment"
    assert answer["results"][0]["id"] == "0"
    assert answer["results"][0]["label"] == "positive"


async def test_curl_needs_no_content_type(gateway: Gateway) -> None:
    status, answer = await gateway.post(
        "/v1/classify",
        data=b'{"model": "sentiment", "items": ["%s"]}' % GOOD.encode(),
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert (status, answer["results"][0]["label"]) == (200, "positive")


async def test_items_have_ids_and_errors_of_their_own(gateway: Gateway) -> None:
    items = [
        {"id": "a", "text": GOOD},
        "",
        {"text": BAD},
        {"id": "n", "text": 5},
        {"id": "u", "txt": "x"},
        7,
    ]
    status, answer = await gateway.post("/v1/classify", json={"model": "sentiment", "items": items})
    assert status == 200
    found = [(one["id"], one.get("label") or one["error"]["code"]) for one in answer["results"]]
    assert found == [
        ("a", "positive"),
        ("1", "empty_text"),
        ("2", "negative"),
        ("n", "invalid_item"),
        ("u", "invalid_item"),
        ("5", "invalid_item"),
    ]


async def test_an_item_of_a_kind_that_the_model_does_not_take_has_an_error(
    gateway: Gateway,
) -> None:
    items = [
        {"id": "pair", "text": GOOD, "text_pair": BAD},
        {"id": "bytes", "data": "aGVsbG8=", "media_type": "image/png"},
        {"id": "both", "text": GOOD, "data": "aGVsbG8="},
        {"id": "none"},
        {"id": "ill", "data": "not base64!"},
        GOOD,
    ]
    status, answer = await gateway.post("/v1/classify", json={"model": "sentiment", "items": items})
    assert status == 200
    found = [(one["id"], one.get("label") or one["error"]["code"]) for one in answer["results"]]
    assert found == [
        ("pair", "invalid_item"),
        ("bytes", "not_text"),
        ("both", "invalid_item"),
        ("none", "not_text"),
        ("ill", "invalid_item"),
        ("5", "positive"),
    ]


async def test_many_items_are_answered_as_in_the_queue(
    gateway: Gateway, client: Client, texts: list[str]
) -> None:
    some = texts[:1000]
    body = {"model": "sentiment", "items": some, "top_k": 2, "min_score": 0.9}
    status, answer = await gateway.post("/v1/classify", json=body)
    many = client.classify_many("sentiment", some, top_k=2, min_score=0.9)
    expected = [result async for result in many]
    assert {"unsure", "positive", "negative"} == {result.label for result in expected}
    assert status == 200
    assert answer["results"] == msgspec.to_builtins(expected)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "malformed"),
        (b"{", 400, "malformed"),
        (b"\xff", 400, "malformed"),
        (b"[" * 100_000, 422, "invalid"),
        (b"{}", 422, "invalid"),
        (b'{"model": "sentiment"}', 422, "invalid"),
        (b'{"model": "sentiment", "items": []}', 422, "invalid"),
        (b'{"model": "sentiment", "items": "x"}', 422, "invalid"),
        (b'{"model": "sentiment", "items": ["x"], "top": 1}', 422, "invalid"),
        (b'{"model": "sentiment", "items": ["x"], "top_k": -1}', 422, "invalid"),
        (b'{"model": "sentiment", "items": ["x"], "min_score": 2}', 422, "invalid"),
        (b'{"model": "sentiment", "items": ["x"], "timeout": 0}', 422, "invalid"),
        (b'{"model": "nobody", "items": ["x"]}', 404, "unknown_model"),
        (b'{"model": "a/b", "items": ["x"]}', 404, "unknown_model"),
        (b'{"model": "sentiment", "version": "9", "items": ["x"]}', 404, "unknown_version"),
    ],
)
async def test_a_bad_call_is_told(gateway: Gateway, body: bytes, status: int, code: str) -> None:
    found, answer = await gateway.post("/v1/classify", data=body)
    assert (found, answer["error"]["code"]) == (status, code)
    assert answer["error"]["message"]


async def test_limits_are_told(gateway_settings: GatewaySettings, settings: Settings) -> None:
    small = msgspec.structs.replace(gateway_settings, max_body_bytes=1000, max_call_items=3)
    async with listening(small, settings) as gateway:
        call = {"model": "sentiment", "items": ["x" * 1000]}
        status, answer = await gateway.post("/v1/classify", json=call)
        assert (status, answer["error"]["code"]) == (413, "too_large")
        call["items"] = ["x"] * 4
        status, answer = await gateway.post("/v1/classify", json=call)
        assert (status, answer["error"]["code"]) == (413, "too_many_items")
        status, answer = await gateway.post(
            "/v1/classify", data=b"x", headers={"Content-Type": "image/png"}
        )
        assert (status, answer["error"]["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("item", ["0", '""', "[]", '{"text": 1}'])
async def test_more_items_than_a_call_may_have_are_not_decoded(gateway: Gateway, item: str) -> None:
    """A body of 15 MB would be millions of them."""
    items = ",".join([item] * (15_000_000 // (len(item) + 1)))
    body = f'{{"model": "sentiment", "items": [{items}]}}'.encode()
    for path in ("/v1/classify", "/v1/jobs"):
        status, answer = await gateway.post(path, data=io.BytesIO(body))
        assert (status, answer["error"]["code"]) == (413, "too_many_items"), path


async def test_what_separates_values_may_be_in_a_text(gateway: Gateway) -> None:
    call = {"model": "sentiment", "items": ['",[{' * 100_000, "x"]}
    status, answer = await gateway.post("/v1/classify", json=call)
    assert (status, len(answer["results"])) == (200, 2)


async def test_bodies_may_be_compressed(
    gateway_settings: GatewaySettings, settings: Settings
) -> None:
    """The limit counts what they become."""
    small = msgspec.structs.replace(gateway_settings, max_body_bytes=1000)
    good = json.dumps({"model": "sentiment", "items": [GOOD]}).encode()
    async with listening(small, settings) as gateway:
        for encoding, body, status in (
            ("gzip", gzip.compress(good), 200),
            ("deflate", zlib.compress(good), 200),
            ("gzip", gzip.compress(good + b" " * 1000), 413),
            ("gzip", good, 400),
            ("compress", good, 415),
        ):
            found, answer = await gateway.post(
                "/v1/classify", data=body, headers={"Content-Encoding": encoding}
            )
            assert found == status, (encoding, answer)


async def test_what_is_not_there_is_json_too(gateway: Gateway) -> None:
    status, answer = await gateway.get("/v3/nothing")
    assert (status, answer["error"]["code"]) == (404, "not_found")
    assert "openapi.json" in answer["error"]["message"]
    async with gateway.http.delete(gateway.url + "/v1/classify") as response:
        assert (response.status, response.headers["Allow"]) == (405, "POST")
        error = (await response.json())["error"]
    assert error["code"] == "method_not_allowed"
    assert error["message"] == "DELETE is not possible here; POST is"


async def test_pages_of_others_may_not_call(gateway: Gateway) -> None:
    call = {"model": "sentiment", "items": [GOOD]}
    for headers in (
        {"Host": "evil.example"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ):
        status, answer = await gateway.post("/v1/classify", json=call, headers=headers)
        assert status == 403, headers
        assert answer["error"]["code"].endswith("_not_allowed")
    status, _ = await gateway.post("/v1/classify", json=call, headers={"Origin": gateway.url})
    assert status == 200


async def test_a_version_that_there_is_not_leaves_no_dead_letter(gateway: Gateway) -> None:
    call = {"model": "sentiment", "version": "99", "items": [GOOD]}
    event = {"specversion": "1.0", "id": "e", "source": "/t", "type": "t", "data": call}
    structured = {"Content-Type": "application/cloudevents+json"}
    for status, answer in [
        await gateway.post("/v1/classify", json=call),
        await gateway.post("/v1/classify", json=call, headers={"Prefer": "respond-async"}),
        await gateway.post("/v1/jobs", json=call),
        await gateway.post("/v1/events", json=event, headers=structured),
    ]:
        assert (status, answer["error"]["code"]) == (404, "unknown_version")
        assert "it has 1" in answer["error"]["message"]
    status, answer = await gateway.post("/v1/classify", json=call | {"version": "1"})
    assert (status, answer["results"][0]["label"]) == (200, "positive")
    _, found = await gateway.get("/v1/dead-letters")
    assert found["dead_letters"] == []
    assert (await gateway.get("/v1/jobs"))[1]["jobs"] == []


async def test_the_models_are_told(gateway: Gateway) -> None:
    status, answer = await gateway.get("/v1/models")
    assert status == 200
    assert [card["model"] for card in answer["models"]] == ["sentiment"]
    status, card = await gateway.get("/v1/models/sentiment")
    assert (status, card["labels"]) == (200, ["negative", "positive"])
    status, answer = await gateway.get("/v1/models/nobody")
    assert (status, answer["error"]["code"]) == (404, "unknown_model")


async def test_health_and_metrics(gateway: Gateway) -> None:
    assert (await gateway.get("/health/ready"))[0] == 200
    await gateway.post("/v1/classify", json={"model": "sentiment", "items": [GOOD]})
    async with gateway.http.get(gateway.url + "/metrics") as answer:
        told = await answer.text()
    counted = 'lmaas_http_requests_total{method="POST",route="/v1/classify",status="200"}'
    assert counted in told
    assert "lmaas_ready 1.0" in told


async def test_each_request_is_told_in_the_log_without_its_body(
    gateway_settings: GatewaySettings, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "lmaas")
    telling = msgspec.structs.replace(gateway_settings, access_log=True)
    async with listening(telling, settings) as gateway:
        trace = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}
        call = {"model": "sentiment", "items": [GOOD]}
        await gateway.post("/v1/classify?secret=1", json=call, headers=trace)
    (told,) = [one for one in caplog.records if getattr(one, "action", "") == "http_request"]
    assert told.getMessage() == "POST /v1/classify 200"
    assert told.__dict__["trace"] == "ab" * 16
    assert GOOD not in caplog.text


async def test_many_callers_share_messages(gateway: Gateway) -> None:
    call = {"model": "sentiment", "items": [GOOD]}
    answers = await asyncio.gather(*(gateway.post("/v1/classify", json=call) for _ in range(200)))
    assert {status for status, _ in answers} == {200}
