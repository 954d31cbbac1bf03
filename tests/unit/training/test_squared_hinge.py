"""The minimum is the minimum, and does not depend on which classes are found together."""

from __future__ import annotations

import numpy as np
import pytest

from lmaas.training.networks import squared_hinge
from lmaas.training.networks.products import BLOCK, Products, product
from lmaas.workers.preprocess.ngrams import Floats, Sparse


def sparse(dense: Floats) -> Sparse:
    rows, columns = np.nonzero(dense)
    counts = np.bincount(rows, minlength=len(dense))
    return Sparse(np.append(0, np.cumsum(counts)), columns, dense[rows, columns])


def matrix(rows: int, columns: int) -> Floats:
    random = np.random.default_rng(5)
    found = random.standard_normal((rows, columns)) * (random.random((rows, columns)) < 0.2)
    found[rows // 2] = 0
    return found.astype(np.float32)


class Dense:
    def __init__(self, values: Floats) -> None:
        self.values = values
        self.weights = values.shape[1]

    def times(self, weights: Floats) -> Floats:
        return self.values @ weights

    def transposed(self, scores: Floats) -> Floats:
        return self.values.T @ scores


@pytest.mark.parametrize("columns", [1, 7, BLOCK // 100])
def test_products_are_those_of_the_dense_matrix(columns: int) -> None:
    dense = matrix(40, 30)
    factor = np.random.default_rng(1).standard_normal((30, columns)).astype(np.float32)
    assert product(sparse(dense), factor) == pytest.approx(dense @ factor, abs=1e-4)
    found = Products(sparse(dense), 30).transposed(dense @ factor)
    assert found == pytest.approx(dense.T @ (dense @ factor), abs=1e-3)


def test_a_matrix_of_nothing_gives_zeros() -> None:
    empty = sparse(np.zeros((3, 4), np.float32))
    assert (product(empty, np.ones((4, 2), np.float32)) == 0).all()


def test_no_step_from_the_minimum_makes_the_loss_smaller() -> None:
    values = matrix(60, 12)
    labels = np.arange(60, dtype=np.int32) % 3
    found = squared_hinge.minimised(Dense(values), labels, [0, 1, 2])

    def loss(weights: Floats) -> Floats:
        sides = np.where(labels[:, None] == np.arange(3), 1, -1)
        missing = np.maximum(1 - sides * (values @ weights), 0)
        return (weights**2).sum(axis=0) / 2 + squared_hinge.COST * (missing**2).sum(axis=0)

    least = loss(found)
    random = np.random.default_rng(2)
    for size in (1e-1, 1e-2):
        for _ in range(50):
            step = random.standard_normal(found.shape).astype(np.float32) * size
            assert (loss(found + step) > least - 1e-4).all()


def test_classes_may_be_found_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    values, labels = matrix(60, 12), np.arange(60, dtype=np.int32) % 3
    together = squared_hinge.minimised(Dense(values), labels, [0, 1, 2])
    monkeypatch.setattr(squared_hinge, "GROUP", 1)
    told: list[tuple[int, int]] = []
    apart = squared_hinge.minimised(
        Dense(values), labels, [0, 1, 2], lambda *done: told.append(done)
    )
    assert apart == pytest.approx(together, abs=1e-3)
    assert told == [(1, 3), (2, 3), (3, 3)]
