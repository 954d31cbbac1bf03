from __future__ import annotations

from collections import Counter

import numpy as np

from lmaas.training.datasets.dataset import Dataset, Split, text_items
from lmaas.training.opinions import opinions, with_opinions
from lmaas.workers.preprocess.text import WordTokenizer


def test_sentences_are_the_same_every_time_and_none_is_of_both_kinds() -> None:
    made = list(opinions())
    assert made == list(opinions())
    sentences = [sentence for sentence, _ in made]
    assert len(set(sentences)) > 20_000
    assert not any("{" in sentence or "}" in sentence for sentence in sentences)
    # Case and punctuation are no difference to a network.
    tokenizer = WordTokenizer.fit(sentences, 5000, 100)
    numbers = zip(map(bytes, tokenizer(sentences)), made, strict=True)
    kinds = Counter(same for same, _ in {(same, opinion) for same, (_, opinion) in numbers})
    assert set(kinds.values()) == {1}


def test_as_many_are_praise_as_are_blame_and_many_of_both_deny() -> None:
    made = list(opinions())
    for opinion in ("negative", "positive"):
        own = [sentence for sentence, kind in made if kind == opinion]
        assert len(own) == len(made) / 2
        denials = [s for s in own if {"not", "never", "no", "nothing"} & set(s.lower().split())]
        assert len(denials) / len(own) > 0.25


def test_what_is_spoken_of_and_what_is_denied_are_no_opinion() -> None:
    """About as often in praise as in blame; or else "waiter" would be blame, and "bad" praise."""
    praise, blame = (
        Counter(word for sentence, kind in opinions() if kind == opinion
                for word in set(sentence.lower().strip(".!").split()))
        for opinion in ("positive", "negative")
    )  # fmt: skip
    for word in ("film", "phone", "waiter", "soup", "service", "the", "it"):
        assert 0.9 < praise[word] / blame[word] < 1.1, word
    for word in ("not", "wasn't", "never", "no", "hardly"):
        assert 0.6 < praise[word] / blame[word] < 1.7, word
    for word in ("good", "great", "delicious"):
        assert praise[word] > blame[word] > 100, word
    for word in ("bad", "boring", "rude"):
        assert blame[word] > praise[word] > 100, word


def test_they_are_learnt_from_and_decide_nothing() -> None:
    def split(count: int) -> Split:
        return Split(items=text_items(["a film"] * count), labels=np.zeros(count, np.int32))

    bare = Dataset(
        name="imdb", labels=("negative", "positive"), sha256="",
        train=split(3), validation=split(2), test=split(1),
    )  # fmt: skip
    dataset = with_opinions(bare)
    made = list(opinions())
    assert dataset.sentences is not None
    assert dataset.sentences.texts == [sentence for sentence, _ in made]
    assert [dataset.labels[i] for i in dataset.sentences.labels] == [kind for _, kind in made]
    assert (dataset.train, dataset.validation, dataset.test) == (
        bare.train, bare.validation, bare.test,
    )  # fmt: skip
    assert f"{len(made):,}" in dataset.notes[-1]
