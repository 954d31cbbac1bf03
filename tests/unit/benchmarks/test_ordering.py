"""The traces that are played, and what a run of one says."""

from __future__ import annotations

import os
from itertools import pairwise

import msgspec
import numpy as np
import pytest

from benchmarks import ordering, queueing, rig, simulator, traces
from benchmarks.open_loop import Packs, Run
from lmaas.broker_config.scheduling import LANES, place
from lmaas.broker_config.settings import Settings


def test_sizes_have_the_moments_that_were_asked_for() -> None:
    sample = traces.lognormal(100_000, 0.01, 1.5)
    assert sample.mean() == pytest.approx(0.01)
    # Quantiles have a little less tail than their law.
    assert sample.std() / sample.mean() == pytest.approx(1.5, rel=0.02)
    assert (np.diff(sample) > 0).all()


def test_levels_of_the_replay_are_lane_and_priority() -> None:
    seconds = np.geomspace(1e-5, 50, 500)
    levels = traces.broker_levels(seconds, seconds)
    names = list(LANES)
    places = [place("sjf", 0.0, each) for each in seconds.tolist()]
    first = [(names.index(lane), -priority) for lane, priority in places]
    assert (np.diff(levels) >= 0).all()
    assert [a == b for a, b in pairwise(first)] == (np.diff(levels) == 0).tolist()


def test_a_steady_trace_is_near_the_formulas() -> None:
    seconds, load = traces.lognormal(1_000, 0.01, 1.0), 0.7
    few, many = (traces.steady(seconds, load, 0.2, candidates) for candidates in (1, 30))
    assert many.distance < few.distance
    assert sorted(many.seconds) == pytest.approx(seconds)
    assert many.seconds.sum() / many.arrivals[-1] == pytest.approx(load)
    waits = simulator.replay(many.arrivals, many.seconds, simulator.fifo)
    expected = queueing.fifo(seconds, queueing.rate_for(seconds, load)).mean()
    assert waits.mean() == pytest.approx(expected, rel=many.distance * 1.001)


def test_a_burst_is_in_an_order_like_any_other() -> None:
    seconds = traces.lognormal(200, 0.01, 1.5)
    trace = traces.burst(seconds)
    assert not trace.arrivals.any()
    assert trace.distance < 0.01
    waits = simulator.replay(trace.arrivals, trace.seconds, simulator.fifo)
    assert waits.mean() == pytest.approx(seconds.mean() * 199 / 2, rel=0.01)


def test_the_tail_is_that_of_the_longest() -> None:
    seconds = np.arange(1.0, 101.0)
    waits = np.where(seconds > 90, 100.0, 0.0)
    assert traces.tail_ratio(seconds, waits, waits) == 1
    assert traces.tail_ratio(seconds, 0 * waits, waits) == pytest.approx(0.5, abs=0.01)


def test_what_a_run_says() -> None:
    # The second pack was there when the first was answered: half a second of overhead.
    rows = [(0.0, 2.0, 1.5), (1.0, 4.0, 1.5), (9.0, 11.0, 1.5)]
    run = Run.of(rows, np.array([0.0, 0.75, 9.0]))
    assert run.overhead == 0.5
    assert run.seconds.tolist() == [2, 2, 2]
    assert run.took.tolist() == [2, 3, 2]
    assert run.waits.tolist() == [0, 1, 0]
    assert run.late.tolist() == [0, 0.25, 0]
    assert run.load == pytest.approx(6 / 9)
    assert run.way == 0
    assert run.replayed(simulator.fifo).tolist() == [0, 1, 0]


def test_packs_that_are_answered_together_share_their_overhead() -> None:
    rows = [(0.0, 1.0, 1.0), (0.0, 3.4, 1.0), (0.0, 3.4, 1.0)]
    assert Run.of(rows, np.zeros(3)).overhead == pytest.approx(0.2)


def test_packs_are_as_large_as_asked() -> None:
    packs = Packs(["x" * 10] * 25)
    found = packs.of(np.array([0.0, 45.0, 100.0, 100.0, 0.0]))
    assert [len(request.items) for request in found] == [1, 5, 10, 10, 1]
    ids = [item.id for request in found for item in request.items]
    assert ids[:16] == [str(place) for place in range(16)]
    assert ids[16] == "0"  # the ten that were left would not do
    assert {request.model for request in packs.of(np.zeros(100))} == {rig.MODEL}


def test_a_worker_process_has_exactly_these_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(policy="fifo", ageing=0.0, prefetch=3, providers=("A", "B"))
    monkeypatch.setenv("LMAAS_WINDOW", "7")
    monkeypatch.setenv("LMAAS_PAYLOAD_KEYS", "payload.keys")
    monkeypatch.setattr(os, "environ", rig.environment(settings))
    assert msgspec.structs.asdict(Settings.load()) == msgspec.structs.asdict(settings)


def test_every_policy_can_be_set_and_replayed() -> None:
    assert set(ordering.POLICIES) == set(ordering.RULES)
    for changes in ordering.POLICIES.values():
        msgspec.convert(changes, Settings)


def test_the_gain_of_jobs_by_hand() -> None:
    # One after the other 3, 4; the short one first 1, 4 (a window of 2 makes it wait for nothing).
    assert ordering._job_gain([3, 1], 1.0, 2) == pytest.approx((3 + 4) / (1 + 4))


def test_a_typical_order_is_near_the_mean_of_all() -> None:
    sizes = (1, 2, 4, 8, 16, 32)
    order = ordering._typical(sizes)
    assert sorted(order) == list(sizes)
    assert np.cumsum(order).mean() == pytest.approx(sum(sizes) * 7 / 12, rel=0.05)


def test_reports_without_a_formula_for_too_much_work() -> None:
    run = Run.of([(0.0, 1.0, 1.0), (1.0, 9.0, 3.0)], np.zeros(2))
    assert run.load > 1
    assert ordering._promised(run) == {}
