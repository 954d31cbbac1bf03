"""How sure a model may be: one temperature, found on examples that it has not learnt from.

Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. Which label is the best does not
change, so neither does the accuracy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from lmaas.training.label_sets import Truth, decisions

Scores = npt.NDArray[np.float32]
_Floats = npt.NDArray[np.float64]

#: Temperatures that are believed.
COLDEST: Final = 0.05
HOTTEST: Final = 20.0
#: Decimals of a temperature.
DECIMALS: Final = 3
#: Examples contradict a temperature when another one makes them more likely by so much (twice the
#: difference of the log likelihoods) as chance does once in 20 times: Wilks, chi-squared with one
#: degree of freedom.
CONTRADICTED: Final = 3.84
#: Halvings of an interval: more than the decimals need.
_STEPS: Final = 40
#: A probability of 0 counts as this one.
_LEAST: Final = 1e-30


def temperature(scores: Scores, truth: Truth) -> float:
    """The one nearest to 1 that the examples do not contradict; 1.0 without examples.

    `scores` are probabilities [examples, labels]; `truth` [examples] has the index of the right
    label of each, or [examples, labels] whether each label is right: then one temperature is that
    of all labels' sigmoids. What the model will meet is not quite like the examples, so that no
    more is changed than they ask for. Of n examples, 1 / (n + 2) of each counts as of another
    label, after Platt, "Probabilistic Outputs for Support Vector Machines", 1999: examples that are
    all right do not make a model certain.
    """
    if not len(truth):
        return 1.0
    scores, truth = decisions(scores, truth)
    logs = np.log(np.maximum(scores.astype(np.float64), _LEAST))
    wanted = _targets(truth, *scores.shape)
    # The loss is convex in 1 / temperature: its slope says on which side the least is.
    best = _between(COLDEST, HOTTEST, lambda tried: _slope(logs, wanted, 1 / tried) > 0)
    least = _loss(logs, wanted, 1 / best)

    def contradicted(tried: float) -> bool:
        more = _loss(logs, wanted, 1 / tried) - least
        return 2 * len(truth) * more > CONTRADICTED

    nearest = _between(1.0, best, contradicted) if contradicted(1.0) else 1.0
    return round(nearest, DECIMALS)


def _between(low: float, high: float, is_low: Callable[[float], bool]) -> float:
    """Where the answer changes, which is yes at `low` and no at `high`, whichever is larger."""
    for _ in range(_STEPS):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if is_low(middle) else (low, middle)
    return high


def _targets(truth: Truth, examples: int, labels: int) -> _Floats:
    others = 1 / (examples + 2)
    targets = np.full((examples, labels), others / max(labels - 1, 1))
    targets[np.arange(examples), truth] = 1 - others
    return targets


def _loss(logs: _Floats, wanted: _Floats, exponent: float) -> float:
    """Mean log loss of the probabilities raised to an exponent."""
    raised = exponent * (logs - logs.max(axis=1, keepdims=True))
    wholes = np.log(np.exp(raised).sum(axis=1, keepdims=True))
    return float(((wholes - raised) * wanted).sum(axis=1).mean())


def _slope(logs: _Floats, wanted: _Floats, exponent: float) -> float:
    """Of that loss, by the exponent."""
    powers = np.exp(exponent * (logs - logs.max(axis=1, keepdims=True)))
    found = powers / powers.sum(axis=1, keepdims=True)
    return float(((found - wanted) * logs).sum(axis=1).mean())
