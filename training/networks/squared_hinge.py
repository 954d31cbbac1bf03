"""A linear classifier, one class against all others, by the squared hinge loss.

For each class it minimises |w|^2 / 2 + COST * sum(max(0, 1 - y * score)^2) over the texts, y being
1 for those of the class and -1 for the others: what liblinear calls an L2-regularised, L2-loss
support vector classification (Fan et al., "LIBLINEAR: A Library for Large Linear Classification",
2008). The classes do not depend on each other, so that they are done in groups, for the memory.

The loss is quadratic as long as the same texts lack a part of their margin. The method goes towards
the least of that quadratic, found by conjugate gradients, and as far as the loss itself falls
(Keerthi and DeCoste, "A Modified Finite Newton Method for Fast Solution of Large Scale Linear
SVMs", JMLR 2005). Along a line it is piecewise quadratic, so that the best step is found exactly,
by Newton's method in one dimension.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from lmaas.workers.preprocess.ngrams import Floats

#: What a text on the wrong side costs, against the length of the weights.
COST: Final = 1.0
#: The gradient's length at the end, of that at the beginning.
TOLERANCE: Final = 1e-3
#: The length of what a quadratic's least leaves of the gradient, of each that it begins with.
ROUGHLY: Final = 0.1
#: Quadratics at most, and steps of the conjugate gradients for each.
QUADRATICS: Final = 50
STEPS: Final = 100
#: Of the search along a line.
SEARCHES: Final = 8
SEARCHED: Final = 1e-3
#: Scores that are computed together: texts times classes of a group.
GROUP: Final = 1 << 22

#: Called with the classes that are done, and with all.
Done = Callable[[int, int], None]


class Map(Protocol):
    """A linear map from weights, [weights, n], to scores, [texts, n]."""

    @property
    def weights(self) -> int:
        """How many there are for each class."""
        ...

    def times(self, weights: Floats) -> Floats: ...

    def transposed(self, scores: Floats) -> Floats:
        """From [texts, n] to [weights, n]."""
        ...


def minimised(
    scores: Map, labels: npt.NDArray[np.int32], classes: list[int], done: Done | None = None
) -> Floats:
    """The weights [weights, classes] of these classes against all others.

    `labels` are the number of each text's class, [texts]; or 1 for each class that it is of, and 0
    for the others, [texts, all classes].
    """
    found = np.empty((scores.weights, len(classes)), np.float32)
    size = max(1, GROUP // len(labels))
    for start in range(0, len(classes), size):
        group = np.array(classes[start : start + size])
        of_it = labels[:, None] == group if labels.ndim == 1 else labels[:, group] == 1
        sides = np.where(of_it, np.float32(1), np.float32(-1))
        found[:, start : start + size] = _minimised(scores, sides)
        if done:
            done(min(start + size, len(classes)), len(classes))
    return found


def _minimised(scores: Map, sides: Floats) -> Floats:
    weights = np.zeros((scores.weights, sides.shape[1]), np.float32)
    given = np.zeros_like(sides)
    goal = None
    for _ in range(QUADRATICS):
        missing = np.maximum(1 - sides * given, 0)
        gradient = weights - 2 * COST * scores.transposed(sides * missing)
        length = _dot(gradient, gradient) ** 0.5
        goal = TOLERANCE * length if goal is None else goal
        if (length <= goal).all():
            break
        direction, change = _towards_the_least(scores, gradient, missing > 0, goal)
        step = _best_step(weights, direction, sides * given, sides * change)
        weights += step * direction
        given += step * change
    return weights


def _towards_the_least(
    scores: Map, gradient: Floats, counted: npt.NDArray[np.bool_], goal: Floats
) -> tuple[Floats, Floats]:
    """A direction, [weights, classes], and its scores, [texts, classes].

    The quadratic is that of the texts that are `counted` for each class.
    """
    found, its_scores = np.zeros_like(gradient), np.zeros(counted.shape, np.float32)
    rest = -gradient
    squared = _dot(rest, rest)
    enough = np.maximum(ROUGHLY**2 * squared, (goal / 2) ** 2)
    direction = rest.copy()
    for _ in range(STEPS):
        going = squared > enough
        if not going.any():
            break
        change = scores.times(direction)
        bent = direction + 2 * COST * scores.transposed(np.where(counted, change, 0))
        step = np.where(going, squared / np.maximum(_dot(direction, bent), 1e-30), 0)
        step = step.astype(np.float32)
        found += step * direction
        its_scores += step * change
        rest -= step * bent
        before, squared = squared, _dot(rest, rest)
        direction *= squared / np.maximum(before, 1e-30)
        direction += rest
    return found, its_scores


def _best_step(weights: Floats, direction: Floats, given: Floats, change: Floats) -> Floats:
    """[classes] how far to go; `given` and `change` are positive towards the right side."""
    linear, quadratic = _dot(weights, direction), _dot(direction, direction)
    step = np.zeros_like(linear)
    for _ in range(SEARCHES):
        missing = 1 - given - step * change
        pull = np.where(missing > 0, change, 0)
        slope = linear + step * quadratic - 2 * COST * _dot(missing, pull)
        more = slope / np.maximum(quadratic + 2 * COST * _dot(pull, pull), 1e-30)
        step -= more
        if (np.abs(more) <= SEARCHED * np.abs(step)).all():
            break
    return step


def _dot(left: Floats, right: Floats) -> Floats:
    found: Floats = np.einsum("ij,ij->j", left, right)
    return found
