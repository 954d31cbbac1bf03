"""Forms (multipart/form-data): calls whose items are fields and files; parts that are encoded."""

from __future__ import annotations

import io
from typing import Any

import aiohttp
import msgspec
import pytest

from lmaas.broker_config.settings import Settings
from lmaas.producer.gateway import openapi
from lmaas.producer.gateway.app import ROUTES
from lmaas.producer.gateway.forms import FIELDS
from lmaas.producer.gateway.settings import GatewaySettings
from tests.gateway.conftest import Gateway, listening
from tests.gateway.test_jobs import ended, results
from tests.integration.lanes import serving
from tests.integration.test_kinds import installed, letters

__all__ = ["installed", "letters"]

GOOD = "a wonderful, moving film"
BAD = "dull and awful, a waste of time"
PATH = "/v1/classify"
LETTERS = "text/letters"

#: Name, value and what `FormData.add_field` takes besides.
Content = str | bytes | io.BytesIO
Part = tuple[str, Content] | tuple[str, Content, dict[str, Any]]


def form(*parts: Part) -> aiohttp.FormData:
    """In this order, which clients keep."""
    made = aiohttp.FormData(default_to_multipart=True)
    for name, value, *options in parts:
        made.add_field(name, value, **(options[0] if options else {}))
    return made


def file(name: str, media_type: str) -> dict[str, Any]:
    return {"filename": name, "content_type": media_type}


def raw(*parts: bytes, end: bytes = b"--x--\r\n") -> dict[str, Any]:
    """As it goes over the wire: each part with its headers."""
    data = b"".join(b"--x\r\nContent-Disposition: form-data; " + part + b"\r\n" for part in parts)
    return {"data": data + end, "headers": {"Content-Type": "multipart/form-data; boundary=x"}}


MODEL = b'name="model"\r\n\r\nsentiment'
A_TEXT = b'name="text"\r\n\r\na wonderful, moving film'


def found(answer: Any) -> list[tuple[str, str]]:
    """Id, and label or code."""
    return [(one["id"], one.get("label") or one["error"]["code"]) for one in answer["results"]]


async def test_a_model_of_bytes_and_pairs(
    gateway_settings: GatewaySettings, letters: Settings
) -> None:
    async with serving(letters), listening(gateway_settings, letters) as gateway:
        status, answer = await gateway.post(
            PATH,
            data=form(
                ("file", b"aaab", file("first.bin", LETTERS)),
                ("model", "letters"),
                ("any name", b"\xffabbb", file("second.bin", LETTERS)),
                ("id", "named"),
                ("file", b"a", file("third.bin", f"{LETTERS.upper()}; level=1")),
                ("text", "aa"),
                ("text_pair", "ab"),
                ("file", b"b", file("unknown.png", "image/png")),
                ("file", b"bbb", file("", LETTERS)),
                ("version", "1"),
                ("top_k", "1"),
            ),
        )
        assert status == 200, answer
        assert found(answer) == [
            ("first.bin", "a"),
            ("second.bin", "b"),
            ("named", "a"),
            ("3", "a"),
            ("unknown.png", "invalid_item"),
            ("5", "b"),
        ]
        assert answer["results"][0]["scores"] == {"a": 0.75}


@pytest.mark.usefixtures("worker")
async def test_a_model_of_texts(gateway: Gateway) -> None:
    status, answer = await gateway.post(
        PATH,
        data=form(
            ("model", "sentiment"),
            ("text", GOOD),
            ("file", b"\x89PNG", file("cat.png", "image/png")),
            ("file", BAD, file("bad.txt", "text/plain")),
            ("id", "empty"),
            ("text", ""),
            ("text", b"\xff\xfe", file("", "text/plain")),
            ("file", b"\xef\xbb\xbf" + GOOD.encode(), file("marked.txt", "text/plain")),
            ("text", f"{GOOD}, caf\u00e9".encode("cp1252"),
             file("", "text/plain; charset=windows-1252")),
            ("text", GOOD, {"content_type": "text/plain; charset=punycode"}),
            ("text", GOOD),
            ("text_pair", BAD),
            ("text", GOOD),
        ),
    )  # fmt: skip
    assert status == 200, answer
    assert found(answer) == [
        ("0", "positive"),
        ("cat.png", "not_text"),
        ("bad.txt", "negative"),
        ("empty", "empty_text"),
        ("4", "invalid_utf8"),
        ("marked.txt", "positive"),
        ("6", "positive"),
        ("7", "invalid_item"),
        ("8", "invalid_item"),
        ("9", "positive"),
    ]
    assert "punycode" in answer["results"][7]["error"]["message"]
    _, same = await gateway.post(PATH, json={"model": "sentiment", "items": [GOOD]})
    assert same["results"][0]["score"] == answer["results"][5]["score"]


@pytest.mark.usefixtures("worker")
async def test_many_items_of_a_form_are_answered_in_their_order(
    gateway: Gateway, texts: list[str]
) -> None:
    some = texts[:200]
    fields: list[Part] = [("text", text) for text in some]
    status, answer = await gateway.post(PATH, data=form(("model", "sentiment"), *fields))
    _, expected = await gateway.post(PATH, json={"model": "sentiment", "items": some})
    assert status == 200
    assert answer == expected


@pytest.mark.usefixtures("worker")
async def test_what_forms_share_with_json(gateway: Gateway) -> None:
    """Jobs, and requests that are sent again, with another boundary."""

    def call(text: str) -> aiohttp.FormData:
        return form(("model", "sentiment"), ("id", "a"), ("text", text))

    headers = {"Prefer": "respond-async"}
    status, job = await gateway.post(PATH, data=call(GOOD), headers=headers)
    assert status == 202
    await ended(gateway, job["id"])
    assert [line["label"] for line in await results(gateway, job["id"])] == ["positive"]
    headers = headers | {"Idempotency-Key": "k"}
    first, again = [await gateway.post(PATH, data=call(GOOD), headers=headers) for _ in range(2)]
    assert first[0] == again[0] == 202
    assert first[1]["id"] == again[1]["id"] != job["id"]
    status, answer = await gateway.post(PATH, data=call(BAD), headers=headers)
    assert (status, answer["error"]["code"]) == (422, "idempotency_key_reused")


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ([("model", "sentiment")], 422, "no item"),
        ([("text", GOOD)], 422, "missing required field `model`"),
        ([("model", "sentiment"), ("items", GOOD), ("text", GOOD)], 422, "items are fields `text`"),
        ([("model", "sentiment"), ("top_k", "many"), ("text", GOOD)], 422, "top_k"),
        ([("model", "sentiment"), ("top_k", "9" * 30), ("text", GOOD)], 422, "top_k"),
        ([("model", "sentiment"), ("timeout", "nan"), ("text", GOOD)], 422, "timeout"),
        ([("model", "sentiment"), ("model", "x"), ("text", GOOD)], 422, "two fields 'model'"),
        ([("model", "sentiment"), ("id", "a"), ("id", "b"), ("text", GOOD)], 422, "`id` 'a'"),
        ([("model", "sentiment"), ("text", GOOD), ("id", "a")], 422, "`id` 'a'"),
        ([("model", "sentiment"), ("text_pair", GOOD)], 422, "follows no text"),
        ([("text", GOOD), ("text_pair", GOOD), ("text_pair", GOOD)], 422, "follows no text"),
        ([("text", GOOD), ("text_pair", GOOD, file("a.txt", "text/plain"))], 422, "file name"),
        ([("model", "m" * 65 * 1024), ("text", GOOD)], 413, "field 'model' is larger"),
        ([(f"f{place}", "") for place in range(FIELDS + 1)], 413, f"more than {FIELDS} fields"),
        ([("model", "nobody"), ("text", GOOD)], 404, "nobody"),
    ],
)
async def test_a_form_that_is_no_call_is_told(
    gateway: Gateway, fields: list[Part], status: int, words: str
) -> None:
    seen, answer = await gateway.post(PATH, data=form(*fields))
    assert seen == status, answer
    assert words in answer["error"]["message"]


@pytest.mark.usefixtures("worker")
async def test_limits_of_a_form_are_those_of_json(
    gateway_settings: GatewaySettings, settings: Settings
) -> None:
    small = msgspec.structs.replace(gateway_settings, max_body_bytes=2000, max_call_items=3)
    engine = msgspec.structs.replace(settings, max_item_bytes=100, max_data_bytes=100)
    model: Part = ("model", "sentiment")
    async with listening(small, engine) as gateway:
        status, answer = await gateway.post(
            PATH,
            data=form(
                model, ("text", "x" * 101), ("file", b"x" * 101, file("a", LETTERS)), ("text", GOOD)
            ),
        )
        assert status == 200
        assert [code for _, code in found(answer)] == ["too_large", "too_large", "positive"]
        status, answer = await gateway.post(PATH, data=form(model, *[("text", "x")] * 4))
        assert (status, answer["error"]["code"]) == (413, "too_many_items")
        long_head = b'name="f"\r\nX-A: ' + b"a" * 1900 + b"\r\n\r\nx"
        for large in (
            {"data": form(model, ("text", "x" * 2000))},
            {"data": form(model, ("file", b"x" * 1_000_000, file("a", LETTERS)))},
            raw(MODEL, long_head, A_TEXT),
        ):
            status, answer = await gateway.post(PATH, **large)
            assert (status, answer["error"]["code"]) == (413, "too_large"), answer
            assert "gateway.max_body_bytes" in answer["error"]["message"]
        status, answer = await gateway.post(PATH, data=b"x", headers={"Content-Type": "text/csv"})
        assert (status, answer["error"]["code"]) == (415, "unsupported_media_type")
        assert "multipart/form-data" in answer["error"]["message"]


#: Route -> the parts that make a form of it a good one.
FORMS = {
    PATH: [MODEL, A_TEXT],
    "/v1/jobs": [MODEL, b'name="file"; filename="a.txt"\r\n\r\n' + GOOD.encode()],
    "/v1/files": [b'name="purpose"\r\n\r\nbatch', b'name="file"; filename="a"\r\n\r\n{}'],
}


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("path", FORMS)
async def test_parts_that_are_encoded_are_refused(gateway: Gateway, path: str) -> None:
    parts = FORMS[path]
    status, answer = await gateway.post(path, **raw(*parts))
    assert status in {200, 202}, answer
    for header in (
        b"Content-Encoding: gzip",
        b"content-encoding: \xff",
        b"Content-Transfer-Encoding: base64",
    ):
        for place in range(len(parts)):
            changed = [*parts]
            changed[place] = parts[place].replace(b"\r\n\r\n", b"\r\n" + header + b"\r\n\r\n")
            status, answer = await gateway.post(path, **raw(*changed))
            assert status == 415, answer
            message = answer["error"]["message"]
            assert header.decode(errors="replace").partition(":")[0].lower() in message.lower()
    for header in (b"Content-Encoding: identity", b"Content-Transfer-Encoding: 8BIT"):
        changed = [part.replace(b"\r\n\r\n", b"\r\n" + header + b"\r\n\r\n") for part in parts]
        status, answer = await gateway.post(path, **raw(*changed))
        assert status in {200, 202}, answer
    whole = raw(*parts)
    whole["headers"] |= {"Content-Encoding": "br"}
    assert (await gateway.post(path, **whole))[0] == 415


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("path", FORMS)
async def test_forms_that_are_broken_are_their_senders_fault(gateway: Gateway, path: str) -> None:
    parts = FORMS[path]
    for broken in (
        raw(*parts, end=b""),
        raw(*parts[:-1], parts[-1] + b"x", end=b""),
        raw(*parts, end=b"--y--\r\n"),
        raw(*parts, b'name="f"\r\nX-A: ' + b"a" * 9000 + b"\r\n\r\nx"),
        raw(*parts, b'name="f"\r\n' + b"X-A: a\r\n" * 200 + b"\r\nx"),
        raw(*parts, b'name="f"\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y--'),
    ):
        status, answer = await gateway.post(path, **broken)
        assert status == 400, answer


def test_the_document_has_the_form() -> None:
    document = openapi.document(ROUTES)
    content = document["paths"][PATH]["post"]["requestBody"]["content"]
    assert set(content) == {"application/json", "multipart/form-data"}
    (name,) = content["multipart/form-data"]["schema"].values()
    schema = document["components"]["schemas"][name.rpartition("/")[2]]
    fields = {
        "model",
        "version",
        "top_k",
        "min_score",
        "timeout",
        "id",
        "text",
        "text_pair",
        "file",
    }
    assert set(schema["properties"]) == fields
    assert schema["required"] == ["model"]
