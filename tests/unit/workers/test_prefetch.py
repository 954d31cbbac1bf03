"""Packs ahead: as many as run while the next one is on its way."""

from __future__ import annotations

import pytest

from lmaas.broker_config.scheduling import LANES
from lmaas.workers.prefetch import MOST, RECENT, Prefetch, first_confirms, prefetch


@pytest.mark.parametrize(
    ("seconds", "packs"),
    [
        (1e-6, MOST),
        (0.001, 21),  # twenty milliseconds of work, and what runs
        (0.020, 2),
        (0.022, 1),  # a worker that waits 1.1 ms is idle for a twentieth
        (5.0, 1),
    ],
)
def test_as_many_as_keep_a_worker_busy(seconds: float, packs: int) -> None:
    assert prefetch(seconds, round_trip=0.0011) == packs


def test_a_long_way_needs_more() -> None:
    assert prefetch(0.01, round_trip=0.1) == 11


def test_before_anything_was_measured_short_lanes_get_more() -> None:
    tuned = Prefetch()
    wanted = [tuned.wanted(lane) for lane in LANES]
    assert wanted == sorted(wanted, reverse=True)
    assert wanted[0] > 1
    assert wanted[-1] == 1


def test_only_the_last_lane_may_run_dry() -> None:
    tuned = Prefetch()
    for _ in range(200):
        for lane in LANES:
            tuned.ran(lane, 10.0)
    assert [tuned.wanted(lane) for lane in LANES] == [2] * (len(LANES) - 1) + [1]


def test_who_is_alone_has_more_to_choose_from() -> None:
    tuned = Prefetch()
    times = dict(zip(LANES, (0.0003, 0.009, 0.06, 0.3, 3.0), strict=True))
    for lane, seconds in times.items():
        for _ in range(200):
            tuned.ran(lane, seconds)
    assert [tuned.wanted(lane, alone=True) for lane in LANES] == [256, 23, 4, 2, 1]
    assert [tuned.wanted(lane) for lane in LANES] == [68, 4, 2, 2, 1]


def test_it_follows_what_is_measured() -> None:
    tuned = Prefetch()
    for _ in range(RECENT):
        tuned.ran("short", 0.01)
        tuned.confirmed(0.0499)  # a slow line: 100 ms until the next one is there
    assert tuned.wanted("short") == 11
    for _ in range(RECENT):
        tuned.confirmed(0.0001)
    assert tuned.wanted("short") == 2


def test_confirms_that_were_late_are_no_reason_to_hoard() -> None:
    tuned = Prefetch()
    for _ in range(100):
        tuned.ran("short", 0.011)
        tuned.confirmed(0.5)
        tuned.confirmed(0.001)
    assert tuned.wanted("short") == 3


def test_what_is_near_enough_stays() -> None:
    tuned = Prefetch()
    for _ in range(200):
        tuned.ran("short", 0.001)
        tuned.confirmed(0.001)
    assert tuned.wanted("short") == 21
    assert tuned.better("short", 15) == 15
    assert tuned.better("short", 14) == 21
    assert tuned.better("short", 32) == 21


def test_the_first_measurement_counts_for_more_than_the_guess() -> None:
    tuned = Prefetch()
    assert tuned.wanted("short") == 5
    tuned.ran("short", 0.064)
    assert tuned.wanted("short") == 2


def test_models_share_the_way_to_the_broker_and_not_the_times_of_their_packs() -> None:
    confirms = first_confirms()
    light, heavy = Prefetch(confirms), Prefetch(confirms)
    for _ in range(RECENT):
        light.ran("short", 0.001)
        heavy.ran("short", 0.02)
        light.confirmed(0.05)
    assert light.wanted("short") == 101
    assert heavy.wanted("short") == 6
