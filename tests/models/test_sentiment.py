"""The model that ships: whole reviews, and the sentences of reviews.

There is no sentence-level sentiment data that may be kept here. In its place: the sentences of
those test reviews of IMDB that gave 1 or 10 points of 10, each labelled as its review is. Many say
nothing about the film ("It is set in Paris."), or the contrary of the rest, so that no model is
right about all; they are compared with what a model says that has learnt from such sentences alone.
"""

from __future__ import annotations

import os
import re
import tarfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from lmaas.broker_config.folders import SHIPPED_MODELS
from lmaas.broker_config.messages import Item
from lmaas.training import imdb
from lmaas.training.datasets.loading import load_dataset
from lmaas.workers.repository import Repository
from lmaas.workers.runtime import Runtime

pytestmark = [
    pytest.mark.models,
    pytest.mark.skipif(
        not Path(os.environ.get("LMAAS_DATASETS", ""), imdb.ARCHIVE).is_file(),
        reason=f"{imdb.ARCHIVE} is not in LMAAS_DATASETS",
    ),
]
sklearn = pytest.importorskip("sklearn", reason="scikit-learn is in the group `origins`")

ARCHIVE = Path(os.environ.get("LMAAS_DATASETS", ""), imdb.ARCHIVE)
EXTREME = re.compile(r"aclImdb/(train|test)/(neg|pos)/\d+_(?:1|10)\.txt")
ENDS = re.compile(r"(?<=[.!?])\s+|<br\s*/?>")

Labels = npt.NDArray[np.int32]


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    return Runtime(Repository(SHIPPED_MODELS).find("sentiment"))


def found(runtime: Runtime, texts: list[str]) -> Labels:
    items = [Item(id="", text=text) for text in texts]
    labels: Labels = runtime.scores(items).argmax(axis=1).astype(np.int32)
    return labels


def sentences() -> dict[str, tuple[list[str], Labels]]:
    """Of the extreme reviews of each official split, with a label each: 1 is positive."""
    texts: dict[str, list[str]] = {"train": [], "test": []}
    labels: dict[str, list[int]] = {"train": [], "test": []}
    with tarfile.open(ARCHIVE) as archive:
        for member in archive:
            match = EXTREME.fullmatch(member.name)
            file = archive.extractfile(member) if match else None
            if match and file:
                own = [each for each in ENDS.split(file.read().decode()) if each.strip()]
                texts[match[1]] += own
                labels[match[1]] += [int(match[2] == "pos")] * len(own)
    return {name: (texts[name], np.array(labels[name], np.int32)) for name in texts}


def test_whole_reviews(runtime: Runtime) -> None:
    test = load_dataset(ARCHIVE).test
    accuracy = float((found(runtime, test.texts) == test.labels).mean())
    print(f"IMDB: {accuracy:.4f}")  # noqa: T201
    assert accuracy >= 0.915


def test_sentences_against_a_model_that_learnt_from_sentences(runtime: Runtime) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    cut = sentences()
    (texts, labels), (asked, truth) = cut["train"], cut["test"]
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    other = LogisticRegression(solver="liblinear").fit(vectorizer.fit_transform(texts), labels)
    theirs = float(other.score(vectorizer.transform(asked), truth))
    ours = float((found(runtime, asked) == truth).mean())
    print(f"{len(asked):,} sentences: {ours:.4f}; learnt from sentences: {theirs:.4f}")  # noqa: T201
    assert ours >= theirs - 0.03
