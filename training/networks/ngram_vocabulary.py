"""Which words, pairs of words and pieces of words of the training texts have a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lmaas.workers.preprocess.ngrams import (
    Floats,
    Numbers,
    Vocabulary,
    neighbours,
    within,
    word_pieces,
)
from lmaas.workers.preprocess.text import Hashes, hashed

#: Texts that are counted together, for the memory.
TEXTS: Final = 4096


@dataclass(frozen=True, slots=True)
class Limits:
    """So many at most; those that most texts have are kept."""

    words: int
    pairs: int
    pieces: int

    @classmethod
    def of(cls, rows: int) -> Limits:
        """That fit into a table of so many rows."""
        return cls(min(rows // 4, 1 << 17), min(rows // 2, 1 << 19), min(rows // 5, 1 << 17))


def fitted(texts: Sequence[str], limits: Limits, max_tokens: int) -> tuple[Vocabulary, list[bytes]]:
    """The vocabulary of texts, and its words in order."""
    words, pairs = _Counts(), _Counts()
    spellings: dict[int, bytes] = {}
    for start in range(0, len(texts), TEXTS):
        found = hashed(texts[start : start + TEXTS])
        text, places = within(found.bounds, max_tokens)
        hashes = found.hashes[places]
        fresh, first = words.add(hashes, text)
        spellings.update(zip(fresh.tolist(), found.words(places[first]), strict=True))
        pairs.add(*neighbours(hashes, text))
    word_hashes, word_counts = words.most(limits.words)
    pair_hashes, pair_counts = pairs.most(limits.pairs)
    kept = [spellings[each] for each in word_hashes.tolist()]
    piece_hashes, piece_counts = _pieces(kept, word_counts, len(texts), limits.pieces)
    vocabulary = Vocabulary(
        words=word_hashes,
        pairs=pair_hashes,
        pieces=piece_hashes,
        word_weights=_weights(np.append(word_counts, 0), len(texts)),
        pair_weights=_weights(pair_counts, len(texts)),
        piece_weights=_weights(piece_counts, len(texts)),
    )
    return vocabulary, kept


class _Counts:
    """How many texts have each hash."""

    def __init__(self) -> None:
        self._hashes: Hashes = np.zeros(0, np.uint64)
        self._counts: Numbers = np.zeros(0, np.int64)

    def add(self, hashes: Hashes, text: Numbers) -> tuple[Hashes, Numbers]:
        """Of more texts. Returns the different hashes, and the first place of each."""
        different, first, number = np.unique(hashes, return_index=True, return_inverse=True)
        width = max(len(different), 1)
        counts = np.bincount(np.unique(text * width + number) % width, minlength=len(different))
        self._hashes, place = np.unique(
            np.concatenate([self._hashes, different]), return_inverse=True
        )
        both = np.concatenate([self._counts, counts])
        self._counts = np.bincount(place, weights=both, minlength=len(self._hashes)).astype(int)
        return different, first

    def most(self, limit: int) -> tuple[Hashes, Numbers]:
        """In the order of the hashes those that most texts have, all of a count or none."""
        return _most(self._hashes, self._counts, limit)


def _most(hashes: Hashes, counts: Numbers, limit: int) -> tuple[Hashes, Numbers]:
    if len(hashes) <= limit:
        return hashes, counts
    least = np.partition(counts, len(counts) - limit - 1)[len(counts) - limit - 1]
    kept = counts > least
    return hashes[kept], counts[kept]


def _pieces(words: list[bytes], counts: Numbers, texts: int, limit: int) -> tuple[Hashes, Numbers]:
    """A piece is in as many texts as its words, each counted alone."""
    hashes, word = word_pieces(words)
    different, number = np.unique(hashes, return_inverse=True)
    width = max(len(different), 1)
    owner, piece = np.divmod(np.unique(word * width + number), width)
    total = np.bincount(piece, weights=counts[owner], minlength=len(different))
    return _most(different, np.minimum(total, texts).astype(np.int64), limit)


def _weights(counts: Numbers, texts: int) -> Floats:
    """Inverse document frequencies: 1 for what all texts have."""
    found: Floats = (1 + np.log((1 + texts) / (1 + counts))).astype(np.float32)
    return found
