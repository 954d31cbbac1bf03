"""Texts as Keras' layer TextVectorization numbers them: the kind "text_vectorization".

Only ASCII has lower case and punctuation there, and what is punctuation vanishes: the words of
`Well-made É` are `wellmade` and `É`.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from lmaas.broker_config.errors import ModelDamaged
from lmaas.broker_config.messages import Item, ItemError
from lmaas.workers.batcher import Batch
from lmaas.workers.model_version import ModelVersion
from lmaas.workers.preprocess.one_text import EXAMPLES, fault

PADDING: Final = 0
UNKNOWN: Final = 1
_PUNCTUATION: Final = string.punctuation.encode()
_Count = Annotated[int, msgspec.Meta(ge=1)]


class TextVectorization(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind",
    tag="text_vectorization",
):  # fmt: skip
    """What the manifest says of it, as the layer's own settings do."""

    #: The file in the version's folder: a JSON array of words, by their numbers; the first one is
    #: padding and the second one stands for unknown words.
    file: str
    lower: bool = True
    strip_punctuation: bool = True
    split: Literal["whitespace", "character"] | None = "whitespace"
    #: How many words go together; all of one number before those of the next.
    ngrams: Annotated[tuple[_Count, ...], msgspec.Meta(min_length=1)] = (1,)
    #: Every text is cut or padded to so many words; None: a batch to its longest.
    length: _Count | None = None


class TextVectorizationPreprocessor:
    """Fills the graph's one input, [rows, words]."""

    examples: Final = EXAMPLES

    def __init__(self, version: ModelVersion, how: dict[str, Any]) -> None:
        """Raises ModelDamaged."""
        self._how = msgspec.convert(how, TextVectorization)
        try:
            words = msgspec.json.decode(version.content(self._how.file), type=list[str])
        except msgspec.DecodeError as error:
            raise ModelDamaged(
                f"{version.file(self._how.file)}: no vocabulary: {error}; import the model again"
            ) from error
        self._numbers = {word: number for number, word in enumerate(words)}
        self._input = version.manifest.inputs[0]

    def check(self, item: Item) -> ItemError | None:
        return fault(item)

    def encode(self, items: Sequence[Item]) -> EncodedNumbers:
        numbers = [self._row(item.text or "") for item in items]
        return EncodedNumbers(
            numbers, self._how.length, self._input.name, np.dtype(self._input.dtype)
        )

    def _row(self, text: str) -> list[int]:
        found = self._numbers.get
        return [found(word, UNKNOWN) for word in self._words(text)][: self._how.length]

    def _words(self, text: str) -> Sequence[str]:
        how = self._how
        content = text.encode()
        if how.lower:
            content = content.lower()
        if how.strip_punctuation:
            content = content.translate(None, _PUNCTUATION)
        if how.split == "whitespace":
            words: Sequence[str] = [word.decode() for word in content.split()]
        else:
            words = content.decode() if how.split == "character" else [content.decode()]
        if how.ngrams == (1,):
            return words
        return [
            " ".join(words[start : start + width])
            for width in how.ngrams
            for start in range(len(words) - width + 1)
        ]


class EncodedNumbers:
    """The numbers of some texts' words."""

    def __init__(
        self, numbers: list[list[int]], length: int | None, name: str, dtype: np.dtype[Any]
    ) -> None:
        self.lengths = [length or len(row) or 1 for row in numbers]
        self._numbers = numbers
        self._name = name
        self._dtype = dtype

    def arrays(self, batch: Batch) -> dict[str, npt.NDArray[Any]]:
        matrix = np.full((batch.rows, batch.length), PADDING, self._dtype)
        for row, position in enumerate(batch.positions):
            numbers = self._numbers[position]
            matrix[row, : len(numbers)] = numbers
        # Rows that only fill up repeat the first: one of padding alone has nothing to look at.
        matrix[len(batch.positions) :] = matrix[0]
        return {self._name: matrix}
