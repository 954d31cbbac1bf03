from __future__ import annotations

from collections import Counter

import numpy as np

from lmaas.training.datasets.dataset import Dataset, Split, text_items
from lmaas.training.opinions import opinions, with_opinions
from lmaas.workers.preprocess.text import WordTokenizer


def test_sentences_are_the_same_every_time_none_twice_and_none_of_both_kinds() -> None:
    made = list(opinions())
    assert made == list(opinions())
    sentences = [sentence for sentence, _ in made]
    assert len(set(sentences)) == len(sentences) > 2000
    assert not any("{" in sentence or "}" in sentence for sentence in sentences)
    # Case and punctuation are no difference to a network.
    tokenizer = WordTokenizer.fit(sentences, 5000, 100)
    numbers = zip(map(bytes, tokenizer(sentences)), made, strict=True)
    kinds = Counter(same for same, _ in {(same, opinion) for same, (_, opinion) in numbers})
    assert set(kinds.values()) == {1}


def test_about_as_many_are_praise_as_are_blame_and_many_of_both_deny() -> None:
    made = list(opinions())
    for opinion in ("negative", "positive"):
        own = [sentence for sentence, kind in made if kind == opinion]
        assert 0.4 < len(own) / len(made) < 0.6
        denials = [s for s in own if {"not", "never", "no", "nothing"} & set(s.lower().split())]
        assert len(denials) / len(own) > 0.25


def test_they_are_learnt_from_and_decide_nothing() -> None:
    def split(count: int) -> Split:
        return Split(items=text_items(["a film"] * count), labels=np.zeros(count, np.int32))

    bare = Dataset(
        name="imdb", labels=("negative", "positive"), sha256="",
        train=split(3), validation=split(2), test=split(1),
    )  # fmt: skip
    dataset = with_opinions(bare)
    made = list(opinions())
    assert dataset.train.texts[3:] == [sentence for sentence, _ in made]
    assert [dataset.labels[i] for i in dataset.train.labels[3:]] == [kind for _, kind in made]
    assert (dataset.validation, dataset.test) == (bare.validation, bare.test)
    assert f"{len(made):,}" in dataset.notes[-1]
