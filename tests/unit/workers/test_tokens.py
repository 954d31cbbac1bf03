"""Texts as the ids of a tokenizer.json."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from lmaas.broker_config.codes import Code
from lmaas.broker_config.errors import ModelDamaged
from lmaas.broker_config.messages import Item, Tensor
from lmaas.workers.batcher import Batch
from lmaas.workers.manifest import Batching, Input
from lmaas.workers.preprocess import preprocessor
from tests import versions

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "fine", "film", "dull"]
PAD, UNKNOWN, CLS, SEP, A, FINE, FILM, DULL = range(len(WORDS))


def tokenizer() -> Tokenizer:
    """A word is a token; with the padding and the truncation of somebody's training."""
    made = Tokenizer(
        models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)],
    )
    made.enable_padding(length=20)
    made.enable_truncation(3)
    return made


def version(content: str | None = None, inputs: tuple[str, ...] = ("ids",), **how: Any) -> Any:
    made = versions.manifest(
        {"kind": "tokens", "file": "tokenizer.json", "max_tokens": 8, "ids": "ids"} | how,
        [Input(name=name, dtype="int64", shape=[None, None]) for name in inputs],
        Batching(unit="tokens", most=1024),
        "tokenizer.json",
    )
    return versions.in_memory(made, tokenizer=(content or tokenizer().to_str()).encode())


ALL = {"inputs": ("ids", "mask", "types"), "mask": "mask", "types": "types"}


def rows(given: Any, items: list[Item], batch: Batch) -> dict[str, list[list[int]]]:
    found = preprocessor(given).encode(items).arrays(batch)
    assert {array.dtype for array in found.values()} == {np.dtype("int64")}
    return {name: array.tolist() for name, array in found.items()}


def test_texts_are_padded_to_the_batch_and_not_as_in_somebodys_training() -> None:
    items = [Item(id="1", text="a fine film"), Item(id="2", text="dull")]
    encoded = preprocessor(version(**ALL)).encode(items)
    assert encoded.lengths == [5, 3]
    assert rows(version(**ALL), items, Batch([1, 0], 3, 6)) == {
        "ids": [
            [CLS, DULL, SEP, PAD, PAD, PAD],
            [CLS, A, FINE, FILM, SEP, PAD],
            [CLS, DULL, SEP, PAD, PAD, PAD],
        ],
        "mask": [[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0]],
        "types": [[0] * 6] * 3,
    }


def test_padding_can_be_on_the_left_and_have_another_id() -> None:
    given = version(**ALL, left=True, padding=7)
    found = rows(given, [Item(id="1", text="a fine film"), Item(id="2", text="dull")],
                 Batch([0, 1], 2, 5))  # fmt: skip
    assert found["ids"] == [[CLS, A, FINE, FILM, SEP], [7, 7, CLS, DULL, SEP]]
    assert found["mask"] == [[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]]


def test_only_the_inputs_that_the_graph_has_are_made() -> None:
    assert rows(version(), [Item(id="1", text="dull")], Batch([0], 1, 3)) == {
        "ids": [[CLS, DULL, SEP]]
    }


def test_of_a_pair_the_longer_text_is_cut_and_the_second_has_its_type() -> None:
    pair = Item(id="1", text="a fine film a fine film", text_pair="dull film")
    assert rows(version(**ALL, pairs=True), [pair], Batch([0], 1, 8)) == {
        "ids": [[CLS, A, FINE, FILM, SEP, DULL, FILM, SEP]],
        "mask": [[1] * 8],
        "types": [[0, 0, 0, 0, 0, 1, 1, 1]],
    }


@pytest.mark.parametrize("text", ["", "\x00", "🎬" * 100, " ".join(["film"] * 1000)])
def test_any_text_has_at_least_one_token_and_at_most_those_that_fit(text: str) -> None:
    (length,) = preprocessor(version()).encode([Item(id="1", text=text)]).lengths
    assert 1 <= length <= 8


@pytest.mark.parametrize(
    ("item", "pairs", "code"),
    [
        (Item(id="1", data=b"x", media_type="image/png"), False, Code.NOT_TEXT),
        (Item(id="1", tensors={"x": Tensor("int64", [1], bytes(8))}), False, Code.NOT_TEXT),
        (Item(id="1", text="a", text_pair="b"), False, Code.INVALID_ITEM),
        (Item(id="1", text="a"), True, Code.INVALID_ITEM),
    ],
)
def test_what_the_model_does_not_take_is_told(item: Item, pairs: bool, code: Code) -> None:
    checking = preprocessor(version(pairs=pairs))
    error = checking.check(item)
    assert error is not None
    assert error.code == code
    assert [checking.check(example) for example in checking.examples] == [None, None]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"content": "{}"}, r"tokenizer\.json: no tokenizer"),
        ({"content": "[" * 50_000}, r"tokenizer\.json: no tokenizer"),
        ({"mask": "mask"}, r"makes \['ids', 'mask'\], and its inputs are \['ids'\]"),
        ({"max_tokens": 0}, "preprocessing: .*max_tokens"),
        ({"max_token": 5}, "preprocessing: .*max_token"),
    ],
)
def test_what_is_wrong_with_a_version_is_told(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ModelDamaged, match=told):
        preprocessor(version(**changes))
