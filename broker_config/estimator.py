"""What a pack of one model will cost, and how good the estimates were.

A worker starts from the model's calibration and measures its own runs; a client starts from what
a worker's card says, or from a guess, and learns from the seconds that replies carry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lmaas.broker_config.learning import LearntCost, Size
from lmaas.broker_config.scheduling import LANES, LEAST, UNKNOWN, Cost, lane


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

    def __init__(self, cost: Cost = UNKNOWN) -> None:
        """`cost` is the model's calibration, made when it was exported, if it has one."""
        self._learnt = LearntCost(cost)
        #: By lane.
        self.errors = {name: Error() for name in LANES}

    @property
    def cost(self) -> Cost:
        """As far as it is learnt now."""
        return self._learnt.cost

    def seconds(self, items: int, size: int) -> float:
        """Of a pack of so many items and `size` bytes."""
        return self._learnt.cost.estimate(items, size)

    def shares(self, packs: Sequence[Size], actual: float) -> list[float]:
        """What each of the packs took of the `actual` seconds that they ran together."""
        estimates = [self.seconds(*pack) for pack in packs]
        scale = max(actual, LEAST) / sum(estimates)
        return [estimate * scale for estimate in estimates]

    def observe(self, packs: Sequence[Size], actual: float) -> None:
        """Packs of these items and bytes ran together in `actual` seconds."""
        estimates = [self.seconds(*pack) for pack in packs]
        ratio = max(actual, LEAST) / sum(estimates)
        for estimate in estimates:
            error = self.errors[lane(estimate)]
            error.packs += 1
            error.predicted += estimate
            error.actual += ratio * estimate
        self._learnt.observe(packs, actual)
