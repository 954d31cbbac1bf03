"""What a pack will cost: calibrated, then corrected by what was measured."""

from __future__ import annotations

import pytest

from lmaas.broker_config.estimator import Estimator
from lmaas.broker_config.scheduling import GUESS, Cost

COST = Cost(fixed=0.001, per_item=0.0005, per_byte=1e-6)


def test_an_estimate_begins_with_the_calibration() -> None:
    assert Estimator(COST).seconds(2, 1_000) == pytest.approx(0.003)
    assert Estimator(COST).cost == COST


def test_without_a_calibration_it_begins_with_a_guess() -> None:
    assert Estimator().seconds(3, 1_000) == GUESS.estimate(3, 1_000)


def test_a_machine_of_half_the_speed_is_learnt() -> None:
    estimator = Estimator(COST)
    for _ in range(100):
        estimator.observe([(2, 1_000), (2, 3_000)], 2 * (0.003 + 0.005))
    assert estimator.seconds(2, 1_000) == pytest.approx(0.006, rel=0.05)
    assert estimator.seconds(2, 3_000) == pytest.approx(0.010, rel=0.05)


def test_packs_that_ran_together_share_the_time_by_their_estimates() -> None:
    shares = Estimator(COST).shares([(2, 1_000), (2, 3_000)], 0.016)
    assert shares == pytest.approx([0.006, 0.010])


def test_errors_are_told_by_lane() -> None:
    estimator = Estimator(COST)
    estimator.observe([(1, 200)], 0.0034)  # 1.7 ms promised, in the lane "instant"
    assert estimator.errors["instant"].packs == 1
    assert estimator.errors["instant"].ratio == pytest.approx(0.5)
    assert estimator.errors["huge"].packs == 0
    assert estimator.errors["huge"].ratio == 1.0
