"""What goes over the wire: strict, and never harmed by what somebody else sent."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmaas.broker_config.codes import Code
from lmaas.broker_config.decoding import decode_request
from lmaas.broker_config.errors import MessageError
from lmaas.broker_config.messages import (
    DATATYPES,
    JSON,
    MSGPACK,
    Item,
    ItemError,
    Options,
    Reply,
    Request,
    Result,
    Tensor,
    Timings,
    decode_reply,
    encode,
    failed,
)

both_languages = pytest.mark.parametrize("language", [JSON, MSGPACK])
LIMIT = 1000


def read(body: bytes, language: str | None = JSON) -> tuple[Request, dict[int, ItemError]]:
    return decode_request(body, language, max_item_bytes=LIMIT, max_items=100)


def pack(language: str, *items: object, **fields: object) -> bytes:
    """A body as a stranger would write it, without our structures."""
    content = {"model": "m", "items": items, **fields}
    return json.dumps(content).encode() if language == JSON else msgspec.msgpack.encode(content)


def codes(faults: Mapping[int, ItemError]) -> dict[int, str]:
    return {position: fault.code for position, fault in faults.items()}


# ------------------------------------------------------------------ round trips

texts = st.text(st.characters(exclude_categories=["Cs"]))
errors = st.builds(ItemError, code=texts, message=texts)
tensors = st.builds(
    Tensor,
    shape=st.lists(st.integers(0, 2**31 - 1), max_size=8),
    datatype=texts | st.sampled_from(sorted(DATATYPES)),
    data=st.binary(max_size=50),
)
items = st.builds(
    Item,
    id=texts,
    text=st.none() | texts,
    text_pair=st.none() | texts,
    data=st.none() | st.binary(max_size=50),
    media_type=st.none() | texts,
    tensors=st.none() | st.dictionaries(texts.filter(bool), tensors, min_size=1, max_size=3),
    error=st.none() | errors,
)
requests = st.builds(
    Request,
    model=texts,
    items=st.lists(items, min_size=1, max_size=5),
    version=st.none() | texts,
    options=st.builds(Options, top_k=st.integers(0, 1000)),
)
scores = st.floats(0, 1)
results = st.builds(
    Result,
    id=texts,
    label=st.none() | texts,
    score=st.none() | scores,
    scores=st.none() | st.dictionaries(texts, scores, max_size=3),
    error=st.none() | errors,
)
replies = st.builds(
    Reply,
    model=texts,
    results=st.lists(results, max_size=5),
    version=st.none() | texts,
    worker=st.none() | texts,
    timings=st.none() | st.builds(Timings, waited=scores, ran=scores),
    error=st.none() | errors,
)


@both_languages
@given(request=requests)
def test_a_request_comes_back_as_it_was(language: str, request: Request) -> None:
    assert read(encode(request, language), language)[0] == request


@both_languages
@given(reply=replies)
def test_a_reply_comes_back_as_it_was(language: str, reply: Reply) -> None:
    assert decode_reply(encode(reply, language), language) == reply


# ----------------------------------------------------------------- any bytes

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)
#: Bodies that are nearly right, so that every part of the reader is reached; with lone surrogates.
wild = st.text("aé\ud800", max_size=3)
odd_tensors = st.fixed_dictionaries(
    {
        "shape": st.lists(st.integers(-1, 2) | st.integers(), max_size=3) | values,
        "datatype": st.sampled_from(sorted(DATATYPES)) | wild | values,
        "data": st.sampled_from(["", "AAAA", "AQAAAGE="]) | wild,
    }
)
odd_items = st.fixed_dictionaries(
    {"id": wild},
    optional={
        "text": wild | values,
        "text_pair": wild | values,
        "data": wild | values,
        "tensors": values | st.dictionaries(wild, odd_tensors | values, max_size=2),
        "error": st.fixed_dictionaries({"code": wild, "message": wild}) | values,
        "odd\udc80": values,
    },
)
nearly = st.fixed_dictionaries(
    {"model": wild, "items": st.lists(odd_items | values, max_size=3)},
    optional={"version": wild, "options": st.just({"top_k": 1}) | values},
)


def read_and_answer(body: bytes, language: str | None) -> None:
    """Either MessageError, or a request with errors; each of them can be sent back."""
    try:
        request, faults = read(body, language)
    except MessageError as error:
        refusal = ItemError(code=Code.MALFORMED, message=str(error))
        encode(Reply(model="", results=[], error=refusal), JSON)
        return
    assert all(0 <= position < len(request.items) for position in faults)
    for kind in (JSON, MSGPACK):
        echo = [Result(id=item.id) for item in request.items]
        echo += [Result(id="", error=fault) for fault in faults.values()]
        encode(Reply(model=request.model, version=request.version, results=echo), kind)


@given(st.binary(), st.sampled_from([JSON, MSGPACK, None, "", "text/plain"]))
def test_any_bytes_give_a_request_or_a_message_error(body: bytes, language: str | None) -> None:
    read_and_answer(body, language)


@given(st.binary(), st.sampled_from([JSON, MSGPACK]))
def test_any_bytes_give_a_reply_or_a_message_error(body: bytes, language: str) -> None:
    with contextlib.suppress(MessageError):
        decode_reply(body, language)


@given(nearly)
def test_any_json_can_be_answered(content: object) -> None:
    read_and_answer(json.dumps(content).encode(), JSON)


@given(nearly, st.integers(0, 60), st.binary(min_size=1, max_size=2))
def test_any_damage_can_be_answered(content: object, place: int, damage: bytes) -> None:
    for body, language in (
        (json.dumps(content).encode(), JSON),
        (msgspec.msgpack.encode(_without_surrogates(content)), MSGPACK),
    ):
        read_and_answer(body[:place] + damage + body[place + len(damage) :], language)


def _without_surrogates(content: object) -> Any:
    text = json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")
    return json.loads(text, parse_int=lambda digits: int(digits) % 2**63)


@pytest.mark.parametrize(
    ("body", "language"),
    [
        (b"[" * 60_000, JSON),
        (b'{"model": "m", "items": ' + b"[" * 60_000, JSON),
        (b"\x91" * 100_000, MSGPACK),
        (b'{"model": "m", "items": [{"id": ' + b"9" * 10_000 + b"}]", JSON),
        ("﻿{}".encode(), JSON),
        ('{"model": "m", "items": []}'.encode("utf-16"), JSON),
    ],
    ids=["deep", "deep-items", "deep-msgpack", "long-number", "mark", "utf-16"],
)
def test_hostile_bodies_are_message_errors(body: bytes, language: str) -> None:
    with pytest.raises(MessageError, match="not a request"):
        read(body, language)


# ------------------------------------------------------------- a pack as a whole


@both_languages
@pytest.mark.parametrize(
    "content",
    [
        {},
        {"model": "m"},
        {"items": [{"id": "1", "text": "a"}]},
        {"model": 1, "items": [{"id": "1", "text": "a"}]},
        {"model": "m", "items": {}},
        {"model": "m", "items": [{"id": "1", "text": "a"}], "modle": "x"},
        {"model": "m", "items": [{"id": "1", "text": "a"}], "options": {"top_j": 1}},
        {"model": "m", "items": [{"id": "1", "text": "a"}], "options": {"top_k": "1"}},
        [],
        "text",
        None,
    ],
)
def test_a_body_with_another_shape_is_refused(language: str, content: object) -> None:
    body = json.dumps(content).encode() if language == JSON else msgspec.msgpack.encode(content)
    with pytest.raises(MessageError, match="not a request"):
        read(body, language)


@both_languages
def test_a_pack_has_items_and_not_too_many(language: str) -> None:
    with pytest.raises(MessageError, match="no items"):
        read(pack(language), language)
    many = [{"id": str(number), "text": "a"} for number in range(101)]
    with pytest.raises(MessageError, match="items; the limit is 100"):
        read(pack(language, *many), language)
    request, faults = read(pack(language, *many[:100]), language)
    assert (len(request.items), faults) == (100, {})


@pytest.mark.parametrize(
    ("content_type", "language"),
    [
        (None, JSON),
        ("", JSON),
        ("application/json; charset=utf-8", JSON),
        ("Application/JSON", JSON),
        ("application/msgpack", MSGPACK),
    ],
)
def test_content_types(content_type: str | None, language: str) -> None:
    body = pack(language, {"id": "1", "text": "a"})
    assert read(body, content_type)[0].items == [Item(id="1", text="a")]


def test_an_unknown_content_type_is_refused() -> None:
    with pytest.raises(MessageError, match="'text/csv' is neither"):
        read(b"", "text/csv")
    with pytest.raises(MessageError, match="'text/csv' is neither"):
        decode_reply(b"", "text/csv")


@both_languages
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"\x90",
        b'{"model": "m"}',
        b'{"model": "caf\xe9", "results": []}',
        b"\x82\xa5model\xa1\xe9\xa7results\x90",
        b"[" * 100_000,
    ],
)
def test_what_is_no_reply_is_refused(language: str, body: bytes) -> None:
    with pytest.raises(MessageError, match="not a reply"):
        decode_reply(body, language)


# ------------------------------------------------------------- what is written


def test_a_refusal_is_every_items_result() -> None:
    error = ItemError(code=Code.UNKNOWN_MODEL, message="no model 'x'")
    assert failed([Item(id="1"), Item(id="2")], error) == [
        Result(id="1", error=error),
        Result(id="2", error=error),
    ]


def test_defaults_are_not_sent() -> None:
    assert json.loads(encode(Request(model="m", items=[Item(id="1", text="a")]), JSON)) == {
        "model": "m",
        "items": [{"id": "1", "text": "a"}],
    }
