"""The IMDB reviews as a data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lmaas.training.datasets.cutting import VALIDATION_SHARE, cut
from lmaas.training.datasets.dataset import Dataset, Split, text_items
from lmaas.training.imdb import Review, read_reviews

#: Reviews of one film are neighbours in the archive (30 at most) and no film is in both official
#: splits. Validation takes runs of neighbours, so that it measures unknown films as the test does:
#: a validation split of single reviews promises 2 points of accuracy too much.
IMDB_NEIGHBOURS = 50

#: Of the archives that are taken for theirs.
IMDB_SUFFIXES = (".tar.gz", ".tgz")

_IMDB_LABELS = {"neg": "negative", "pos": "positive"}


def load_imdb(path: Path) -> Dataset:
    """The 25,000 + 25,000 reviews of Maas et al. (2011), split as their authors did.

    `path` is their archive, the unpacked folder, or a folder that holds either.
    Raises DataError when there are no reviews or one of them is not UTF-8.
    """
    reviews, digest = read_reviews(path)
    splits = {name: _imdb_split(reviews, name) for name in ("train", "test")}
    rest, validation = cut(splits["train"].labels, VALIDATION_SHARE, IMDB_NEIGHBOURS)
    return Dataset(
        name="imdb",
        labels=tuple(_IMDB_LABELS.values()),
        train=splits["train"].take(rest),
        validation=splits["train"].take(validation),
        test=splits["test"],
        sha256=digest,
    )


def _imdb_split(reviews: Sequence[Review], name: str) -> Split:
    chosen = [review for review in reviews if review.split == name]
    indices = {label: index for index, label in enumerate(_IMDB_LABELS)}
    return Split(
        items=text_items(review.text for review in chosen),
        labels=np.array([indices[review.label] for review in chosen], np.int32),
    )
