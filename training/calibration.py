"""How sure a model may be: one temperature, found on examples that it has not learnt from.

Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. Which label is the best does not
change, so neither does the accuracy.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int32]

#: Temperatures that are believed.
COLDEST: Final = 0.05
HOTTEST: Final = 20.0
#: Decimals of a temperature.
DECIMALS: Final = 3
#: Halvings of the interval: more than the decimals need.
_STEPS: Final = 40
#: A probability of 0 counts as this one.
_LEAST: Final = 1e-30


def temperature(scores: Scores, truth: Labels) -> float:
    """The one with which probabilities [examples, labels] are the most likely ones.

    `truth` [examples] has the index of the right label of each. To each of n examples 1 / (n + 2)
    of the other labels counts as right, too, after Platt, "Probabilistic Outputs for Support Vector
    Machines", 1999: few examples, all of them right, do not make a model certain. 1.0 without
    examples.
    """
    if not len(truth):
        return 1.0
    logs = np.log(np.maximum(scores.astype(np.float64), _LEAST))
    wanted = _targets(truth, *scores.shape)
    cold, hot = COLDEST, HOTTEST
    for _ in range(_STEPS):
        middle = (cold * hot) ** 0.5
        # The loss is convex in 1 / temperature: its slope there says on which side the least is.
        if _slope(logs, wanted, 1 / middle) > 0:
            cold = middle
        else:
            hot = middle
    return round(cold, DECIMALS)


def _targets(truth: Labels, examples: int, labels: int) -> npt.NDArray[np.float64]:
    others = 1 / (examples + 2)
    targets = np.full((examples, labels), others / max(labels - 1, 1))
    targets[np.arange(examples), truth] = 1 - others
    return targets


def _slope(
    logs: npt.NDArray[np.float64], wanted: npt.NDArray[np.float64], exponent: float
) -> float:
    """Of the mean log loss, by the exponent that the probabilities are raised to."""
    powers = np.exp(exponent * (logs - logs.max(axis=1, keepdims=True)))
    found = powers / powers.sum(axis=1, keepdims=True)
    return float(((found - wanted) * logs).sum(axis=1).mean())
