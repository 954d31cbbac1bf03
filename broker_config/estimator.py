"""What a pack of one model will cost: a line in its bytes, corrected by what was measured.

A worker starts from the model's calibration and measures its own runs; a client starts from the
default line and learns from the seconds that replies carry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lmaas.broker_config.scheduling import LANES, LEAST, Cost, clamped, lane

#: Weight of the newest measurement, in a mean of logarithms: one that is a thousand times off
#: doubles the correction, and no more.
WEIGHT: Final = 0.1
#: The correction stays within these.
CORRECTIONS: Final = (1e-3, 1e3)


@dataclass(slots=True)
class Error:
    """How good the estimates of one size class were."""

    packs: int = 0
    #: Sums of predicted and of measured seconds; their ratio is the mean error.
    predicted: float = 0.0
    actual: float = 0.0

    @property
    def ratio(self) -> float:
        """Predicted / actual: 1 is right, 0.5 promised half of what it took."""
        return self.predicted / self.actual if self.actual else 1.0


class Estimator:
    """The seconds of packs of one model."""

    def __init__(self, cost: Cost | None = None) -> None:
        """`cost` is the model's calibration, made when it was exported, if it is known."""
        self._cost = cost or Cost()
        self.correction = 1.0
        #: By lane.
        self.errors = {name: Error() for name in LANES}

    @property
    def cost(self) -> Cost:
        """The line as it is corrected now."""
        return Cost(self._cost.fixed * self.correction, self._cost.per_byte * self.correction)

    def seconds(self, size: int) -> float:
        """Of a pack of `size` bytes."""
        return clamped(self._cost.estimate(size) * self.correction)

    def shares(self, sizes: Sequence[int], actual: float) -> list[float]:
        """What each of the packs took of the `actual` seconds that they ran together."""
        estimates = [self.seconds(size) for size in sizes]
        scale = max(actual, LEAST) / sum(estimates)
        return [estimate * scale for estimate in estimates]

    def observe(self, sizes: Sequence[int], actual: float) -> None:
        """Packs of these sizes ran together in `actual` seconds."""
        estimates = [self.seconds(size) for size in sizes]
        ratio = max(actual, LEAST) / sum(estimates)
        for estimate in estimates:
            error = self.errors[lane(estimate)]
            error.packs += 1
            error.predicted += estimate
            error.actual += ratio * estimate
        least, most = CORRECTIONS
        self.correction = min(max(self.correction * ratio**WEIGHT, least), most)
