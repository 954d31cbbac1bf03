from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmaas.broker_config.errors import DataError
from lmaas.workers.preprocess import text as module
from lmaas.workers.preprocess.text import FIRST_WORD, UNKNOWN, WORD_BYTES, WordTokenizer

#: Of one or two letters, so that known words, unknown ones and separators all turn up often.
WORDS = ["a", "b", "ab", "é", "ß", "strasse", "中", "😀", "don", "1", "ab" * 8, "ba" * 12, "c" * 32]
PIECES = st.sampled_from(
    [*WORDS, *map(str.upper, WORDS), " ", "  ", "\n", "\0", "'", "’", "-", "<br />", "<BR>", "<",
     "br", "\ud800", "İ", "e\u0301", "\u00ad", "\u200b", "\u2028", "½", "ﬁ"]
)  # fmt: skip
TEXTS = st.one_of(
    st.lists(PIECES, max_size=12).map("".join),
    st.text(st.characters(exclude_categories=[]), max_size=60),
)


def tokenizer(max_tokens: int = 512) -> WordTokenizer:
    return WordTokenizer([*WORDS, "e", "i", "fi", "cafe", "istanbul", "2", "co", "op"], max_tokens)


def ids_of(text: str, words: WordTokenizer) -> list[int]:
    """The same by plain means: every character through the table, one word at a time."""
    folded = "".join(module._TABLE[ord(c)] if ord(c) > 127 else c for c in text)
    folded = module._BREAK.sub(" ", folded)
    kept = "".join(
        c.lower() if c.isalnum() or ord(c) > 127 else " " for c in folded.replace("'", "")
    )
    # Above ASCII `_TABLE` has left nothing that separates, and nothing in upper case.
    known = {word.encode()[:WORD_BYTES]: i for i, word in reversed([*enumerate(words.words)])}
    found = [known.get(word.encode()[:WORD_BYTES], -1) for word in kept.split(" ") if word]
    return [UNKNOWN if i < 0 else FIRST_WORD + i for i in found][: words.max_tokens] or [UNKNOWN]


@given(st.lists(TEXTS, max_size=8))
def test_every_text_gets_the_ids_of_the_plain_way_whatever_its_neighbours(texts: list[str]) -> None:
    words = tokenizer(max_tokens=9)
    assert [ids.tolist() for ids in words(texts)] == [ids_of(text, words) for text in texts]


@given(TEXTS)
def test_the_fast_path_for_ascii_is_the_general_path(text: str) -> None:
    # A character outside ASCII that becomes a space sends the text through the general path.
    words = tokenizer()
    plain = text.encode("ascii", "ignore").decode()
    fast, general = words([plain, plain + " \u2014"])
    assert fast.tolist() == general.tolist()


@given(TEXTS, TEXTS)
def test_folding_a_character_does_not_depend_on_its_neighbours(left: str, right: str) -> None:
    if "<" not in left:  # a line break may lie across the seam
        assert module._clean(left + right) == module._clean(left) + module._clean(right)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("CAFÉ", "cafe"),
        ("cafe\u0301", "café"),
        ("İSTANBUL", "istanbul"),
        ("Straße", "STRASSE"),
        ("ﬁ", "fi"),
        ("ＡＢ", "ab"),
        ("a\u00adb", "ab"),
        ("don’", "don'"),
        ("中b", "中 b"),
        ("b😀b", "b 😀 b"),
        ("👍🏽", "👍"),
        ("a<br /><br />b", "a b"),
        ("a<BR/>b", "a b"),
        ("a\0b", "a b"),
        ("a\ud800b", "a b"),
        ("a\u200bb", "a b"),
        ("²", "2"),
        ("co-op", "co op"),
        ("か\u3099", "が"),
    ],
)
def test_these_mean_the_same(text: str, same: str) -> None:
    assert module._clean(text).split() == module._clean(same).split()
    assert tokenizer()([text])[0].tolist() == tokenizer()([same])[0].tolist()


@pytest.mark.parametrize("text", ["नमस्ते", "한국어", "привет", "สวัสดี"])
def test_marks_do_not_cut_words_of_other_scripts(text: str) -> None:
    assert len(module._clean(text).split()) == 1
    assert WordTokenizer.fit([text], 10, 10)([text])[0].tolist() == [FIRST_WORD]


@pytest.mark.parametrize("text", ["", " ", "...", "\0", "\ud800\udfff", "<br />", "\u0301", "'"])
def test_a_text_without_words_is_one_unknown_word(text: str) -> None:
    assert [ids.tolist() for ids in tokenizer()([text, "a"])] == [[UNKNOWN], [FIRST_WORD]]


def test_no_texts_give_no_ids() -> None:
    assert tokenizer()([]) == []


def test_ids_are_int32_and_cut_to_max_tokens() -> None:
    ids = tokenizer(max_tokens=3)(["a " * 1000, "b"])
    assert [each.dtype for each in ids] == [np.int32, np.int32]
    assert [each.tolist() for each in ids] == [[FIRST_WORD] * 3, [FIRST_WORD + 1]]


def test_long_words_are_known_by_their_first_bytes() -> None:
    words = WordTokenizer(["x" * WORD_BYTES], max_tokens=5)
    found = words(["x" * WORD_BYTES, "x" * 50, "x" * (WORD_BYTES - 1)])
    assert [ids.tolist() for ids in found] == [[FIRST_WORD], [FIRST_WORD], [UNKNOWN]]


@pytest.mark.parametrize("text", ["x" * 10**6, "é" * 10**6, "\u0301\u0316" * 10**6, "a " * 10**6])
def test_a_million_characters_take_no_time(text: str) -> None:
    start = time.process_time()
    tokenizer()([text])
    assert time.process_time() - start < 2  # quadratic work would be hours


def test_fit_takes_the_most_frequent_words_and_equals_in_alphabetical_order() -> None:
    words = WordTokenizer.fit(["b a c", "C b", "d " + "z" * 33 + " " + "z" * 33], 3, 10)
    assert words.words == ["b", "c", "a"]


def test_a_saved_vocabulary_gives_the_same_ids(tmp_path: Path) -> None:
    words = tokenizer()
    words.save(tmp_path / "words.txt")
    loaded = WordTokenizer.load(tmp_path / "words.txt", 512)
    text = " ".join(WORDS)
    assert loaded.words == words.words
    assert loaded([text])[0].tolist() == words([text])[0].tolist()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a\nb\n", [2, 3]),
        ("a\nb", [2, 3]),
        ("a\r\nb\r\n", [2, 3]),
        ("a\n\n\nb\n", [2, 5]),
        ("a\na\nb\n", [2, 4]),
        ("A\nNew York\nb\n", [1, 4]),
        ("a\u2028b\n\u0085\nb\n", [1, 4]),
        ("", [1, 1]),
        ("\n" * 100_000 + "a\nb", [100_002, 100_003]),
    ],
)
def test_odd_lines_in_a_vocabulary_keep_their_ids(
    tmp_path: Path, content: str, expected: list[int]
) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes(content.encode())
    assert WordTokenizer.load(path, 10)(["a b"])[0].tolist() == expected


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_an_unreadable_vocabulary_says_which(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "words.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"words\.txt.*export the model again"):
        WordTokenizer.load(path, 10)


def test_thousands_of_words_are_told_apart() -> None:
    names = [f"w{i * 7919}" for i in range(50_000)]
    found = WordTokenizer(names, max_tokens=len(names))([" ".join(names)])[0]
    assert found.tolist() == list(range(FIRST_WORD, FIRST_WORD + len(names)))
