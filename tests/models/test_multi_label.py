"""Several labels a text: every architecture, and the linear one against scikit-learn's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lmaas.training.datasets.dataset import Dataset, Split, text_items
from lmaas.training.evaluate_labels import exactly_right, micro_f1, reached
from lmaas.training.label_sets import matrix
from lmaas.training.networks import Architecture, linear
from lmaas.training.recipe import Recipe
from tests.integration.test_multi_label import dataset, table, trained
from tests.models.test_own_texts import BELOW, banking
from tests.unit.training import bert

__all__ = ["dataset", "table"]

pytestmark = pytest.mark.models
#: Made-up texts: each is two questions, so that it has their two labels, or the one of both.
LEARNT, MEASURED = 5_000, 1_500


@pytest.mark.parametrize("architecture", ["gap", "ngram", "cnn", "lstm", "transformer"])
@pytest.mark.parametrize("loss", ["crossentropy", "mse"])
def test_networks_of_words(
    architecture: Architecture, loss: str, dataset: Dataset, tmp_path: Path
) -> None:
    recipe = Recipe(epochs=1, batch=64).filled(loss=loss)
    trained(dataset, architecture, tmp_path, recipe)


@pytest.mark.parametrize("unfreeze", [0, 1])
def test_an_encoder(unfreeze: int, dataset: Dataset, tmp_path: Path) -> None:
    folder = bert.save(tmp_path / "encoder")
    recipe = Recipe(encoder=str(folder), unfreeze=unfreeze, epochs=1)
    trained(dataset, "encoder", tmp_path / "models", recipe)


def pairs() -> Dataset:
    """Of Banking77's questions of a split two in a text each."""
    bank = banking()
    random = np.random.default_rng(7)

    def made(questions: Split, count: int) -> Split:
        chosen = random.integers(len(questions), size=(count, 2))
        texts = [f"{questions.texts[first]} {questions.texts[second]}" for first, second in chosen]
        labels = matrix(questions.labels[chosen].tolist(), len(bank.labels))
        return Split(items=text_items(texts), labels=labels)

    return Dataset(
        name="pairs",
        labels=bank.labels,
        train=made(bank.train, LEARNT),
        validation=made(bank.validation, LEARNT // 10),
        test=made(bank.test, MEASURED),
        sha256="",
    )


def test_linear_is_as_good_as_scikit_learn() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is in the group `origins`")
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    data = pairs()
    learnt, wanted = Split.of(data.train, data.validation), data.test.labels.astype(bool)
    theirs = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), OneVsRestClassifier(LinearSVC()))
    theirs.fit(learnt.texts, learnt.labels)
    network = linear.fit("linear", data, Recipe(), None).network
    ours = reached(network.predict(data.test.items), 0.5)
    found = {"scikit-learn": theirs.predict(data.test.texts).astype(bool), "linear": ours}
    for name, given in found.items():
        right = exactly_right(given, wanted)
        print(f"{name}: micro F1 {micro_f1(given, wanted):.4f}, exactly right {right:.4f}")  # noqa: T201
    other = micro_f1(found["scikit-learn"], wanted)
    assert micro_f1(ours, wanted) >= other - BELOW
