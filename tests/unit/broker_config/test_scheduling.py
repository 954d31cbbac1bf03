"""From size to lane and priority."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_config.scheduling import LANES, MAX_PRIORITY, Cost, lane, priority


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (1e-6, ("short", 4)),
        (0.003, ("short", 4)),
        (0.00626, ("short", 2)),
        (0.0125, ("short", 2)),
        (0.02, ("short", 1)),
        (0.05, ("short", 0)),
        (0.050001, ("medium", 3)),
        (0.5, ("medium", 0)),
        (0.51, ("long", 3)),
        (4.0, ("long", 1)),
        (8.0, ("long", 0)),
        (3600.0, ("long", 0)),
    ],
)
def test_lane_and_priority(seconds: float, expected: tuple[str, int]) -> None:
    assert (lane(seconds), priority(seconds)) == expected


@given(st.lists(st.floats(1e-6, 3600), min_size=2).map(sorted))
def test_longer_work_is_never_ahead(times: list[float]) -> None:
    order = list(LANES)
    ranks = [(order.index(lane(seconds)), -priority(seconds)) for seconds in times]
    assert all(shorter <= longer for shorter, longer in pairwise(ranks))
    assert all(0 <= priority(seconds) <= MAX_PRIORITY for seconds in times)


@pytest.mark.parametrize(
    ("cost", "size", "seconds"),
    [
        (Cost(fixed=0.001, per_byte=1e-6), 0, 0.001),
        (Cost(fixed=0.001, per_byte=1e-6), 1000, 0.002),
        (Cost(fixed=0.0, per_byte=0.0), 1000, 1e-6),
        (Cost(fixed=-5.0, per_byte=0.0), 1000, 1e-6),
        (Cost(fixed=0.0, per_byte=1.0), 10**9, 3600.0),
    ],
)
def test_estimates_stay_within_bounds(cost: Cost, size: int, seconds: float) -> None:
    assert cost.estimate(size) == pytest.approx(seconds)
