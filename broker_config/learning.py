"""What packs of one model cost, learnt from one run after the other. Pure.

The seconds of a run are taken to be `fixed` for each of its packs, `per_item` for each item and
`per_byte` for each byte. An extended Kalman filter follows the logarithms of these three, so that
none can become negative and an error counts by its ratio, whatever the model's speed is:

- Its measurement is the logarithm of a run's seconds. By small changes of the logarithms of the
  parts that changes as the *share* says which each part has in the estimate, so that a run teaches
  most about what it mostly consists of.
- How sure it is of each part is a 3 x 3 covariance. A calibration is nearly certain, and a guess
  gives way to the first runs. The parts are correlated: on a slower machine all of them are larger.
- A surprise counts up to one and a half standard deviations, so that one absurd run changes
  little; and it makes the filter more certain only as far as it counts, so that a model which is
  thousands of times as slow as was thought is still learnt within tens of runs.
- What was learnt becomes less certain with each run, down to what a calibration is, so that the
  newest runs always count for about a tenth of what they are about.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from lmaas.broker_config.scheduling import GUESS, LEAST, MOST, UNKNOWN, Cost

#: Items and bytes of a pack.
Size = tuple[int, int]

#: Variances of natural logarithms. Of one run: two thirds are within 1.65 times the estimate.
NOISE: Final = 0.25
#: Of each part of a calibration alone, and the same of all together, for the machine's speed.
CALIBRATED: Final = 0.1
#: The same of a guess: each part may well be 17 times as large, or as small.
GUESSED: Final = 4.0
#: The share of the way back to CALIBRATED that the covariance goes at each run.
FORGETTING: Final = 0.01
#: Standard deviations that a surprise counts at most.
SURPRISE: Final = 1.5
#: What the parts are at least: what is nothing could not be multiplied.
FLOOR: Final = Cost(fixed=LEAST, per_item=1e-7, per_byte=1e-10)

_Triple = tuple[float, float, float]


def _covariance(variance: float) -> list[_Triple]:
    one, both = variance, 2 * variance
    return [(both, one, one), (one, both, one), (one, one, both)]


class LearntCost:
    """The cost as it is known now."""

    def __init__(self, calibration: Cost = UNKNOWN) -> None:
        """Where nothing is known it begins with a guess."""
        guessed = calibration == UNKNOWN
        self.cost = _cost(_parts(GUESS if guessed else calibration))
        self._covariance = _covariance(GUESSED if guessed else CALIBRATED)

    def observe(self, packs: Sequence[Size], seconds: float) -> None:
        """Packs of these sizes, at least one, ran together in so many seconds."""
        amounts = len(packs), sum(items for items, _ in packs), sum(size for _, size in packs)
        fixed, per_item, per_byte = _parts(self.cost)
        a, b, c = fixed * amounts[0], per_item * amounts[1], per_byte * amounts[2]
        estimate = a + b + c
        a, b, c = a / estimate, b / estimate, c / estimate
        # Covariances of each part with the whole estimate, and the variance of the measurement.
        ka, kb, kc = along = [x * a + y * b + z * c for x, y, z in self._covariance]
        variance = ka * a + kb * b + kc * c + NOISE
        surprise = math.log(min(max(seconds, LEAST), MOST) / estimate)
        counts = min(SURPRISE * math.sqrt(variance) / max(abs(surprise), LEAST), 1.0)
        gain = surprise * counts / variance
        self.cost = _cost(
            (
                fixed * math.exp(ka * gain),
                per_item * math.exp(kb * gain),
                per_byte * math.exp(kc * gain),
            )
        )
        ka, kb, kc = (k * counts / variance for k in along)
        self._covariance = [
            (
                x + FORGETTING * (dx - x) - k * ka,
                y + FORGETTING * (dy - y) - k * kb,
                z + FORGETTING * (dz - z) - k * kc,
            )
            for k, (x, y, z), (dx, dy, dz) in zip(along, self._covariance, _FORGOTTEN, strict=True)
        ]


_FORGOTTEN: Final = _covariance(CALIBRATED)


def _parts(cost: Cost) -> _Triple:
    return cost.fixed, cost.per_item, cost.per_byte


def _cost(parts: _Triple) -> Cost:
    """Within bounds."""
    fixed, per_item, per_byte = parts
    return Cost(
        fixed=min(max(fixed, FLOOR.fixed), MOST),
        per_item=min(max(per_item, FLOOR.per_item), MOST),
        per_byte=min(max(per_byte, FLOOR.per_byte), MOST),
    )
