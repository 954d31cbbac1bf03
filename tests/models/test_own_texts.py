"""The linear model against scikit-learn's TF-IDF and LinearSVC, on the same splits."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lmaas.producer.tables import Place
from lmaas.training.datasets.dataset import Dataset, Split, text_items
from lmaas.training.datasets.of_imdb import load_imdb
from lmaas.training.datasets.of_tables import load_table
from lmaas.training.networks import linear
from lmaas.training.recipe import Recipe

pytestmark = pytest.mark.models
sklearn = pytest.importorskip("sklearn", reason="scikit-learn is in the group `origins`")

#: How far below scikit-learn's an accuracy may be.
BELOW = 0.003
FEW = 10
#: Of a made-up mail: sentences that say nothing about its class, and those that do.
CHATTER, SAID = 60, 3


def data_set(name: str) -> Path:
    path = Path(os.environ.get("LMAAS_DATASETS", "none"), name)
    if not path.exists():
        pytest.skip(f"LMAAS_DATASETS has no {name}")
    return path


def banking() -> Dataset:
    folder = data_set("banking77")
    places = [Place.of(str(folder / f"{split}.csv")) for split in ("train", "test")]
    return load_table(places[0], test=places[1], label="category")


def few(seed: int) -> Dataset:
    """FEW texts a class to learn from, a tenth of them for the validation."""
    whole = banking()
    learnt = Split.of(whole.train, whole.validation)
    random = np.random.default_rng(seed)
    of_class = [np.flatnonzero(learnt.labels == label) for label in range(len(whole.labels))]
    chosen = np.array([random.permutation(members)[:FEW] for members in of_class])
    return Dataset(
        name="few",
        labels=whole.labels,
        train=learnt.take(chosen[:, 1:].ravel()),
        validation=learnt.take(chosen[:, 0]),
        test=whole.test,
        sha256="",
    )


def mails() -> Dataset:
    """Long texts: some questions to a bank of one of ten kinds, among sentences on films."""
    bank, films = banking(), load_imdb(data_set("aclImdb_v1.tar.gz"))
    random = np.random.default_rng(7)

    def made(questions: Split, reviews: Split, count: int) -> Split:
        sentences = [
            sentence.strip()
            for text in reviews.texts[:: max(1, len(reviews) // 2000)]
            for sentence in text.split(".")
            if len(sentence) > 20
        ]
        texts, labels = [], np.arange(count, dtype=np.int32) % 10
        for label in labels:
            asked = np.flatnonzero(questions.labels == label)
            lines = [*random.choice(sentences, CHATTER)]
            lines += [questions.texts[i] for i in random.choice(asked, SAID)]
            texts.append(". ".join(random.permutation(lines)))
        return Split(items=text_items(texts), labels=labels)

    learnt = Split.of(bank.train, bank.validation)
    return Dataset(
        name="mails",
        labels=bank.labels[:10],
        train=made(learnt, films.train, 1000),
        validation=made(learnt, films.train, 200),
        test=made(bank.test, films.test, 1000),
        sha256="",
    )


def of_scikit_learn(data: Dataset) -> float:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    learnt = Split.of(data.train, data.validation)
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    model = make_pipeline(words, LinearSVC()).fit(learnt.texts, learnt.labels)
    return float(model.score(data.test.texts, data.test.labels))


@pytest.mark.parametrize(
    ("load", "least"),
    [
        pytest.param(banking, 0.91, id="banking77"),
        pytest.param(lambda: few(0), 0.70, id="banking77, 10 a class"),
        pytest.param(lambda: few(1), 0.70, id="banking77, 10 others a class"),
        pytest.param(lambda: load_imdb(data_set("aclImdb_v1.tar.gz")), 0.90, id="imdb"),
        pytest.param(mails, 0.5, id="mails"),
    ],
)
def test_it_is_not_below_scikit_learn(load: Callable[[], Dataset], least: float) -> None:
    data = load()
    theirs = of_scikit_learn(data)
    network = linear.fit("linear", data, Recipe(), None).network
    scores = network.predict(data.test.items)
    ours = float((scores.argmax(axis=1) == data.test.labels).mean())
    print(f"\nlinear {ours:.4f}, scikit-learn {theirs:.4f}")  # noqa: T201
    assert ours >= max(theirs - BELOW, least), f"{ours:.4f} against {theirs:.4f}"
