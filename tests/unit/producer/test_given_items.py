"""Items as callers of the gateway write them."""

from __future__ import annotations

import json

import msgspec
import pytest

from lmaas.producer.gateway.items import Body, GivenItem


class Strict(msgspec.Struct):
    items: list[str | GivenItem]


class Loose(msgspec.Struct):
    items: list[msgspec.Raw]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ([0.5, 2], "it is base64 of their bytes; POST /v2/models/NAME/infer takes lists"),
        (1, "it is base64 of their bytes"),
        ("%", "it is base64 of their bytes"),
        ("AAAA", None),
    ],
)
def test_who_sends_a_tensor_as_a_list_is_told_what_takes_lists(
    data: object, told: str | None
) -> None:
    tensor = {"shape": [2], "datatype": "FP32", "data": data}
    content = json.dumps({"items": ["text", {"id": "x", "tensors": {"in": tensor}}]})
    body = Body(Strict, Loose)
    text, item = body.items(body.decode(content.encode()))
    assert (text.text, text.error, item.id) == ("text", None, "x")
    if told is None:
        assert item.error is None
    else:
        assert item.error
        assert told in item.error.message
