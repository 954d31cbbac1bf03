"""Texts as rows of weighted n-grams: the kind "ngrams".

A text is its words, the pairs of neighbouring words, and, of words that training did not see, the
n-grams of their characters ("pieces"). Each has the number of a row of the graph's table, and a
weight: TF-IDF with a logarithmic term frequency, by which the text's weights of words and pairs
together have the length 1.

As in `lmaas.workers.preprocess.text`, a whole pack is done with array arithmetic.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from lmaas.broker_config.codes import Code
from lmaas.broker_config.errors import ModelDamaged
from lmaas.broker_config.messages import Item, ItemError
from lmaas.workers.batcher import Batch
from lmaas.workers.model_version import ModelVersion
from lmaas.workers.preprocess.text import FIRST_WORD, Hashes, Index, hashed, mixed

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]

#: The row of the table that is all zeros: what fills rows up to a common length.
FILLING: Final = 0
#: Characters of the shortest and of the longest piece of a word, of which a blank at either end of
#: the word is one.
PIECES: Final = (2, 5)
_BLANK: Final = ord(" ")
_SECOND: Final = np.uint64(0xD6E8FEB86659FD93)  # odd, so that the order of a pair's words counts

_PAIR: Final = ItemError(
    code=Code.INVALID_ITEM,
    message="this model takes one text; the item has text_pair (a file's pair column) as well",
)


class NGrams(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind",
    tag="ngrams",
):  # fmt: skip
    """What the manifest says of it."""

    #: The file in the version's folder with the vocabulary.
    file: str
    #: Longer texts are cut to this many words.
    max_tokens: Annotated[int, msgspec.Meta(ge=1)]
    #: The graph's two inputs, both [texts, n-grams]: the numbers of rows, and their weights.
    rows: str = "rows"
    weights: str = "weights"


@dataclass(frozen=True, slots=True)
class Sparse:
    """A matrix of which most is 0: row `i` has `values` in `columns` from `bounds[i]` on."""

    bounds: Numbers
    columns: Numbers
    values: Floats

    def __len__(self) -> int:
        return len(self.bounds) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """The n-grams that have a row in the table, by their hashes: words, then pairs, then pieces."""

    words: Hashes
    pairs: Hashes
    pieces: Hashes
    #: Inverse document frequencies; that of a word that is not there comes after all words.
    word_weights: Floats
    pair_weights: Floats
    piece_weights: Floats

    @property
    def rows(self) -> int:
        """Of the table, FILLING included."""
        return 1 + len(self.words) + len(self.pairs) + len(self.pieces)

    def save(self, path: Path) -> None:
        np.savez(path, **{name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def read(cls, content: bytes) -> Vocabulary:
        """What `save` wrote. Raises ValueError."""
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                found = cls(**{name: file[name] for name in cls.__slots__})
        except (KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(str(error)) from error
        for name in cls.__slots__:
            array = getattr(found, name)
            told = np.dtype(np.float32 if name.endswith("_weights") else np.uint64)
            if array.ndim != 1 or array.dtype != told:
                raise ValueError(f"{name} is {array.dtype}{list(array.shape)}")
        given = [len(one) for one in (found.words, found.pairs, found.pieces)]
        weights = found.word_weights, found.pair_weights, found.piece_weights
        if [given[0] + 1, *given[1:]] != [len(one) for one in weights]:
            raise ValueError("it has not one weight an n-gram")
        return found


class NGramWeights:
    """Texts to the weights of the table's rows, [texts, rows of the table]. For one thread."""

    def __init__(self, vocabulary: Vocabulary, max_tokens: int) -> None:
        self.vocabulary = vocabulary
        self.max_tokens = max_tokens
        self._words = Index(vocabulary.words)
        self._pairs = Index(vocabulary.pairs)
        self._pieces = Index(vocabulary.pieces)
        self._first_pair = 1 + len(vocabulary.words)
        self._first_piece = self._first_pair + len(vocabulary.pairs)

    def __call__(self, texts: Sequence[str]) -> Sparse:
        """A text's weights do not depend on the other texts."""
        found = hashed(texts)
        text, places = within(found.bounds, self.max_tokens)
        hashes = found.hashes[places]
        word, unknown, first = self._numbered(hashes)
        vocabulary = self.vocabulary
        idf = vocabulary.word_weights
        idf = np.append(idf, np.full(max(len(unknown) - 1, 0), idf[-1]))
        words = _weighted(text, word, idf)
        pair, pair_text = neighbours(hashes, text)
        number = _found(self._pairs, pair)
        known = number >= 0
        pairs = _weighted(pair_text[known], number[known], vocabulary.pair_weights)
        norms = np.sqrt(_squares(words, len(texts)) + _squares(pairs, len(texts)))
        words, pairs = words.over(norms), pairs.over(norms)
        seen = words.column < len(vocabulary.words)
        parts = [
            words.take(seen).moved(1),
            pairs.moved(self._first_pair),
            self._of_pieces(words.take(~seen), found.words(places[first])),
        ]
        return _together(parts, len(texts))

    def pieces(self, words: Sequence[bytes]) -> Sparse:
        """The weights of each word's pieces, [words, pieces], together of the length 1."""
        hashes, word = word_pieces(words)
        number = _found(self._pieces, hashes)
        known = number >= 0
        entries = _weighted(word[known], number[known], self.vocabulary.piece_weights)
        return _together([entries.over(np.sqrt(_squares(entries, len(words))))], len(words))

    def _numbered(self, hashes: Hashes) -> tuple[Numbers, Hashes, Numbers]:
        """The number of each word; those that are not in the vocabulary come after it, and of each
        of them the hash and its first place."""
        word = _found(self._words, hashes)
        missing = np.flatnonzero(word < 0)
        unknown, first, inverse = np.unique(hashes[missing], return_index=True, return_inverse=True)
        word[missing] = len(self.vocabulary.words) + inverse
        return word, unknown, missing[first]

    def _of_pieces(self, unknown: _Entries, words: Sequence[bytes]) -> _Entries:
        """Of each text the weights of the pieces of its unknown words, a piece once."""
        pieces = self.pieces(words)
        word = unknown.column - len(self.vocabulary.words)
        counts: Numbers = np.subtract(pieces.bounds[word + 1], pieces.bounds[word])
        entry = np.repeat(np.arange(len(word)), counts)
        place = np.arange(len(entry)) - np.repeat(np.cumsum(counts) - counts, counts)
        place += pieces.bounds[word[entry]]
        values = unknown.value[entry] * pieces.values[place]
        width = max(len(self.vocabulary.pieces), 1)
        key = unknown.text[entry] * width + pieces.columns[place]
        keys, inverse = np.unique(key, return_inverse=True)
        total = np.bincount(inverse, weights=values, minlength=len(keys))
        return _Entries(*np.divmod(keys, width), total.astype(np.float32)).moved(self._first_piece)


def within(bounds: Sequence[int], most: int) -> tuple[Numbers, Numbers]:
    """Of the first `most` words of each text: its text, and its place among all words."""
    ends = np.asarray(bounds, np.int64)
    counts: Numbers = np.subtract(ends[1:], ends[:-1])
    text = np.repeat(np.arange(len(counts)), counts)
    places = np.arange(len(text))
    if counts.size and counts.max() > most:
        kept = places - np.asarray(bounds)[text] < most
        return text[kept], places[kept]
    return text, places


def neighbours(hashes: Hashes, text: Numbers) -> tuple[Hashes, Numbers]:
    """The hash of each pair of neighbouring words of one text, and that text."""
    same = np.flatnonzero(text[1:] == text[:-1])
    return mixed(hashes[same] * _SECOND + hashes[same + 1]), text[same]


def word_pieces(words: Sequence[bytes]) -> tuple[Hashes, Numbers]:
    """The hash of each piece of each word (UTF-8, without blanks), and the number of its word."""
    joined = b" ".join([b"", *words, b""]).decode("utf-8", "ignore")
    shortest, longest = PIECES
    codes = np.frombuffer((joined + " " * longest).encode("utf-32-le"), "<u4").astype(np.uint64)
    blank = codes == _BLANK
    letters = len(joined)
    # A blank belongs to the word after it, and ends the one before it.
    word = np.cumsum(blank[:letters]) - 1
    hashes = mixed(codes[:letters])
    # Where a blank, other than the first character, has ended the word: nothing begins after it.
    whole = np.ones(letters, bool)
    found, owners = [], []
    for length in range(2, longest + 1):
        if length > 2:
            whole &= ~blank[length - 2 : length - 2 + letters]
        hashes = mixed(hashes ^ (codes[length - 1 : length - 1 + letters] + np.uint64(length)))
        if length >= shortest:
            places = np.flatnonzero(whole & (word < len(words)))
            found.append(hashes[places])
            owners.append(word[places])
    return np.concatenate(found), np.concatenate(owners)


@dataclass(frozen=True, slots=True)
class _Entries:
    """Places of a sparse matrix, in any order."""

    text: Numbers
    column: Numbers
    value: Floats

    def take(self, chosen: npt.NDArray[np.bool_]) -> _Entries:
        return _Entries(self.text[chosen], self.column[chosen], self.value[chosen])

    def moved(self, by: int) -> _Entries:
        return _Entries(self.text, self.column + by, self.value)

    def over(self, norms: Floats) -> _Entries:
        return _Entries(self.text, self.column, self.value / norms[self.text])


def _weighted(text: Numbers, number: Numbers, idf: Floats) -> _Entries:
    """An entry for each number that a text has: 1 + ln(its count), times its idf."""
    width = max(len(idf), 1)
    keys, counts = np.unique(text * width + number, return_counts=True)
    texts, numbers = np.divmod(keys, width)
    values = (1 + np.log(counts, dtype=np.float32)) * idf[numbers]
    return _Entries(texts, numbers, values.astype(np.float32))


def _squares(entries: _Entries, texts: int) -> Floats:
    total = np.bincount(entries.text, weights=entries.value**2, minlength=texts)
    return total.astype(np.float32)


def _found(index: Index, hashes: Hashes) -> Numbers:
    """The place of each hash in the vocabulary, -1 for none."""
    ids = index(hashes).astype(np.int64)
    return np.where(ids >= FIRST_WORD, ids - FIRST_WORD, -1)


def _together(parts: Sequence[_Entries], rows: int) -> Sparse:
    text = np.concatenate([part.text for part in parts])
    order = np.argsort(text, kind="stable")
    counts = np.bincount(text, minlength=rows)
    return Sparse(
        np.append(0, np.cumsum(counts)).astype(np.int64),
        np.concatenate([part.column for part in parts])[order],
        np.concatenate([part.value for part in parts])[order],
    )


# --- serving -------------------------------------------------------------------------------------


class NGramPreprocessor:
    """Fills the graph's two inputs."""

    examples: Final = (
        Item(id="1", text="a first text"),
        Item(id="2", text="another one that is a little longer than the first"),
    )

    def __init__(self, version: ModelVersion, how: dict[str, Any]) -> None:
        """Raises ModelDamaged."""
        self._how = msgspec.convert(how, NGrams)
        try:
            vocabulary = Vocabulary.read(version.content(self._how.file))
        except ValueError as error:
            raise ModelDamaged(
                f"{version.file(self._how.file)}: not a vocabulary of n-grams ({error}); export "
                "the model again"
            ) from error
        self._weights = NGramWeights(vocabulary, self._how.max_tokens)

    def check(self, item: Item) -> ItemError | None:
        if item.text is None:
            given = "data" if item.data is not None else "tensors"
            return ItemError(
                code=Code.NOT_TEXT, message=f"this model takes texts only; the item has {given}"
            )
        return None if item.text_pair is None else _PAIR

    def encode(self, items: Sequence[Item]) -> EncodedNGrams:
        return EncodedNGrams(self._weights([item.text or "" for item in items]), self._how)


class EncodedNGrams:
    """The weighted n-grams of some texts."""

    def __init__(self, matrix: Sparse, how: NGrams) -> None:
        self.lengths = np.maximum(np.diff(matrix.bounds), 1).tolist()
        self._matrix = matrix
        self._how = how

    def arrays(self, batch: Batch) -> dict[str, npt.NDArray[Any]]:
        rows = np.full((batch.rows, batch.length), FILLING, np.int32)
        weights = np.zeros((batch.rows, batch.length), np.float32)
        matrix = self._matrix
        for row, position in enumerate(batch.positions):
            start, stop = matrix.bounds[position : position + 2]
            rows[row, : stop - start] = matrix.columns[start:stop]
            weights[row, : stop - start] = matrix.values[start:stop]
        return {self._how.rows: rows, self._how.weights: weights}
