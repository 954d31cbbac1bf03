"""Texts, or texts and their pairs, as rows of token ids of a `tokenizer.json`: the kind "tokens".

That file is what Hugging Face's libraries write beside a model; its own padding and truncation are
those of somebody's training, so that ours take their place.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer

from lmaas.broker_config.codes import Code
from lmaas.broker_config.errors import ModelDamaged
from lmaas.broker_config.messages import Item, ItemError
from lmaas.workers.batcher import Batch
from lmaas.workers.model_version import ModelVersion

# A process has a core; more threads would wait for it, and would not live through a fork.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

_PAIR: Final = ItemError(
    code=Code.INVALID_ITEM, message="this model takes one text; the item has text_pair as well"
)
_NO_PAIR: Final = ItemError(
    code=Code.INVALID_ITEM, message="this model takes two texts; the item has no text_pair"
)
_FIRST: Final = ("a first text", "another one that is a little longer than the first")
_SECOND: Final = ("its pair", "and the pair of the other text")


class Tokens(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind",
    tag="tokens",
):  # fmt: skip
    """What the manifest says of it."""

    #: The file in the version's folder.
    file: str
    #: Longer texts are cut to this many tokens, the special ones included; of a pair the longer.
    max_tokens: Annotated[int, msgspec.Meta(ge=1)]
    #: The graph's inputs; it need not have the others.
    ids: str
    mask: str | None = None
    types: str | None = None
    #: The id that fills up short rows, and whether on their left.
    padding: Annotated[int, msgspec.Meta(ge=0)] = 0
    left: bool = False
    #: Whether an item has two texts.
    pairs: bool = False


class TokenPreprocessor:
    """Fills the graph's inputs, each [rows, tokens]."""

    def __init__(self, version: ModelVersion, how: dict[str, Any]) -> None:
        """Raises ModelDamaged."""
        self._how = msgspec.convert(how, Tokens)
        self._tokenizer = _tokenizer(version, self._how)
        dtypes = {one.name: np.dtype(one.dtype) for one in version.manifest.inputs}
        named = {self._how.ids, self._how.mask, self._how.types} - {None}
        if named != dtypes.keys():
            raise ModelDamaged(
                f"{version.path}: its preprocessing makes {sorted(map(str, named))}, and its "
                f"inputs are {sorted(dtypes)}; import or export it again"
            )
        self._dtypes = dtypes
        self.examples = [
            Item(id=text, text=text, text_pair=pair if self._how.pairs else None)
            for text, pair in zip(_FIRST, _SECOND, strict=True)
        ]

    def check(self, item: Item) -> ItemError | None:
        if item.text is None:
            given = "data" if item.data is not None else "tensors"
            return ItemError(
                code=Code.NOT_TEXT, message=f"this model takes texts only; the item has {given}"
            )
        if (item.text_pair is not None) is self._how.pairs:
            return None
        return _NO_PAIR if self._how.pairs else _PAIR

    def encode(self, items: Sequence[Item]) -> EncodedTokens:
        texts = [
            item.text or "" if item.text_pair is None else (item.text or "", item.text_pair)
            for item in items
        ]
        encoded = self._tokenizer.encode_batch_fast(texts)
        return EncodedTokens(encoded, self._how, self._dtypes)

    def pieces(self, item: Item) -> list[str]:
        """The tokens of its text, as the tokenizer writes them; for people."""
        return list(self._tokenizer.encode(item.text or "", item.text_pair).tokens)


class EncodedTokens:
    """The token ids of some texts."""

    def __init__(
        self, encoded: Sequence[Encoding], how: Tokens, dtypes: dict[str, np.dtype[Any]]
    ) -> None:
        self._encoded = encoded
        # A tokenizer without special tokens makes nothing of an empty text; a row has one at least.
        self.lengths = [len(one) or 1 for one in encoded]
        self._how = how
        self._dtypes = dtypes

    def arrays(self, batch: Batch) -> dict[str, npt.NDArray[Any]]:
        how = self._how
        made = {how.ids: self._rows(batch, how.ids, "ids", how.padding)}
        if how.mask:
            made[how.mask] = self._rows(batch, how.mask, "attention_mask", 0)
        if how.types:
            made[how.types] = self._rows(batch, how.types, "type_ids", 0)
        return made

    def _rows(self, batch: Batch, name: str, part: str, padding: int) -> npt.NDArray[Any]:
        matrix = np.full((batch.rows, batch.length), padding, self._dtypes[name])
        for row, position in enumerate(batch.positions):
            values = getattr(self._encoded[position], part)
            if self._how.left:
                matrix[row, batch.length - len(values) :] = values
            else:
                matrix[row, : len(values)] = values
        # Rows that only fill up repeat the first: one of padding alone has nothing to look at.
        matrix[len(batch.positions) :] = matrix[0]
        return matrix


def _tokenizer(version: ModelVersion, how: Tokens) -> Tokenizer:
    path, content = version.file(how.file), version.content(how.file)
    try:
        tokenizer = Tokenizer.from_buffer(content)
        tokenizer.no_padding()
        tokenizer.enable_truncation(how.max_tokens, strategy="longest_first")
    except Exception as error:  # it raises this class, and none of its own
        raise ModelDamaged(f"{path}: no tokenizer: {error}; copy the version again") from error
    return tokenizer
