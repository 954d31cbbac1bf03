"""Texts as rows of word ids: the kind "words"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from lmaas.broker_config.errors import ModelDamaged
from lmaas.broker_config.messages import Item, ItemError
from lmaas.workers.batcher import Batch
from lmaas.workers.model_version import ModelVersion
from lmaas.workers.preprocess.one_text import EXAMPLES, fault
from lmaas.workers.preprocess.text import FIRST_WORD, PADDING, Ids, WordTokenizer

#: What stands for padding and for unknown words in the vocabularies of others.
_SPECIAL: Final = re.compile(r"|\[.*\]|<.*>")


class Words(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind",
    tag="words",
):  # fmt: skip
    """What the manifest says of it."""

    #: The file in the version's folder with the vocabulary.
    file: str
    #: Longer texts are cut to this many tokens.
    max_tokens: Annotated[int, msgspec.Meta(ge=1)]


class WordPreprocessor:
    """Fills the graph's one input, [rows, words]."""

    examples: Final = EXAMPLES

    def __init__(self, version: ModelVersion, how: dict[str, Any]) -> None:
        """Raises ModelDamaged."""
        words = msgspec.convert(how, Words)
        path, content = version.file(words.file), version.content(words.file)
        try:
            self._tokenize = WordTokenizer.read(content, words.max_tokens)
        except UnicodeDecodeError as error:
            raise ModelDamaged(
                f"{path}: not a vocabulary ({error}); export the model again"
            ) from error
        first = self._tokenize.words[:FIRST_WORD]
        if special := [word for word in first if _SPECIAL.fullmatch(word)]:
            raise ModelDamaged(
                f"{path}: begins with {', '.join(map(repr, special))}, which is no "
                f"word; its first line must be the word with the id {FIRST_WORD} (of Keras' "
                f"TextVectorization: get_vocabulary()[{FIRST_WORD}:]), or every word has another's "
                "id"
            )
        self._input = version.manifest.inputs[0]

    def check(self, item: Item) -> ItemError | None:
        return fault(item)

    def encode(self, items: Sequence[Item]) -> EncodedWords:
        ids = self._tokenize([item.text or "" for item in items])
        return EncodedWords(ids, self._input.name, np.dtype(self._input.dtype))


class EncodedWords:
    """The word ids of some texts."""

    def __init__(self, ids: list[Ids], name: str, dtype: np.dtype[Any]) -> None:
        self.lengths = [len(row) for row in ids]
        self._ids = ids
        self._name = name
        self._dtype = dtype

    def arrays(self, batch: Batch) -> dict[str, npt.NDArray[Any]]:
        matrix = np.full((batch.rows, batch.length), PADDING, self._dtype)
        for row, position in enumerate(batch.positions):
            matrix[row, : self.lengths[position]] = self._ids[position]
        # Rows that only fill up repeat the first: a row of padding alone has no mean.
        matrix[len(batch.positions) :] = matrix[0]
        return {self._name: matrix}
