"""What anybody may send is refused before it costs anything, whatever else is in it."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import msgspec
import pytest

from lmaas.broker_config.codes import Code
from lmaas.broker_config.decoding import (
    COUNTED,
    SMALL,
    Decoded,
    decode_at_once,
    decode_request,
)
from lmaas.broker_config.errors import MessageError
from lmaas.broker_config.messages import JSON, MSGPACK, Item, Options, Request, Tensor, encode

MAX_ITEMS = 4_096
MIB = 2**20
#: Bytes that the decoding of 1 MiB may need, with whatever it makes of it.
MAY_NEED = 12 * MIB

both_languages = pytest.mark.parametrize("language", [JSON, MSGPACK])


def decoded(body: bytes, language: str, **limits: int) -> Decoded:
    return decode_request(
        body, language, **({"max_item_bytes": MIB, "max_items": MAX_ITEMS} | limits)
    )


def request_of(items: Any, language: str) -> bytes:
    content = {"model": "m", "items": items}
    if language == MSGPACK:
        return msgspec.msgpack.encode(content)
    return json.dumps(content, separators=(",", ":")).encode()


def packed(items: bytes) -> bytes:
    """A request in MessagePack whose items are these bytes."""
    return b"\x82\xa5model\xa1m\xa5items" + items


def js(items: bytes) -> bytes:
    return b'{"model":"m","items":' + items + b"}"


CROWDS = {
    "numbers": request_of([0] * MIB, MSGPACK),
    "numbers in JSON": request_of([0] * (MIB // 2), JSON),
    "items": request_of([{"id": ""}] * (MIB // 5), MSGPACK),
    "items in JSON": request_of([{"id": ""}] * (MIB // 10), JSON),
    "lists": request_of([[]] * MIB, MSGPACK),
    "lists in JSON": request_of([[]] * (MIB // 3), JSON),
    "tables in JSON": request_of([{}] * (MIB // 3), JSON),
    "texts in JSON": js(b"[" + b'"",' * (MIB // 3) + b"0]"),
    "texts without commas": js(b"[" + b'""' * (MIB // 2) + b"]"),
    "escapes that do not end": js(b'["' + b'\\"' * (MIB // 2)),
    "one item of many numbers": js(b'[{"id":[' + b"0," * (MIB // 2) + b"0]}]"),
    "one item of many tensors in JSON": js(
        b'[{"id":"","tensors":{'
        + b'"":{"shape":[],"datatype":"","data":""},' * (MIB // 40)
        + b'"":0}}]'
    ),
    "deep": packed(b"\x91" * MIB),
    "deep in JSON": js(b"[" * MIB),
    "items twice": b"\x83"
    + packed(request_of([{"id": ""}] * (MIB // 5), MSGPACK)[15:])[1:]
    + b"\xa5items\x91\x81\xa2id\xa0",
    "claims": packed(b"\xdd" + b"\xff" * 4),
}


@pytest.mark.parametrize("kind", CROWDS)
def test_a_body_of_a_million_parts_is_refused_before_it_needs_memory(kind: str) -> None:
    body = CROWDS[kind]
    language = JSON if body.startswith(b"{") else MSGPACK
    tracemalloc.start()
    try:
        with pytest.raises(MessageError) as told:
            decoded(body, language)
        assert tracemalloc.get_traced_memory()[1] < MAY_NEED
    finally:
        tracemalloc.stop()
    assert len(str(told.value)) < 1_200


@both_languages
def test_a_tensor_has_a_bounded_rank(language: str) -> None:
    tensor = {"shape": [70_000] * (MIB // 5), "datatype": "FP32", "data": ""}
    if language == JSON:
        with pytest.raises(MessageError, match="more parts than 4,096 items have"):
            decoded(request_of([{"id": "t", "tensors": {"x": tensor}}], language), language)
    else:
        _, faults = decoded(request_of([{"id": "t", "tensors": {"x": tensor}}], language), language)
        assert faults[0].code == Code.INVALID_ITEM


def test_the_tensors_of_an_item_are_counted_before_they_need_memory() -> None:
    one = {"shape": [], "datatype": "", "data": b""}
    body = request_of([{"id": "t", "tensors": {str(n): one for n in range(MIB // 32)}}], MSGPACK)
    tracemalloc.start()
    try:
        _, faults = decoded(body, MSGPACK)
        assert tracemalloc.get_traced_memory()[1] < len(body) + MIB
    finally:
        tracemalloc.stop()
    assert "length <= 32" in faults[0].message


@both_languages
def test_few_tensors_are_looked_into_at_once_and_many_are_not(language: str) -> None:
    strings = Tensor(shape=[SMALL // 8], datatype="BYTES", data=bytes(SMALL // 2))
    items = [Item(id=str(n), tensors={"x": strings}) for n in range(2)]
    limits = {"max_item_bytes": MIB, "max_items": MAX_ITEMS}
    few, many = (encode(Request(model="m", items=some), language) for some in (items[:1], items))
    assert decode_at_once(few, language, **limits) == decoded(few, language)
    assert decode_at_once(many, language, **limits) is None
    assert decoded(many, language)[1] == {}


@both_languages
@pytest.mark.parametrize("field", ["model", "version"])
def test_a_name_that_every_error_would_repeat_is_refused(language: str, field: str) -> None:
    content = {"model": "m", "items": [{"id": "1", "text": "x"}], field: "x" * 300}
    body = json.dumps(content).encode() if language == JSON else msgspec.msgpack.encode(content)
    with pytest.raises(MessageError, match="up to 255 characters"):
        decoded(body, language)


@both_languages
def test_the_name_of_a_field_is_not_repeated_in_full(language: str) -> None:
    _, faults = decoded(request_of([{"id": "1", "x" * MIB: 1}], language), language)
    assert len(faults[0].message) <= 1_000


def test_more_bytes_than_a_pack_may_have_are_not_looked_at() -> None:
    with pytest.raises(MessageError, match=r"1,001 bytes; the limit is 1,000 \(setting max_pack"):
        decoded(b"?" * 1_001, JSON, max_bytes=1_000)


@both_languages
def test_the_largest_packs_of_honest_clients_pass(language: str) -> None:
    texts = [Item(id=str(n), text='a "good", [moving] {film}\\' * 40) for n in range(MAX_ITEMS)]
    many_sided = {"x": Tensor(shape=[1] * 8, datatype="FP32", data=b"1234")}
    of_words = Tensor(shape=[1, 2], datatype="INT16", data=b"1234")
    three = dict.fromkeys(("ids", "mask", "kinds"), of_words)
    tensors = [
        [Item(id=str(n), tensors=inputs) for n in range(MAX_ITEMS)]
        for inputs in (many_sided, three)
    ]
    for items in (texts, *tensors):
        request = Request(model="m", items=items, version="1", options=Options(top_k=3))
        body = encode(request, language)
        assert decoded(body, language) == (request, {})
        found = decode_at_once(body, language, max_item_bytes=MIB, max_items=MAX_ITEMS)
        limit = COUNTED if language == MSGPACK else SMALL
        expected = None if len(body) > limit or items is not texts else (request, {})
        assert found == expected


@both_languages
def test_at_once_is_what_one_call_can_do(language: str) -> None:
    limits = {"max_item_bytes": 20, "max_items": 3}
    good = [{"id": "1", "text": "x"}, {"id": "2", "text": "x" * 21}]
    found = decode_at_once(request_of(good, language), language, **limits)
    assert found is not None
    assert found == decoded(request_of(good, language), language, **limits)
    assert found[1][1].code == Code.TOO_LARGE
    assert decode_at_once(request_of([*good, 7], language), language, **limits) is None
    assert decode_at_once(b"\xff{", language, **limits) is None
    with pytest.raises(MessageError, match="4 items; the limit is 3"):
        decode_at_once(request_of(good * 2, language), language, **limits)
