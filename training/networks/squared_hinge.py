"""A linear classifier, one class against all others, by the squared hinge loss.

For each class it minimises |w|^2 / 2 + COST * sum(max(0, 1 - y * score)^2) over the texts, y being
1 for those of the class and -1 for the others: what liblinear calls an L2-regularised, L2-loss
support vector classification (Fan et al., "LIBLINEAR: A Library for Large Linear Classification",
2008). The classes do not depend on each other, so that they are done in groups, for the memory.

The method is that of conjugate gradients (Polak and Ribiere, with restarts). The loss along a line
is piecewise quadratic, so that the best step is found exactly, by Newton's method in one dimension.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from lmaas.workers.preprocess.ngrams import Floats

#: What a text on the wrong side costs, against the length of the weights.
COST: Final = 1.0
#: The gradient's length at the end, of that at the beginning, and steps at most: by then neither
#: the accuracy of Banking77 nor that of IMDB changes any more.
TOLERANCE: Final = 1e-3
STEPS: Final = 200
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
    gradient = _gradient(scores, sides, weights, given)
    goal = TOLERANCE * _dot(gradient, gradient) ** 0.5
    direction = -gradient
    for _ in range(STEPS):
        squared = _dot(gradient, gradient)
        if (squared**0.5 <= goal).all():
            break
        change = scores.times(direction)
        step = _best_step(weights, direction, sides * given, sides * change)
        weights += step * direction
        given += step * change
        fresh = _gradient(scores, sides, weights, given)
        turn = np.maximum(_dot(fresh, fresh - gradient) / np.maximum(squared, 1e-30), 0)
        gradient = fresh
        direction *= turn
        direction -= gradient
        uphill = _dot(direction, gradient) >= 0
        direction[:, uphill] = -gradient[:, uphill]
    return weights


def _gradient(scores: Map, sides: Floats, weights: Floats, given: Floats) -> Floats:
    missing = np.maximum(1 - sides * given, 0)
    found: Floats = weights - 2 * COST * scores.transposed(sides * missing)
    return found


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
