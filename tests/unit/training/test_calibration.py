"""Temperatures: found where it is known what they should be."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from lmaas.training.calibration import COLDEST, HOTTEST, temperature
from lmaas.training.evaluate import calibration_error, reliability
from lmaas.workers.heads import tempered


def softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def drawn(examples: int, labels: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int32]]:
    """Logits, and labels that are drawn by their probabilities: these are calibrated."""
    source = np.random.default_rng(11)
    logits = source.normal(0, 2, (examples, labels))
    # The largest of logits with Gumbel's noise is drawn by the softmax.
    return logits, (logits + source.gumbel(size=logits.shape)).argmax(axis=1).astype(np.int32)


@pytest.mark.parametrize("labels", [2, 3, 40])
@pytest.mark.parametrize("factor", [0.4, 1.0, 3.0])
def test_what_was_multiplied_is_divided_by_again(labels: int, factor: float) -> None:
    logits, truth = drawn(8_000, labels)
    scores = softmax(logits * factor)
    found = temperature(scores, truth)
    assert found == pytest.approx(factor, rel=0.1)
    assert abs(np.log(found)) <= abs(np.log(factor)) + 0.03  # rather nearer to 1
    after = tempered(scores, found)
    assert (after.argmax(axis=1) == scores.argmax(axis=1)).all()
    errors = [calibration_error(reliability(each, truth)) for each in (scores, after)]
    assert errors[1] < 0.03
    assert factor == 1 or errors[0] > 3 * errors[1]


def test_of_many_examples_it_has_nearly_the_least_loss() -> None:
    logits, truth = drawn(30_000, 5)
    scores = softmax(logits * 2)

    def loss(by: float) -> float:
        return float(-np.log(tempered(scores, by)[np.arange(len(truth)), truth]).mean())

    best = temperature(scores, truth)
    assert min([0.5, 0.9, 1.1, 2], key=lambda each: loss(best * each)) in {0.9, 1.1}
    assert loss(best) < loss(best * 0.9)
    assert loss(best) < loss(best * 1.1)


def right_by(score: float, examples: int) -> npt.NDArray[np.float32]:
    """Of label 0, which is the right one of all of them."""
    return np.tile(np.array([[score, 1 - score]], np.float32), (examples, 1))


def test_examples_that_are_right_do_not_make_it_certain() -> None:
    scores = right_by(0.9, 200)
    found = temperature(scores, np.zeros(200, np.int32))
    # 201 of 202 are right, as far as 200 examples show; they do not contradict a little less.
    assert 0.97 < tempered(scores, found)[0, 0] < 201 / 202


def test_what_chance_may_have_made_is_left_alone() -> None:
    assert temperature(right_by(0.9, 4), np.zeros(4, np.int32)) == 1
    logits, truth = drawn(300, 3)
    assert temperature(softmax(logits * 1.1), truth) == 1
    assert temperature(softmax(logits * 2), truth) != 1


def test_impossible_probabilities_and_none_at_all() -> None:
    certain = np.array([[1, 0], [0, 1], [1, 0]], np.float32)
    assert temperature(certain, np.array([0, 1, 1], np.int32)) > 1
    assert temperature(certain[:0], np.zeros(0, np.int32)) == 1
    assert COLDEST <= temperature(certain, np.array([0, 1, 0], np.int32)) <= HOTTEST
