"""Why an item cannot be classified: told of that item, in the same words on every way in."""

from __future__ import annotations

import json
from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmaas.broker_config.codes import Code
from lmaas.broker_config.decoding import decode_request
from lmaas.broker_config.errors import MessageError
from lmaas.broker_config.headers import MAX_NAME
from lmaas.broker_config.item_errors import item_error, text_error, text_item
from lmaas.broker_config.messages import (
    JSON,
    MAX_TENSORS,
    MSGPACK,
    Item,
    ItemError,
    Reply,
    Request,
    Tensor,
    encode,
    failed,
)

both_languages = pytest.mark.parametrize("language", [JSON, MSGPACK])
LIMIT = 1000

texts = st.text(st.characters(exclude_categories=["Cs"]))


def read(body: bytes, language: str | None = JSON) -> tuple[Request, dict[int, ItemError]]:
    return decode_request(body, language, max_item_bytes=LIMIT, max_items=100)


def pack(language: str, *items: object) -> bytes:
    """A body as a stranger would write it, without our structures."""
    content = {"model": "m", "items": items}
    return json.dumps(content).encode() if language == JSON else msgspec.msgpack.encode(content)


def codes(faults: Mapping[int, ItemError]) -> dict[int, str]:
    return {position: fault.code for position, fault in faults.items()}


@both_languages
@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ({"id": "b"}, Code.INVALID_ITEM),
        ({"id": "b", "text": None}, Code.INVALID_ITEM),
        ({"id": "b", "text": 7}, Code.INVALID_ITEM),
        ({"id": "b", "text": "x", "txet": "y"}, Code.INVALID_ITEM),
        ({"id": "b", "text": "x", "data": None, "tensors": 1}, Code.INVALID_ITEM),
        ({"id": "b", "tensors": {"x": {"shape": [1]}}}, Code.INVALID_ITEM),
        ({"id": "b", "tensor": {"shape": [0], "datatype": "INT8", "data": ""}}, Code.INVALID_ITEM),
        ({"id": "b", "text_pair": "x"}, Code.INVALID_ITEM),
        ({"id": "b", "text": "x", "text_pair": 7}, Code.INVALID_ITEM),
        ({"id": "b", "text": "x", "text_pair": ""}, Code.EMPTY_TEXT),
        ({"id": "b", "text": "", "text_pair": "x"}, Code.EMPTY_TEXT),
        ({"id": "b", "text": "a" * LIMIT, "text_pair": "a"}, Code.TOO_LARGE),
        ({"id": "b", "text": ""}, Code.EMPTY_TEXT),
        ({"id": "b", "text": " \n\u3000"}, Code.EMPTY_TEXT),
        ({"id": "b", "text": "a" * (LIMIT + 1)}, Code.TOO_LARGE),
        ({"id": "b", "text": "é" * (LIMIT // 2 + 1)}, Code.TOO_LARGE),
        ({"id": "b", "error": {"code": "unreadable_row", "message": "row 3"}}, Code.UNREADABLE_ROW),
    ],
)
def test_a_bad_item_spoils_nothing_else(language: str, bad: object, code: Code) -> None:
    first, last = {"id": "a", "text": "fine"}, {"id": "c", "text": "x" * LIMIT}
    request, faults = read(pack(language, first, bad, last), language)
    assert codes(faults) == {1: code}
    assert [item.id for item in request.items] == ["a", "b", "c"]
    assert [request.items[0].text, request.items[2].text] == ["fine", "x" * LIMIT]


@both_languages
@pytest.mark.parametrize("bad", [None, 7, "text", [], {}, {"text": "no id"}, {"id": 7}])
def test_an_item_without_an_id_is_named_by_its_place(language: str, bad: object) -> None:
    request, faults = read(pack(language, {"id": "a", "text": "fine"}, bad), language)
    assert codes(faults) == {1: Code.INVALID_ITEM}
    assert [item.id for item in request.items] == ["a", "#1"]


@both_languages
def test_an_id_that_is_there_twice_is_two_items(language: str) -> None:
    one = {"id": "a", "text": "fine"}
    request, faults = read(pack(language, one, {"id": "b", "text": "fine"}, one), language)
    assert faults == {}
    assert [item.id for item in request.items] == ["a", "b", "a"]


ONE = Tensor(shape=[1], datatype="UINT8", data=b"x")


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (Item(id="1", text="a", data=b"a"), "exactly one of text, data, tensors"),
        (Item(id="1", data=b"a", tensors={"x": ONE}), "exactly one of text, data, tensors"),
        (Item(id="1", text_pair="a"), "exactly one of text, data, tensors"),
        (Item(id="1", data=b"a", text_pair="a"), "it comes with text only"),
        (Item(id="1", text="a", text_pair=" "), "text_pair: the text is empty"),
        (Item(id="1", tensors={}), "length >= 1"),
        (Item(id="1", tensors={"": ONE}), "length >= 1"),
        (Item(id="1", tensors={"x" * (MAX_NAME + 1): ONE}), f"length <= {MAX_NAME}"),
        (
            Item(id="1", tensors={str(n): ONE for n in range(MAX_TENSORS + 1)}),
            f"length <= {MAX_TENSORS}",
        ),
    ],
)
@both_languages
def test_an_item_is_of_one_kind(language: str, bad: Item, words: str) -> None:
    _, faults = read(encode(Request(model="m", items=[bad]), language), language)
    assert words in faults[0].message


@both_languages
@given(texts, texts)
def test_a_pair_has_the_limit_of_a_text(language: str, text: str, pair: str) -> None:
    both = Item(id="1", text=text, text_pair=pair)
    fault = item_error(both, both.size)
    if not (text.strip() and pair.strip()):
        assert fault is not None
        assert fault.code == Code.EMPTY_TEXT
        return
    assert fault is None
    assert read(encode(Request(model="m", items=[both]), language), language)[0].items == [both]
    fault = item_error(both, both.size - 1)
    assert fault is not None
    assert fault.code == Code.TOO_LARGE


def tensor(kind: str, shape: list[int], data: bytes) -> Item:
    return Item(id="1", tensors={"x": Tensor(shape=shape, datatype=kind, data=data)})


@both_languages
@pytest.mark.parametrize(
    ("item", "words"),
    [
        (tensor("FP32", [2, 3], b"x" * 24), None),
        (tensor("FP64", [], b"x" * 8), None),
        (tensor("INT64", [2, 0], b""), None),
        (tensor("BYTES", [0], b""), None),
        (tensor("BYTES", [2, 1], b"\1\0\0\0a\0\0\0\0"), None),
        (tensor("FP32", [2, 3], b"x" * 23), "has 23 bytes; FP32 of its shape [2, 3] has 24"),
        (tensor("BOOL", [], b""), "has 0 bytes; BOOL of its shape [] has 1"),
        (tensor("INT8", [2**31 - 1], b""), "has 2,147,483,647"),
        (tensor("float32", [1], b"x" * 4), "'float32' is none of BOOL, UINT8"),
        (tensor("\0" * 300, [1], b"x" * 4), "is none of"),
        (tensor("INT8", [-1], b""), "`int` >= 0"),
        (tensor("INT8", [2**31], b""), "`int` <= 2147483647"),
        (tensor("INT8", [2**31 - 1] * 2, b""), "no array can have its shape"),
        (tensor("INT8", [0, *[2**31 - 1] * 31], b""), "no array can have its shape"),
        (tensor("INT8", [1] * 33, b"x"), "length <= 32"),
        (tensor("BYTES", [2], b"\1\0\0\0a"), "not the 2 values of its shape"),
        (tensor("BYTES", [1], b"\2\0\0\0a"), "not the 1 values of its shape"),
        (tensor("BYTES", [1], b"\1\0\0\0ab"), "not the 1 values of its shape"),
        (tensor("BYTES", [2], b"\4\0\0\0\0\0\0\0\1\0"), "not the 2 values of its shape"),
        (tensor("BYTES", [2**31 - 1], b"\0" * 900), "not the 2,147,483,647 values"),
    ],
)
def test_values_of_a_tensor_fit_its_shape(language: str, item: Item, words: str | None) -> None:
    request, faults = read(encode(Request(model="m", items=[item]), language), language)
    assert (words is None) == (faults == {})
    if words:
        assert faults[0].code == Code.INVALID_ITEM
        assert words in faults[0].message
        assert len(faults[0].message) < 600
    else:
        assert request.items == [item]


@both_languages
def test_binary_contents_have_the_same_limit(language: str) -> None:
    fits, large = b"x" * LIMIT, b"x" * (LIMIT + 1)
    half = Tensor(shape=[LIMIT // 2], datatype="UINT8", data=b"x" * (LIMIT // 2))
    given_items = [
        Item(id="1", data=fits, media_type="image/png"),
        Item(id="2", data=large),
        Item(id="3", tensors={"a": half, "b": half}),
        Item(id="4", tensors={"a": half, "b": half, "c": ONE}),
    ]
    request, faults = read(encode(Request(model="m", items=given_items), language), language)
    assert codes(faults) == {1: Code.TOO_LARGE, 3: Code.TOO_LARGE}
    assert request.items == given_items


@both_languages
def test_a_strange_name_of_a_tensor_can_be_told(language: str) -> None:
    body = pack(language, {"id": "a", "tensors": {"?": 7}}, {"id": "b", "text": "ok"})
    body = body.replace(b'"?"', rb'"\ud800"')
    request, faults = read(body, language)
    assert codes(faults) == {0: Code.INVALID_ITEM}
    encode(Reply(model="m", results=failed(request.items, faults[0])), language)


def test_a_lone_surrogate_in_json_spoils_its_item_only() -> None:
    body = rb'{"model": "m", "items": [{"id": "a", "text": "\ud800"}, {"id": "b", "text": "ok"}]}'
    request, faults = read(body)
    assert codes(faults) == {0: Code.INVALID_UTF8}
    assert request.items[1] == Item(id="b", text="ok")


def test_bytes_that_are_no_utf8_spoil_their_item_only() -> None:
    body = b'{"model": "m", "items": [{"id": "a", "text": "caf\xe9"}, {"id": "b", "data": "eA=="}]}'
    request, faults = read(body)
    assert codes(faults) == {0: Code.INVALID_UTF8}
    assert request.items[1] == Item(id="b", data=b"x")


def test_bytes_that_are_no_utf8_in_messagepack_spoil_their_item_only() -> None:
    body = pack(MSGPACK, {"id": "a", "text": "caf?"}, {"id": "b", "text": "ok"})
    request, faults = read(body.replace(b"caf?", b"caf\xe9"), MSGPACK)
    assert codes(faults) == {0: Code.INVALID_ITEM}
    assert request.items == [Item(id="a"), Item(id="b", text="ok")]


@pytest.mark.parametrize(
    "body",
    [
        rb'{"model": "\ud800", "items": [{"id": "a", "text": "b"}]}',
        rb'{"model": "m", "version": "\ud800", "items": [{"id": "a", "text": "b"}]}',
    ],
)
def test_a_name_that_no_reply_could_carry_is_refused(body: bytes) -> None:
    with pytest.raises(MessageError, match="not a request"):
        read(body)


def test_an_id_that_no_reply_could_carry_is_replaced() -> None:
    body = rb'{"model": "m", "items": [{"id": "\ud800", "text": "a"}, {"id": "b", "text": "b"}]}'
    request, faults = read(body)
    assert codes(faults) == {0: Code.INVALID_ITEM}
    assert [item.id for item in request.items] == ["#0", "b"]


# ---------------------------------------------------------------------- texts


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("fine", None),
        ("\0", None),
        ("e\u0301 \u4e2d\u6587 \U0001f600", None),
        (None, Code.NOT_TEXT),
        (b"bytes", Code.NOT_TEXT),
        (1.5, Code.NOT_TEXT),
        ("", Code.EMPTY_TEXT),
        ("\t \u2003", Code.EMPTY_TEXT),
        ("a\udc80", Code.INVALID_UTF8),
        ("a" * 11, Code.TOO_LARGE),
        ("\u4e2d" * 4, Code.TOO_LARGE),
    ],
)
def test_the_same_words_for_a_text_on_every_way_in(text: object, code: Code | None) -> None:
    limit = 21 if code is None else 10
    fault = text_error(text, limit)
    assert (fault.code if fault else None) == code
    item = text_item("1", text, limit)
    assert item == (Item(id="1", text=text) if code is None else Item(id="1", error=fault))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "name"),
    [(None, "null"), (True, "a boolean"), (7, "a number"), ([], "an array"), ({}, "an object")],
)
def test_what_is_no_text_has_its_name_in_json(value: object, name: str) -> None:
    error = text_error(value, 10)
    assert error is not None
    assert error.message == f"expected a text, got {name}"
