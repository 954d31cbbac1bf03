"""Which of several architectures is kept; what they are is made up here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from lmaas.broker_config.messages import Item
from lmaas.training import choosing
from lmaas.training.datasets.cutting import ENOUGH
from lmaas.training.datasets.dataset import Dataset, Split, text_items
from lmaas.training.evaluate import Scores
from lmaas.training.networks import Architecture, Fitted
from lmaas.training.recipe import Recipe


class Guess:
    """Knows the label of texts that end with it, if their number is no multiple of `wrong`."""

    def __init__(self, wrong: int) -> None:
        self.wrong = wrong

    def predict(self, items: Sequence[Item]) -> Scores:
        texts = [(item.text or "").split() for item in items]
        right = np.array([int(label) for _, label in texts])
        miss = np.array([int(number) % self.wrong == 0 for number, _ in texts])
        return np.eye(2, dtype=np.float32)[right ^ miss]


def split(first: int, size: int) -> Split:
    labels = np.arange(size, dtype=np.int32) % 2
    texts = [f"{first + i} {label}" for i, label in enumerate(labels)]
    return Split(items=text_items(texts), labels=labels)


def dataset(train: int, validation: int) -> Dataset:
    return Dataset(
        name="x",
        labels=("a", "b"),
        train=split(1, train),
        validation=split(1 + train, validation),
        test=split(9000, 10),
        sha256="",
    )


def fit_of(
    wrong: dict[Architecture, int], fits: list[tuple[Architecture, int]], *, refits: bool = False
) -> choosing.Fit:
    def fit(architecture: Architecture, data: Dataset) -> Fitted:
        fits.append((architecture, len(data.train)))
        network: Any = Guess(wrong[architecture])
        scores = network.predict(data.validation.items) if refits else None
        return Fitted(network=network, recipe=Recipe(), best_epoch=1, validation=scores)

    return fit


def test_the_best_on_a_large_validation_split_is_kept_as_it_is() -> None:
    fits: list[tuple[Architecture, int]] = []
    told: list[tuple[Architecture, float]] = []
    data = dataset(1000, ENOUGH)
    fit = fit_of({"linear": 4, "ngram": 10}, fits)
    choice = choosing.chosen(data, ("linear", "ngram"), fit, lambda *one: told.append(one))
    assert choice.architecture == "ngram"
    assert fits == [("linear", 1000), ("ngram", 1000)]
    assert told == [("linear", 0.75), ("ngram", 0.9)]
    assert choice.record == {
        "tried": {"linear": 0.75, "ngram": 0.9},
        "held_out": 400,
        "folds": 1,
        "learnt_from": 1000,
    }


def test_few_texts_are_all_held_out_in_turn() -> None:
    fits: list[tuple[Architecture, int]] = []
    fit = fit_of({"linear": 4, "ngram": 10}, fits, refits=True)
    choice = choosing.chosen(dataset(100, 20), ("linear", "ngram"), fit)
    assert fits == [*[("linear", 80)] * 3, *[("ngram", 80)] * 3, ("ngram", 100)]
    assert choice.record == {
        "tried": {"linear": 0.75, "ngram": 0.9},
        "held_out": 120,
        "folds": 3,
        "learnt_from": 120,
    }


def test_the_first_of_equals_is_kept() -> None:
    fit = fit_of({"linear": 5, "ngram": 5, "encoder": 5}, [])
    assert choosing.chosen(dataset(50, 9), choosing.candidates(True), fit).architecture == "linear"


def test_parts_have_every_text_once_and_each_class_alike() -> None:
    data = dataset(100, 11)
    parts = choosing.folds(data)
    held_out = [text for part in parts for text in part.validation.texts]
    assert sorted(held_out) == sorted([*data.train.texts, *data.validation.texts])
    for part in parts:
        assert len(part.train) + len(part.validation) == 111
        assert set(part.train.texts).isdisjoint(part.validation.texts)
        assert abs(int((part.validation.labels * 2 - 1).sum())) <= 1


@pytest.mark.parametrize("sizes", [(1, 1), (2, 1), (1, 3), (3, 2)])
def test_no_part_is_empty(sizes: tuple[int, int]) -> None:
    parts = choosing.folds(dataset(*sizes))
    assert parts
    assert all(len(part.train) and len(part.validation) for part in parts)


def test_it_is_told_in_three_lines() -> None:
    training = {"tried": {"linear": 0.9, "ngram": 0.85}, "held_out": 1000, "folds": 3,
                "learnt_from": 1000}  # fmt: skip
    counts = {"train": 900, "validation": 100, "test": 400}
    assert choosing.told("linear", training, counts, 0.91) == [
        "tried: linear 0.9000, ngram 0.8500 (accuracy on 1,000 texts, held out in 3 parts in turn)",
        "chosen: linear, trained on 1,000 of the 1,000 texts outside of the test",
        "expect: 0.9100 (95%: 0.8779 to 0.9343) right of texts like those of the test (400)",
    ]
    assert choosing.told("gap", {}, counts, 0.9) == []


@pytest.mark.parametrize(
    ("share", "examples", "expected"),
    [
        (1.0, 1, (0.2065, 1.0)),
        (0.0, 2, (0.0, 0.6576)),
        (0.5, 10_000, (0.4902, 0.5098)),
    ],
)
def test_a_share_is_never_certain(
    share: float, examples: int, expected: tuple[float, float]
) -> None:
    assert choosing.bounds(share, examples) == pytest.approx(expected, abs=1e-4)
