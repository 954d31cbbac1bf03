"""Text to word ids: the one tokenizer, for training and for serving.

A word is a run of letters, digits and marks. Case, accents, apostrophes and HTML line breaks do
not count; an ideograph, a kana or a symbol such as an emoji is a word by itself; everything else
separates words.

Tokenizing costs more than the model that follows, so a whole pack is done with array arithmetic:
word boundaries, then a 64-bit hash a word read eight bytes at a time, then a look-up by hash.
`benchmarks/tokenizers.py` has the alternatives that this was chosen from.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from lmaas.broker_config.errors import DataError

Ids = npt.NDArray[np.int32]
Hashes = npt.NDArray[np.uint64]
_Offsets = npt.NDArray[np.int64]

#: Id that fills rows up to a common length; no word has it.
PADDING = 0
#: Id of every word that the vocabulary does not have, and of a text without words.
UNKNOWN = 1
#: Id of the vocabulary's first word.
FIRST_WORD = 2
#: Words that agree in so many bytes of UTF-8 are the same word.
WORD_BYTES = 32

_SPACE = ord(" ")
#: What every byte becomes: ASCII letters in lower case, digits, and all bytes of longer UTF-8
#: sequences (`_fold` left only letters there) stay; the rest separates.
_BYTES = bytes(
    byte if byte >= 0x80 else ord(chr(byte).lower()) if chr(byte).isalnum() else _SPACE
    for byte in range(256)
)
_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_FOREIGN = re.compile(r"[^\x00-\x7f]+")
#: Room behind the last word, so that reading eight bytes at a time stays inside.
_TAIL = b" " * (WORD_BYTES + 8)
#: Keeps the first n bytes of a little-endian 64-bit read.
_FIRST_BYTES = np.array([(1 << 8 * n) - 1 for n in range(9)], np.uint64)
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio, odd
_HALF = np.uint64(32)


class WordTokenizer:
    """Turns texts into arrays of word ids.

    >>> WordTokenizer(["good", "film"], max_tokens=512)(["A GOOD film!", "..."])
    [array([1, 2, 3], dtype=int32), array([1], dtype=int32)]
    """

    def __init__(self, words: Sequence[str], max_tokens: int) -> None:
        """`words` in the order of their ids, the first one being FIRST_WORD.

        A word twice keeps its first id; one that the tokenizer never produces is never found.
        """
        self.words = list(words)
        self.max_tokens = max_tokens
        encoded = [word.encode("utf-8", "replace") for word in words]
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
        starts = np.cumsum(lengths + 1) - lengths - 1
        hashes = _hashes(b" ".join([*encoded, _TAIL]), starts, lengths)
        self._index = Index(hashes)

    @classmethod
    def load(cls, path: Path, max_tokens: int) -> Self:
        """Of the vocabulary in a file. Raises DataError when it cannot be read."""
        try:
            return cls.read(path.read_bytes(), max_tokens)
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"{path}: not a vocabulary ({error}); export the model again"
            ) from error

    @classmethod
    def read(cls, content: bytes, max_tokens: int) -> Self:
        """Of a vocabulary: UTF-8, one word a line, the first line being FIRST_WORD.

        Raises UnicodeDecodeError.
        """
        # As in any text file, the lines may end as those of Windows do.
        text = content.decode().replace("\r\n", "\n").replace("\r", "\n")
        return cls(text.removesuffix("\n").split("\n") if text else [], max_tokens)

    @classmethod
    def fit(cls, texts: Iterable[str], size: int, max_tokens: int) -> Self:
        """The `size` most frequent words of the texts; equals in alphabetical order."""
        counts: Counter[bytes] = Counter()
        for text in texts:
            counts.update(_clean(text).split())
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        short = (word.decode() for word in ranked if len(word) <= WORD_BYTES)
        return cls(list(islice(short, size)), max_tokens)

    def save(self, path: Path) -> None:
        """Write what `load` reads."""
        path.write_text("".join(f"{word}\n" for word in self.words), encoding="utf-8")

    def __call__(self, texts: Sequence[str]) -> list[Ids]:
        """One array of 1 to `max_tokens` ids a text, whatever the other texts are."""
        words = hashed(texts)
        ids = self._index(words.hashes)
        limit = self.max_tokens
        return [
            ids[first : min(last, first + limit)] if first < last else _no_word()
            for first, last in pairwise(words.bounds)
        ]


@dataclass(frozen=True, slots=True)
class HashedWords:
    """The words of some texts, all of them in a row."""

    hashes: Hashes
    #: The words of text `i` are those from `bounds[i]` to before `bounds[i + 1]`.
    bounds: list[int]
    _blob: bytes
    _starts: _Offsets
    _lengths: _Offsets

    def words(self, places: npt.NDArray[np.int64]) -> list[bytes]:
        """The words at these places in UTF-8, as far as their hashes tell them apart."""
        starts, lengths = self._starts[places], np.minimum(self._lengths[places], WORD_BYTES)
        return [
            self._blob[start : start + length]
            for start, length in zip(starts.tolist(), lengths.tolist(), strict=True)
        ]


def hashed(texts: Sequence[str]) -> HashedWords:
    """The words of texts by their hashes."""
    cleaned = [_clean(text) for text in texts]
    blob = b" ".join([*cleaned, _TAIL])
    starts, lengths = _boundaries(blob)
    ends = np.cumsum([len(text) + 1 for text in cleaned])
    bounds = [0, *starts.searchsorted(ends).tolist()]
    return HashedWords(_hashes(blob, starts, lengths), bounds, blob, starts, lengths)


class Index:
    """Finds ids by hash: hashes in order, and where each prefix of them begins.

    The id of the first hash is FIRST_WORD; what is not there has the id UNKNOWN.
    """

    def __init__(self, hashes: Hashes) -> None:
        self._hashes, first = np.unique(hashes, return_index=True)
        self._ids = np.append(first + FIRST_WORD, UNKNOWN).astype(np.int32)
        # The sentinel is greater than or equal to every hash, so that a search ends there.
        self._hashes = np.append(self._hashes, np.uint64(2**64 - 1))
        bits = max(8, len(hashes).bit_length() + 2)  # about one prefix in six is in use
        self._shift = np.uint64(64 - bits)
        prefixes = np.arange(2**bits, dtype=np.uint64) << self._shift
        self._begin = self._hashes.searchsorted(prefixes)

    def __call__(self, hashes: Hashes) -> Ids:
        place = self._begin[hashes >> self._shift]
        late = np.flatnonzero(self._hashes[place] < hashes)
        while late.size:
            place[late] += 1
            late = late[self._hashes[place[late]] < hashes[late]]
        ids: Ids = np.where(self._hashes[place] == hashes, self._ids[place], np.int32(UNKNOWN))
        return ids


def _clean(text: str) -> bytes:
    """Lower-case UTF-8 with words separated by spaces."""
    if not text.isascii():
        text = _FOREIGN.sub(_fold, text)
    if "<" in text:
        text = _BREAK.sub(" ", text)
    return text.encode().translate(_BYTES, b"'")


def _boundaries(blob: bytes) -> tuple[_Offsets, _Offsets]:
    """Where each word of `blob`, which ends with a space, begins; and its bytes."""
    ends = np.flatnonzero(np.frombuffer(blob, np.uint8) == _SPACE)
    starts = np.empty_like(ends)
    starts[0] = 0
    np.add(ends[:-1], 1, out=starts[1:])
    lengths = ends - starts
    words = np.flatnonzero(lengths)
    return starts[words], lengths[words]


def _hashes(blob: bytes, starts: _Offsets, lengths: _Offsets) -> Hashes:
    """64-bit hash of each word; `blob` ends with `_TAIL`."""
    # A 64-bit number at every byte; words hold no zero bytes, so a masked one stands for itself.
    reads = np.ndarray((len(blob) - 7,), "<u8", blob, strides=(1,))
    hashes = mixed(reads[starts] & _FIRST_BYTES[np.minimum(lengths, 8)])
    offset = 8
    longer = np.flatnonzero(lengths > offset)
    while longer.size and offset < WORD_BYTES:
        rest = _FIRST_BYTES[np.minimum(lengths[longer] - offset, 8)]
        hashes[longer] = mixed(hashes[longer] ^ (reads[starts[longer] + offset] & rest))
        offset += 8
        longer = longer[lengths[longer] > offset]
    return hashes


def mixed(numbers: Hashes) -> Hashes:
    """Spread every bit over the upper half, then over the lower; no two numbers meet."""
    numbers = numbers * _MULTIPLIER
    return numbers ^ (numbers >> _HALF)


def _no_word() -> Ids:
    return np.full(1, UNKNOWN, np.int32)


class _Fold(dict[int, str]):
    """What a character outside ASCII becomes: a table for `str.translate` that fills itself.

    It looks at one character at a time, never at its neighbours, so that a text may be cut or
    joined anywhere, and so that accents that are typed as separate marks cost no more.
    """

    def __missing__(self, code: int) -> str:
        if len(self) >= 1 << 16:
            self.clear()
        folded = self[code] = _fold_character(code)
        return folded


_TABLE = _Fold()


def _fold(match: re.Match[str]) -> str:
    return match[0].translate(_TABLE)


def _fold_character(code: int) -> str:
    """Lower case without accents; nothing for marks of style; spaces around what stands alone."""
    if code == 0x200B:  # zero width space
        return " "
    if unicodedata.category(chr(code)) == "Cf" or 0xFE00 <= code <= 0xFE0F:
        return ""  # soft hyphens, joiners, directions, variation selectors
    if code in _QUOTES:
        return "'"
    decomposed = unicodedata.normalize("NFKD", chr(code)).casefold()
    kept = "".join(c for c in decomposed if not _is_accent(ord(c)))
    return "".join(_placed(c) for c in unicodedata.normalize("NFC", kept))


_QUOTES = frozenset(map(ord, "‘’‛ʼʹ′＇"))


def _is_accent(code: int) -> bool:
    """Diacritics of Latin, Greek and Cyrillic, and the voicing marks of kana."""
    return 0x0300 <= code <= 0x036F or code in (0x3099, 0x309A)


def _placed(character: str) -> str:
    category = unicodedata.category(character)
    if category == "So" or _is_east_asian(ord(character)):
        return f" {character} "
    return character if category[0] in "LMN" or character.isascii() else " "


def _is_east_asian(code: int) -> bool:
    """Kana and ideographs: scripts without spaces."""
    return 0x3041 <= code <= 0x30FF or 0x3400 <= code <= 0x9FFF or 0x20000 <= code <= 0x3FFFF
