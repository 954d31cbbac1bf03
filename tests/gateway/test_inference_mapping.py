"""Inputs of a request as items, results as outputs, by the card of a model."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from lmaas.broker_config.codes import Code
from lmaas.broker_config.messages import Item, ItemError, ModelCard, Result, Tensor
from lmaas.producer.gateway.failures import HttpError
from lmaas.producer.gateway.inference_protocol import mapping
from lmaas.producer.gateway.inference_protocol.codec import Call, Input, Wanted

CARD = ModelCard(
    model="m", version="1", versions=["1"], labels=["b", "a", "c"], input="words",
    examples=[Item(id="1", text="x")], max_item_bytes=10, max_pack_items=1, max_pack_bytes=1,
    fixed_seconds=0, seconds_per_byte=0,
)  # fmt: skip
PICTURES = msgspec.structs.replace(
    CARD, examples=[Item(id="1", data=b"\x89PNG", media_type="image/png")]
)
SCORES = Wanted("scores", 0, binary=False)


def call(*inputs: Input, outputs: list[Wanted] | None = None) -> Call:
    return Call({one.name: one for one in inputs}, outputs, False, "7", {})


def result(**scores: float) -> Result:
    best = max(scores, key=lambda label: scores[label])
    ordered = dict(sorted(scores.items(), key=lambda one: -one[1]))
    return Result(id="0", label=best, score=scores[best], scores=ordered)


def test_models_of_content_have_the_input_data() -> None:
    assert [port.name for port in mapping.inputs_of(PICTURES)] == ["data"]
    items = mapping.items_of(call(Input("data", "BYTES", [2], [b"\xff", "é"])), PICTURES)
    assert items == [
        Item(id="0", data=b"\xff", media_type="image/png"),
        Item(id="1", data="é".encode(), media_type="image/png"),
    ]
    raw = mapping.raw_call(b"\xff\xd8", "image/jpeg", PICTURES)
    assert mapping.items_of(raw, PICTURES) == [
        Item(id="0", data=b"\xff\xd8", media_type="image/jpeg")
    ]
    encoded = Input("data", "BYTES", [1], ["/w=="], "base64")
    assert mapping.items_of(call(encoded), PICTURES)[0].data == b"\xff"
    with pytest.raises(HttpError, match="item 1: input 'data' is not base64"):
        mapping.items_of(call(Input("data", "BYTES", [2], ["/w==", "?"], "base64")), PICTURES)
    with pytest.raises(HttpError, match=r"no input 'text'; it takes data \(BYTES \[-1\]\)"):
        mapping.items_of(call(Input("text", "BYTES", [1], ["x"])), PICTURES)


def test_a_second_text_is_an_input_where_examples_have_one() -> None:
    both = Item(id="1", text="x", text_pair="y")
    pairs = msgspec.structs.replace(CARD, examples=[both])
    either = msgspec.structs.replace(CARD, examples=[both, Item(id="2", text="x")])
    first, second = (
        Input("text", "BYTES", [2], ["a", "b"]),
        Input("text_pair", "BYTES", [2], [b"c", "d"]),
    )
    items = mapping.items_of(call(first, second), pairs)
    assert [(item.text, item.text_pair) for item in items] == [("a", "c"), ("b", "d")]
    assert [item.text_pair for item in mapping.items_of(call(first), either)] == [None, None]
    with pytest.raises(HttpError, match="the input 'text_pair' is missing"):
        mapping.items_of(call(first), pairs)
    with pytest.raises(HttpError, match="no input 'text_pair'"):
        mapping.items_of(call(first, second), CARD)
    with pytest.raises(HttpError, match="differ in their first dimension"):
        mapping.items_of(call(first, Input("text_pair", "BYTES", [1], ["c"])), pairs)
    with pytest.raises(HttpError, match="item 1: input 'text_pair' is not valid UTF-8"):
        mapping.items_of(call(first, Input("text_pair", "BYTES", [2], ["c", b"\xff"])), pairs)
    with pytest.raises(HttpError, match="more than a text"):
        mapping.raw_call(b"x", None, pairs)
    assert mapping.items_of(mapping.raw_call(b"x", None, either), either) == [
        Item(id="0", text="x")
    ]


def tensor(*shape: int, datatype: str = "INT16") -> Tensor:
    return Tensor(shape=list(shape), datatype=datatype, data=bytes(2 * math.prod(shape)))


def test_models_of_tensors_have_their_inputs() -> None:
    card = msgspec.structs.replace(
        CARD,
        examples=[
            Item(id="1", tensors={"ids": tensor(2, 3), "mask": tensor()}),
            Item(id="2", tensors={"ids": tensor(2, 4)}),
        ],
    )
    assert mapping.inputs_of(card) == [
        mapping.Port("ids", "INT16", [-1, 2, -1]),
        mapping.Port("mask", "INT16", [-1], optional=True),
    ]
    ids = Input("ids", "INT16", [2, 1, 2], b"\1\0\2\0\3\0\4\0")
    assert mapping.items_of(call(ids, Input("mask", "INT16", [2], b"\5\0\6\0")), card) == [
        Item(
            id="0",
            tensors={
                "ids": Tensor(shape=[1, 2], datatype="INT16", data=b"\1\0\2\0"),
                "mask": Tensor(shape=[], datatype="INT16", data=b"\5\0"),
            },
        ),
        Item(
            id="1",
            tensors={
                "ids": Tensor(shape=[1, 2], datatype="INT16", data=b"\3\0\4\0"),
                "mask": Tensor(shape=[], datatype="INT16", data=b"\6\0"),
            },
        ),
    ]
    words = Input("ids", "BYTES", [1, 2], ["a", "b"])
    with pytest.raises(HttpError, match="'ids' is BYTES; it must be INT16"):
        mapping.items_of(call(words), card)
    with pytest.raises(HttpError, match="send its inputs"):
        mapping.raw_call(b"x", None, card)
    named = {"ids": tensor(2, datatype="BYTES")}
    (item,) = mapping.items_of(
        call(words), msgspec.structs.replace(CARD, examples=[Item(id="1", tensors=named)])
    )
    assert item.tensors is not None
    assert item.tensors["ids"].data == b"\1\0\0\0a\1\0\0\0b"


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (Input("text", "BYTES", [2], ["x", "y" * 11]), "item 1: too_large"),
        (Input("text", "BYTES", [1, 2], ["x", "y"]), "must be [n] or [n, 1]"),
        (Input("text", "BYTES", [0], []), "no items"),
    ],
)
def test_a_bad_item_is_told_with_its_place(one: Input, words: str) -> None:
    with pytest.raises(HttpError) as refused:
        mapping.items_of(call(one), CARD)
    assert words in refused.value.failure.message


def test_columns_are_in_the_order_of_the_card() -> None:
    results = [result(a=0.7, b=0.2, c=0.1), result(c=0.5, a=0.4, b=0.1)]
    (found,) = mapping.outputs(results, [SCORES], CARD)
    assert (found.shape, list(found.values)) == ([2, 3], [0.2, 0.7, 0.1, 0.1, 0.4, 0.5])
    best = Wanted("scores", 2, binary=True)
    (found,) = mapping.outputs(results, [best], CARD)
    assert (found.datatype, found.shape) == ("BYTES", [2, 2])
    assert found.values == ["0.700000:1:a", "0.200000:0:b", "0.500000:2:c", "0.400000:1:a"]


def test_labels_of_another_version_are_in_the_order_of_their_names() -> None:
    (found,) = mapping.outputs([result(z=0.7, y=0.3)], [SCORES], CARD)
    assert list(found.values) == [0.3, 0.7]
    with pytest.raises(HttpError, match="changes to another version") as refused:
        mapping.outputs([result(z=0.7, y=0.3), result(a=1.0)], [SCORES], CARD)
    assert refused.value.failure.retry_after == 1.0


@pytest.mark.parametrize(
    ("code", "status", "again"),
    [
        (Code.EMPTY_TEXT, 422, None),
        (Code.POISON, 500, None),
        (Code.OUT_OF_MEMORY, 503, 1.0),
        (Code.DEADLINE_EXCEEDED, 504, None),
    ],
)
def test_an_item_that_failed_fails_the_request(
    code: Code, status: int, again: float | None
) -> None:
    results = [result(a=1.0), Result(id="1", error=ItemError(code=code, message="why"))]
    with pytest.raises(HttpError, match=f"item 1: {code}: why") as refused:
        mapping.outputs(results, [Wanted("label", 0, binary=False)], CARD)
    assert (refused.value.failure.status, refused.value.failure.retry_after) == (status, again)


def test_scores_are_asked_for_only_where_they_are_wanted() -> None:
    assert mapping.top_k([Wanted("label", 0, binary=False)]) == 0
    assert mapping.top_k(mapping.wanted_of(call(), CARD)) >= len(CARD.labels)


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ([Wanted("x", 0, False)], "no output 'x'; there are label, score, scores"),
        ([SCORES, SCORES], "'scores' is asked for twice"),
        ([Wanted("score", 1, False)], "'score' has no classification"),
    ],
)
def test_bad_wishes_are_told(outputs: list[Wanted], words: str) -> None:
    with pytest.raises(HttpError) as refused:
        mapping.wanted_of(call(outputs=outputs), CARD)
    assert words in refused.value.failure.message


@pytest.mark.parametrize(
    ("given", "seconds"), [({}, 30), ({"timeout": 0}, 30), ({"timeout": 5}, 5e-6),
                           ({"timeout": 10**12}, 30)],
)  # fmt: skip
def test_time_limits_are_microseconds(given: dict[str, Any], seconds: float) -> None:
    assert mapping.seconds_of(given, 30) == seconds


@pytest.mark.parametrize("given", [0, 1, 0.25, None])
def test_the_least_score_is_a_parameter(given: object) -> None:
    assert mapping.least_of({"min_score": given}) == given
    assert mapping.least_of({}) is None


@pytest.mark.parametrize("given", [-1, "0.5", 1.5, True, [1], float("nan")])
def test_a_bad_least_score_is_told(given: object) -> None:
    with pytest.raises(HttpError, match="a number from 0 to 1"):
        mapping.least_of({"min_score": given})


@pytest.mark.parametrize("given", [-1, "5", 1.5, True, None, [1]])
def test_a_bad_time_limit_is_told(given: object) -> None:
    with pytest.raises(HttpError, match="whole number of microseconds"):
        mapping.seconds_of({"timeout": given}, 30)
