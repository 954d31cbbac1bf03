"""Texts as Keras' TextVectorization numbers them.

Where models of Keras are imported they are compared with Keras itself.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from lmaas.broker_config.codes import Code
from lmaas.broker_config.errors import ModelDamaged
from lmaas.broker_config.messages import Item
from lmaas.workers.batcher import Batch
from lmaas.workers.manifest import Batching, Input
from lmaas.workers.model_version import ModelVersion
from lmaas.workers.preprocess import preprocessor
from tests import versions

WORDS = ["", "[UNK]", "film", "a", "good", "wellmade", "É", "é", "good film", "Well-made", "f"]


def version(content: Any = WORDS, **how: Any) -> ModelVersion:
    made = versions.manifest(
        {"kind": "text_vectorization", "file": "vocabulary.json"} | how,
        [Input(name="ids", dtype="int64", shape=[None, None])],
        Batching(unit="tokens", most=1024),
        "vocabulary.json",
    )
    return versions.in_memory(made, vocabulary=msgspec.json.encode(content))


@pytest.mark.parametrize(
    ("how", "text", "numbers"),
    [
        # Punctuation vanishes, and only ASCII has lower case.
        ({}, "A good\tFILM,\x0bWell-made... É é", [3, 4, 2, 5, 6, 7]),
        ({}, " \u00a0 zzz\u2003film", [1, 1]),  # no blanks of its own
        ({"ngrams": [1, 2]}, "a good film", [3, 4, 2, 1, 8]),
        ({"ngrams": [2]}, "film", []),
        ({"length": 2}, "a good film", [3, 4]),
        ({"split": "character"}, "af É", [3, 10, 1, 6]),
        ({"split": None}, "Good film!", [8]),
        ({"lower": False}, "Good film", [1, 2]),
        ({"strip_punctuation": False, "lower": False}, "Well-made film", [9, 2]),
    ],
)
def test_words_have_the_numbers_that_keras_gives_them(
    how: dict[str, Any], text: str, numbers: list[int]
) -> None:
    encoded = preprocessor(version(**how)).encode([Item(id="1", text=text)])
    length = how.get("length") or len(numbers) or 1
    assert list(encoded.lengths) == [length]
    (array,) = encoded.arrays(Batch([0], 1, length)).values()
    assert array.tolist() == [numbers or [0]]


def test_short_texts_are_padded_to_the_batch_or_to_the_length_of_all() -> None:
    items = [Item(id="1", text="film"), Item(id="2", text="a film"), Item(id="3", text="")]
    encoded = preprocessor(version()).encode(items)
    assert list(encoded.lengths) == [1, 2, 1]
    (array,) = encoded.arrays(Batch([0, 1, 2], 4, 3)).values()
    assert array.tolist() == [[2, 0, 0], [3, 2, 0], [0, 0, 0], [2, 0, 0]]
    assert list(preprocessor(version(length=4)).encode(items).lengths) == [4, 4, 4]


def test_what_does_not_fit_is_told() -> None:
    error = preprocessor(version()).check(Item(id="1", data=b"x", media_type="image/png"))
    assert error is not None
    assert error.code == Code.NOT_TEXT
    with pytest.raises(ModelDamaged, match="no vocabulary"):
        preprocessor(version({"a": 1}))
    with pytest.raises(ModelDamaged, match="length"):
        preprocessor(version(length=0))
