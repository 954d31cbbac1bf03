"""From size to lane and priority."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmaas.broker_config.scheduling import (
    LANES,
    MAX_PRIORITY,
    MOST,
    UNKNOWN,
    Cost,
    Policy,
    key,
    lane,
    place,
    priority,
    rank,
)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (1e-6, ("instant", 4)),
        (0.0012, ("instant", 0)),
        (0.002, ("instant", 0)),
        (0.0021, ("short", 3)),
        (0.005, ("short", 2)),
        (0.01, ("short", 1)),
        (0.02, ("short", 0)),
        (0.020001, ("medium", 3)),
        (0.2, ("medium", 0)),
        (0.21, ("long", 3)),
        (2.0, ("long", 0)),
        (2.1, ("huge", 3)),
        (20.0, ("huge", 0)),
        (3600.0, ("huge", 0)),
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
    ("cost", "items", "size", "seconds"),
    [
        (Cost(fixed=0.001, per_byte=1e-6), 1, 0, 0.001),
        (Cost(fixed=0.001, per_byte=1e-6), 1, 1000, 0.002),
        (Cost(fixed=0.001, per_item=0.01, per_byte=1e-6), 3, 1000, 0.032),
        (UNKNOWN, 1, 1000, 1e-6),
        (Cost(fixed=-5.0), 1, 1000, 1e-6),
        (Cost(per_item=1.0), 10**9, 0, 3600.0),
        (Cost(per_byte=1.0), 1, 10**9, 3600.0),
    ],
)
def test_estimates_stay_within_bounds(cost: Cost, items: int, size: int, seconds: float) -> None:
    assert cost.estimate(items, size) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("policy", "seconds", "remaining", "expected"),
    [
        ("fifo", 3.0, 100.0, 0.0),
        ("sjf", 3.0, 100.0, 3.0),
        ("srtf", 3.0, 100.0, 100.0),
        ("srtf", 3.0, None, 3.0),
        # A publisher that says less remains than the pack itself takes gains nothing by it.
        ("srtf", 3.0, 1e-9, 3.0),
        ("srtf", 3.0, 1e12, MOST),
    ],
)
def test_rank(policy: Policy, seconds: float, remaining: float | None, expected: float) -> None:
    assert rank(policy, seconds, remaining) == expected


def test_fifo_has_one_lane_and_one_priority() -> None:
    ranks = [rank("fifo", seconds) for seconds in (1e-6, 0.01, 1.0, 3600.0)]
    assert {place("fifo", 0.1, one) for one in ranks} == {("instant", 0)}


@given(st.floats(1e-6, 3600))
def test_with_ageing_a_lane_is_in_order_of_arrival(seconds: float) -> None:
    assert place("sjf", 0.1, seconds) == (lane(seconds), 0)
    assert place("sjf", 0.0, seconds) == (lane(seconds), priority(seconds))


@given(st.floats(1e-6, 3600), st.floats(1e-6, 3600), st.floats(0.01, 10), st.floats(0.001, 1e5))
def test_nothing_overtakes_what_was_published_rank_by_ageing_seconds_before(
    long: float, short: float, ageing: float, later: float
) -> None:
    arrival = 1_000.0
    assert key(long, arrival, ageing) < key(short, arrival + long / ageing + later, ageing)


def test_without_ageing_the_shorter_is_always_first() -> None:
    assert key(1.0, 1e9, 0.0) < key(2.0, 0.0, 0.0)
