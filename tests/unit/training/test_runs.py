from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from lmaas.training.networks.batches import SENTENCES_WEIGHT, Beside, training
from lmaas.training.networks.runs import LONGEST, WEIGHT, Runs
from lmaas.workers.preprocess.text import WordTokenizer

#: Five sentences, ends and breaks of all kinds, and between them a sentence without a word.
TEXT = 'one two. three "four!" ... (five?) six\nseven<br /><br />eight nine ten'
SENTENCES = [
    ["one", "two"],
    ["three", "four"],
    ["five"],
    ["six"],
    ["seven"],
    ["eight", "nine", "ten"],
]
WORDS = [word for sentence in SENTENCES for word in sentence]


def runs(texts: list[str], max_tokens: int = 100) -> tuple[WordTokenizer, Runs]:
    tokenizer = WordTokenizer(WORDS, max_tokens)
    return tokenizer, Runs(texts, tokenizer(texts), seed=3)


def seen(of: Runs, text: int = 0, times: int = 300) -> set[tuple[str, ...]]:
    """All runs of a text that come up."""
    cut, _ = of.of(np.full(times, text))
    return {tuple(WORDS[number - 2] for number in run) for run in cut}


def test_runs_are_neighbouring_sentences_and_all_of_them_come_up() -> None:
    _, of = runs([TEXT])
    expected = {
        tuple(word for sentence in SENTENCES[first : first + count] for word in sentence)
        for count in range(1, LONGEST + 1)
        for first in range(len(SENTENCES) - count + 1)
    }
    assert seen(of) == expected


def test_a_run_is_never_the_whole_text() -> None:
    _, of = runs(["one. two.", "one two three", "...", ""])
    assert seen(of) == {("one",), ("two",)}
    cut, whose = of.of(np.array([1, 0, 2, 3]))
    assert (len(cut), whose.tolist()) == (1, [0])


def test_what_is_cut_off_a_long_text_is_in_no_run() -> None:
    _, of = runs([TEXT], max_tokens=5)
    assert seen(of) == {
        ("one", "two"), ("three", "four"), ("five",),
        ("one", "two", "three", "four"), ("three", "four", "five"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("texts", "several"),
    [([TEXT, TEXT, "one"], True), ([TEXT, "one", "two"], False), (["one. two. three."], False)],
)
def test_half_of_the_texts_have_to_have_several_sentences(texts: list[str], several: bool) -> None:
    assert runs(texts)[1].several is several


def test_a_batch_has_its_texts_and_then_a_run_of_each() -> None:
    texts = [TEXT, "one two", "ten. nine"]
    tokenizer, of = runs(texts)
    ids = tokenizer(texts)
    labels: npt.NDArray[np.int32] = np.array([0, 1, 2], np.int32)
    ((matrix, truth, weights),) = training(ids, labels, 3, 17, Beside(of)).take(1)
    assert weights.numpy() == pytest.approx([1, 1, 1, WEIGHT, WEIGHT])
    numbers = truth.numpy().tolist()
    assert sorted(numbers[:3]) == [0, 1, 2]
    assert sorted(numbers[3:]) == [0, 2], "of a single sentence there is none"
    for row, label, weight in zip(matrix.numpy(), numbers, weights.numpy(), strict=True):
        words, whole = row[row > 0].tolist(), ids[label].tolist()
        assert (words == whole) == (weight == 1)
        assert any(whole[at : at + len(words)] == words for at in range(len(whole)))


def test_sentences_are_dealt_out_to_the_batches_and_all_of_them_come_up_once() -> None:
    texts = [TEXT, "one two", "ten. nine", "four"]
    tokenizer, of = runs(texts)
    alone = tokenizer(["five", "six", "seven", "eight", "nine"])
    beside = Beside(of, alone, np.full(5, 9, np.int32))
    labels: npt.NDArray[np.int32] = np.array([0, 1, 2, 3], np.int32)
    epoch = list(training(tokenizer(texts), labels, 2, 17, beside).take(2))
    dealt = []
    for matrix, truth, weights in epoch:
        found = truth.numpy() == 9
        assert (~found[:2]).all(), "its texts are first"
        assert weights.numpy()[found] == pytest.approx(SENTENCES_WEIGHT * 4 / 5)
        dealt += [row[row > 0].tolist() for row in matrix.numpy()[found]]
    assert sorted(dealt) == sorted(ids.tolist() for ids in alone)
    of_texts = np.concatenate([truth.numpy()[:2] for _, truth, _ in epoch])
    assert sorted(of_texts.tolist()) == [0, 1, 2, 3]
