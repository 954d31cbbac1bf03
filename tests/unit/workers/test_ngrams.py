"""Texts as weighted n-grams, against the same in plain Python."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmaas.workers.preprocess.ngrams import (
    PIECES,
    NGramWeights,
    Sparse,
    Vocabulary,
    neighbours,
    within,
    word_pieces,
)
from lmaas.workers.preprocess.text import hashed

WORDS = ["good", "film", "bad", "é", "ну"]
PAIRS = [("good", "film"), ("bad", "film")]
#: Words whose pieces are in the vocabulary.
TAKEN = ["goodness", "films"]


def _pieces(word: str) -> list[str]:
    padded = f" {word} "
    return [
        padded[start : start + length]
        for length in range(PIECES[0], PIECES[1] + 1)
        for start in range(len(padded) - length + 1)
    ]


def _vocabulary() -> tuple[Vocabulary, list[str]]:
    words = hashed(WORDS).hashes
    order = np.argsort(words)
    found = [hashed([" ".join(pair)]) for pair in PAIRS]
    pairs = np.concatenate([neighbours(one.hashes, np.zeros(2, np.int64))[0] for one in found])
    pieces, _ = word_pieces([word.encode() for word in TAKEN])
    pieces = np.unique(pieces)
    vocabulary = Vocabulary(
        words=words[order],
        pairs=np.sort(pairs),
        pieces=pieces,
        word_weights=np.linspace(1, 2, len(WORDS) + 1, dtype=np.float32),
        pair_weights=np.full(len(PAIRS), 3, np.float32),
        piece_weights=np.linspace(1, 4, len(pieces), dtype=np.float32),
    )
    return vocabulary, [WORDS[place] for place in order]


VOCABULARY, ORDER = _vocabulary()
WEIGHTS = NGramWeights(VOCABULARY, 1000)


def rows_of(matrix: Sparse) -> list[dict[int, float]]:
    return [
        dict(zip(matrix.columns[a:b].tolist(), matrix.values[a:b].tolist(), strict=True))
        for a, b in zip(matrix.bounds, matrix.bounds[1:], strict=False)
    ]


def test_words_and_pairs_have_their_weights_and_together_the_length_1() -> None:
    (row,) = rows_of(WEIGHTS(["good film, GOOD film"]))
    idf = dict(zip(ORDER, VOCABULARY.word_weights.tolist(), strict=False))
    twice = 1 + math.log(2)
    # "film good" has no row.
    expected = Counter(
        {
            1 + ORDER.index("good"): twice * idf["good"],
            1 + ORDER.index("film"): twice * idf["film"],
        }
    )
    pair = hashed(["good film"]).hashes
    number = VOCABULARY.pairs.searchsorted(neighbours(pair, np.zeros(2, np.int64))[0])
    expected[1 + len(WORDS) + int(number[0])] = twice * 3
    norm = math.sqrt(sum(value**2 for value in expected.values()))
    assert row == pytest.approx({key: value / norm for key, value in expected.items()})


def test_an_unknown_word_is_taken_to_pieces() -> None:
    (row,) = rows_of(WEIGHTS(["goodness"]))
    first = 1 + len(WORDS) + len(PAIRS)
    assert len(row) == len(_pieces("goodness"))
    assert min(row) >= first
    assert sum(value**2 for value in row.values()) == pytest.approx(1)
    assert rows_of(WEIGHTS(["xyz"])) == [{}]


@pytest.mark.parametrize("word", ["a", "ab", "goodness", "é", "ну", "東京都", "a" * 32])
def test_pieces_are_those_of_characters(word: str) -> None:
    hashes, owners = word_pieces([b"before", word.encode(), b"after"])
    assert (owners == 1).sum() == len(_pieces(word))
    alone, _ = word_pieces([word.encode()])
    assert sorted(hashes[owners == 1].tolist()) == sorted(alone.tolist())
    assert len(np.unique(alone)) == len(set(_pieces(word)))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.text("ab éну東!🙂'<br/>", max_size=40),
            st.lists(st.sampled_from([*WORDS, *TAKEN, "oth", "er"]), max_size=8).map(" ".join),
        ),
        max_size=6,
    )
)
def test_a_text_does_not_depend_on_its_neighbours(texts: list[str]) -> None:
    together = rows_of(WEIGHTS(texts))
    assert together == [row for text in texts for row in rows_of(WEIGHTS([text]))]
    for row in together:
        assert all(0 < number < VOCABULARY.rows for number in row)
        assert all(map(math.isfinite, row.values()))


def test_a_long_text_is_cut() -> None:
    short = NGramWeights(VOCABULARY, 2)
    assert rows_of(short(["good film bad bad", "bad"])) == rows_of(WEIGHTS(["good film", "bad"]))
    assert within([0, 3, 3, 4], 2)[1].tolist() == [0, 1, 3]


def test_a_vocabulary_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "ngrams.npz"
    VOCABULARY.save(path)
    read = Vocabulary.read(path.read_bytes())
    for name in Vocabulary.__slots__:
        assert np.array_equal(getattr(read, name), getattr(VOCABULARY, name))


def test_what_is_no_vocabulary_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ngrams.npz"
    VOCABULARY.save(path)
    content = path.read_bytes()
    for damaged in (b"", b"no", content[: len(content) // 2]):
        with pytest.raises(ValueError, match=r"."):
            Vocabulary.read(damaged)
    arrays = {name: getattr(VOCABULARY, name) for name in Vocabulary.__slots__}
    np.savez(path, **arrays | {"word_weights": VOCABULARY.word_weights[:-1]})
    with pytest.raises(ValueError, match="one weight an n-gram"):
        Vocabulary.read(path.read_bytes())
    np.savez(path, **arrays | {"pairs": VOCABULARY.pairs.astype(np.int64)})
    with pytest.raises(ValueError, match="pairs is int64"):
        Vocabulary.read(path.read_bytes())
