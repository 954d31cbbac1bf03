"""What a pack will cost: calibrated, then corrected by what was measured."""

from __future__ import annotations

import pytest

from lmaas.broker_config.estimator import CORRECTIONS, Estimator
from lmaas.broker_config.scheduling import Cost

COST = Cost(fixed=0.001, per_byte=1e-6)


def test_an_estimate_begins_with_the_calibration() -> None:
    assert Estimator(COST).seconds(1_000) == pytest.approx(0.002)


def test_a_machine_of_half_the_speed_is_learnt() -> None:
    estimator = Estimator(COST)
    for _ in range(100):
        estimator.observe([1_000, 3_000], 2 * (0.002 + 0.004))
    assert estimator.seconds(1_000) == pytest.approx(0.004, rel=0.01)


@pytest.mark.parametrize(("actual", "bound"), [(0.0, CORRECTIONS[0]), (1e6, CORRECTIONS[1])])
def test_absurd_measurements_are_bounded(actual: float, bound: float) -> None:
    estimator = Estimator(COST)
    for _ in range(200):
        estimator.observe([1_000], actual)
    assert estimator.correction == bound


def test_one_strange_measurement_is_not_believed() -> None:
    estimator = Estimator(COST)
    estimator.observe([1_000], 2.0)
    assert estimator.seconds(1_000) == pytest.approx(0.004, rel=0.01)


def test_packs_that_ran_together_share_the_time_by_their_estimates() -> None:
    assert Estimator(COST).shares([1_000, 3_000], 0.012) == pytest.approx([0.004, 0.008])


def test_errors_are_told_by_lane() -> None:
    estimator = Estimator(COST)
    estimator.observe([500], 0.003)  # 1.5 ms promised, in the lane "instant"
    assert estimator.errors["instant"].packs == 1
    assert estimator.errors["instant"].ratio == pytest.approx(0.5)
    assert estimator.errors["huge"].packs == 0
    assert estimator.errors["huge"].ratio == 1.0
