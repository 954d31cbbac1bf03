"""What a pack will cost on this worker: the calibrated line, corrected by what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from broker_config.scheduling import LANES, LEAST, Cost, clamped, lane

#: Weight of the newest measurement.
WEIGHT: Final = 0.1
#: The correction stays within these: one strange measurement is no reason to turn the order over.
CORRECTIONS: Final = (0.1, 10.0)


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
    """The seconds of packs of one model, on one worker."""

    def __init__(self, cost: Cost) -> None:
        """`cost` is the model's calibration, made when it was exported."""
        self._cost = cost
        self.correction = 1.0
        #: By lane.
        self.errors = {name: Error() for name in LANES}

    def seconds(self, size: int) -> float:
        """Of a pack of `size` bytes."""
        return clamped(self._cost.estimate(size) * self.correction)

    def observe(self, sizes: list[int], actual: float) -> None:
        """Packs of these sizes ran together in `actual` seconds."""
        estimates = [self.seconds(size) for size in sizes]
        predicted = sum(estimates)
        actual = max(actual, LEAST)
        for estimate in estimates:
            error = self.errors[lane(estimate)]
            error.packs += 1
            error.predicted += estimate
            error.actual += actual * estimate / predicted
        least, most = CORRECTIONS
        target = self.correction * actual / predicted
        moved = self.correction + WEIGHT * (target - self.correction)
        self.correction = min(max(moved, least), most)
