"""Texts as they are."""

from __future__ import annotations

from typing import Any

import pytest

from lmaas.broker_config.codes import Code
from lmaas.broker_config.errors import ModelDamaged
from lmaas.broker_config.messages import Item
from lmaas.workers.batcher import Batch
from lmaas.workers.manifest import Batching, Input
from lmaas.workers.model_version import ModelVersion
from lmaas.workers.preprocess import preprocessor
from tests import versions


def version(*inputs: Input, **how: Any) -> ModelVersion:
    batching = Batching(unit="bytes", most=1024)
    return versions.in_memory(versions.manifest({"kind": "strings"} | how, inputs, batching))


COLUMN = Input(name="text", dtype="object", shape=[None, 1])


def test_texts_are_a_column_or_a_row_and_keep_zero_bytes() -> None:
    items = [Item(id="1", text="été\0"), Item(id="2", text=""), Item(id="3", text="abc")]
    encoded = preprocessor(version(COLUMN)).encode(items)
    assert encoded.lengths == [6, 1, 3]
    (column,) = encoded.arrays(Batch([1, 0], 3, 6)).values()
    assert column.tolist() == [[""], ["été\0"], [""]]
    row = Input(name="text", dtype="object", shape=[None])
    arrays = preprocessor(version(row)).encode(items).arrays(Batch([2], 1, 3))
    assert {name: array.tolist() for name, array in arrays.items()} == {"text": ["abc"]}


@pytest.mark.parametrize(
    ("item", "code"),
    [
        (Item(id="1", data=b"x", media_type="image/png"), Code.NOT_TEXT),
        (Item(id="1", text="a", text_pair="b"), Code.INVALID_ITEM),
    ],
)
def test_what_is_not_one_text_is_told(item: Item, code: Code) -> None:
    checking = preprocessor(version(COLUMN))
    error = checking.check(item)
    assert error is not None
    assert error.code == code
    assert [checking.check(example) for example in checking.examples] == [None, None]


@pytest.mark.parametrize(
    ("inputs", "how", "told"),
    [
        ([COLUMN, COLUMN], {}, "fills one input"),
        ([Input(name="x", dtype="float32", shape=[None, 1])], {}, "x of 'float32'"),
        ([Input(name="x", dtype="object", shape=[None, 2])], {}, "fills one input"),
        ([COLUMN], {"file": "f"}, "unknown field"),
    ],
)
def test_what_is_wrong_with_a_version_is_told(
    inputs: list[Input], how: dict[str, Any], told: str
) -> None:
    with pytest.raises(ModelDamaged, match=told):
        preprocessor(version(*inputs, **how))
