"""Requests that no client library makes: each is refused as a fault of its sender, or done."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator

import pytest

from tests.gateway.conftest import Gateway
from tests.integration.lanes import LIMIT

CALL = b'{"model": "sentiment", "items": ["a wonderful, moving film"]}'
END = b"\r\n\r\n"
DEEP = b"[" * 10_000 + b"]" * 10_000
JSON = b"Content-Type: application/json"
FORM = b"Content-Type: multipart/form-data; boundary=x"
EVENTS = b"Content-Type: application/cloudevents-batch+json"
EVENT = b'{"specversion": "1.0", "id": "a", "source": "b", "type": "c", "data": %b}'


def post(path: bytes, body: bytes = CALL, *headers: bytes, version: bytes = b"1.1") -> bytes:
    """A request as it goes over the wire; JSON unless a header says otherwise."""
    kind = [] if any(header.lower().startswith(b"content-type") for header in headers) else [JSON]
    size = [] if any(header.startswith(b"Transfer") for header in headers) else [len(body)]
    lines = (
        b"POST %b HTTP/%b" % (path, version),
        b"Host: 127.0.0.1",
        b"Connection: close",
        *kind,
        *(b"Content-Length: %d" % one for one in size),
        *headers,
    )
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def get(path: bytes, *headers: bytes, method: bytes = b"GET") -> bytes:
    lines = (b"%b %b HTTP/1.1" % (method, path), b"Host: 127.0.0.1", b"Connection: close")
    return b"\r\n".join((*lines, *headers)) + b"\r\n\r\n"


def form(header: bytes, fields: dict[bytes, bytes]) -> bytes:
    """A file with this header, and fields."""
    parts = [b"--x\r\n" + header + b"\r\n\r\ntext\r\na film\r\n"]
    for name, value in fields.items():
        parts.append(b"--x\r\n%b\r\n\r\n%b\r\n" % (FIELD % name, value))
    return b"".join(parts) + b"--x--\r\n"


def called(path: bytes, **changes: bytes) -> bytes:
    """A call of which some values are others, each as JSON."""
    values = {"model": b'"sentiment"', "items": b'["a"]'} | changes
    inside = b", ".join(b'"%b": %b' % (name.encode(), value) for name, value in values.items())
    return post(path, b"{%b}" % inside)


FIELD = b'Content-Disposition: form-data; name="%b"'
NAMED = FIELD % b"file" + b'; filename="%b"'
PLACES = {b"/v1/jobs": {b"model": b"sentiment"}, b"/v1/files": {b"purpose": b"batch"}}


def _forms() -> Iterator[tuple[str, bytes, int]]:
    for path, fields in PLACES.items():
        done = 202 if path == b"/v1/jobs" else 200
        for kind, header, status in (
            ("a NUL", NAMED % b"a\0.csv", 400),
            ("a control character", NAMED % b"a\x01.csv", 400),
            ("a long line", b"X-A: " + b"a" * 50_000, 400),
            ("no colon", b"Content-Disposition", 400),
            ("a charset of 40 letters", FIELD % b"_charset_" + END + b"a" * 40, 400),
            ("a name that is no UTF-8", NAMED % b"\xff\xfe.csv", done),
        ):
            body = form(header, fields)
            yield f"form with {kind}, {path.decode()}", post(path, body, FORM), status


REQUESTS: dict[str, tuple[bytes, int]] = {
    "deep JSON": (post(b"/v1/classify", DEEP), 422),
    "deep items": (called(b"/v1/classify", items=DEEP), 400),
    "deep input": (called(b"/v1/classifications", input=DEEP), 400),
    "deep inputs": (post(b"/v2/models/sentiment/infer", b'{"inputs": %b}' % DEEP), 400),
    "deep events": (post(b"/v1/events", DEEP, EVENTS), 400),
    "top_k of 50 digits": (called(b"/v1/classify", top_k=b"9" * 50), 422),
    "top_k of 50 digits, job": (called(b"/v1/jobs", top_k=b"9" * 50), 422),
    "top_k of 5,000 digits": (called(b"/v1/classify", top_k=b"9" * 5_000), 422),
    "top_k of infinity": (called(b"/v1/classify", top_k=b"1e400"), 422),
    "timeout of infinity": (called(b"/v1/classify", timeout=b"1e400"), 422),
    "top_k in the query": (
        post(b"/v1/jobs?model=sentiment&top_k=" + b"9" * 30, b"a\n", b"Content-Type: text/plain"),
        422,
    ),
    "NUL in a text": (called(b"/v1/classify", items=b'["a\\u0000b"]'), 200),
    "NUL in the model": (called(b"/v1/classify", model=b'"a\\u0000b"'), 404),
    "lone surrogate": (called(b"/v1/classify", items=b'["\\ud800"]'), 400),
    "no UTF-8": (called(b"/v1/classify", items=b'["\xff"]'), 400),
    "no UTF-8, moderation": (called(b"/v1/moderations", input=b'"\xff"'), 400),
    "no UTF-8, classification": (called(b"/v1/classifications", input=b'["\xff"]'), 400),
    "key that is no UTF-8": (post(b"/v1/classify", CALL, b"Idempotency-Key: \xff\xfe"), 400),
    "key that is no UTF-8, job": (post(b"/v1/jobs", CALL, b"Idempotency-Key: \xff\xfe"), 400),
    "duplicate keys": (called(b"/v1/classify", items=b'["a"], "items": ["b", "c"]'), 200),
    "model of 300 letters": (get(b"/v1/models/" + b"m" * 300), 404),
    "model of 300 letters, metadata": (get(b"/v2/models/" + b"m" * 300), 404),
    "model of 300 letters, call": (called(b"/v1/classify", model=b'"%b"' % (b"m" * 300)), 404),
    "header of 100,000 bytes": (post(b"/v1/classify", CALL, b"X-A: " + b"a" * 100_000), 400),
    "2,000 headers": (post(b"/v1/classify", CALL, *(b"X-%d: a" % n for n in range(2_000))), 400),
    "two Content-Lengths": (post(b"/v1/classify", CALL, b"Content-Length: 3"), 400),
    "chunk of a wrong size": (
        post(b"/v1/classify", b"5\r\n%b\r\n0\r\n\r\n" % CALL, b"Transfer-Encoding: chunked"),
        400,
    ),
    "HTTP/1.0": (post(b"/v1/classify", version=b"1.0"), 200),
    "no gzip": (post(b"/v1/classify", CALL, b"Content-Encoding: gzip"), 400),
    "unknown expectation": (post(b"/v1/classify", CALL, b"Expect: a-wonder"), 417),
    "unknown method": (get(b"/v1/jobs", method=b"PROPFIND"), 405),
    "method that there is not": (get(b"/v1/jobs", method=b"CLASSIFY"), 400),
    "way out": (get(b"/assets/../../../../etc/passwd"), 404),
    "way out, encoded": (get(b"/assets/..%2f..%2f..%2fetc%2fpasswd"), 404),
    "encoded slash in an id": (get(b"/v1/jobs/a%2fb"), 404),
    "NUL in an id": (get(b"/v1/jobs/%00"), 404),
    "no UTF-8 in an id": (get(b"/v1/jobs/%ff"), 404),
    "range behind the end": (get(b"/docs", b"Range: bytes=999999999-"), 416),
    "odd Accept": (get(b"/v1/jobs", b"Accept: ,;q=abc,a/b;q=1e400"), 200),
    **{name: (request, status) for name, request, status in _forms()},
}


async def answer_to(gateway: Gateway, request: bytes) -> tuple[int, bytes]:
    """The status, and all that came."""
    host, port = gateway.url.removeprefix("http://").split(":")
    async with asyncio.timeout(LIMIT):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(request)
        answer = await reader.read()
        writer.close()
    return int(answer.split(b" ", 2)[1]), answer


@pytest.mark.usefixtures("worker")
async def test_each_is_refused_or_done(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    """No answer is a bug's, none is missing, and whoever comes afterwards is served.

    The log has no errors: a stranger could fill it.
    """
    wrong = []
    for name, (request, expected) in REQUESTS.items():
        status, answer = await answer_to(gateway, request)
        if status != expected:
            wrong.append(f"{name}: {status}, not {expected}: {answer.partition(END)[2][:200]!r}")
    assert not wrong, "\n".join(wrong)
    status, answer = await gateway.post("/v1/classify", json=json.loads(CALL))
    assert (status, answer["results"][0]["label"]) == (200, "positive")
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "a request is malformed: 400, message: Too many headers received" in caplog.messages


@pytest.mark.usefixtures("worker")
async def test_who_waits_to_be_told_to_go_on_is_told(gateway: Gateway) -> None:
    status, answer = await answer_to(gateway, post(b"/v1/classify", CALL, b"Expect: 100-continue"))
    assert status == 100
    assert b"HTTP/1.1 200 OK" in answer


async def test_what_has_no_text_in_utf_8_is_stored_under_a_name_that_has(gateway: Gateway) -> None:
    body = form(NAMED % b"\xff.jsonl", {b"purpose": b"batch"})
    _, answer = await answer_to(gateway, post(b"/v1/files", body, FORM))
    assert json.loads(answer.partition(END)[2])["filename"] == "?.jsonl"
