"""The replay against the closed formulas, and what holds exactly in every replay."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import queueing, simulator
from benchmarks.queueing import Seconds
from benchmarks.simulator import N, Policy, ageing, fifo, replay, sjf
from lmaas.broker_config.scheduling import LANES, lane

JOBS = 100_000
PARTS = (np.arange(JOBS) + 0.5) / JOBS
BATCHES = 20
#: Standard errors that a mean may be off; all seeds are fixed.
ERRORS = 4
CUTS = (0.3, 0.7, 1.5, 3.0)


def levels(cuts: Sequence[float]) -> Policy:
    """Priority levels: level k takes the estimates up to `cuts[k]`, the last one all others."""

    def rank(_published: N, estimate: N, /) -> N:
        level: N = np.searchsorted(cuts, estimate).astype(float)
        return level

    return rank


#: Waits of a trace under a policy, and the closed formula for it.
METHODS: dict[str, tuple[Callable[[Seconds, Seconds], Seconds], Callable[..., Seconds]]] = {
    "sjf": (lambda came, size: replay(came, size, sjf), queueing.sjf),
    "levels": (
        lambda came, size: replay(came, size, levels(CUTS)),
        lambda size, rate: queueing.levels(size, rate, np.searchsorted(CUTS, size)),
    ),
}


def lognormal(variation: float) -> Seconds:
    quantile = NormalDist().inv_cdf
    normal = np.array([quantile(part) for part in PARTS])
    return np.exp(normal * math.sqrt(math.log(1 + variation**2)))


LAWS: dict[str, Callable[[], Seconds]] = {
    "exponential": lambda: -np.log(1 - PARTS),
    "lognormal .75": lambda: lognormal(0.75),
    "lognormal 1.5": lambda: lognormal(1.5),
    "90/10": lambda: np.where(PARTS < 0.9, 1.0, 10.0),
}


@cache
def trace(law: str, load: float) -> tuple[Seconds, Seconds, float, Seconds]:
    """Arrivals, service times, rate, and the waits of FIFO."""
    rng = np.random.default_rng(11)
    # Quantiles in random order: the law's moments are exact, only the order is chance.
    seconds = rng.permutation(LAWS[law]())
    rate = queueing.rate_for(seconds, load)
    arrivals = queueing.poisson(rng, rate, JOBS)
    return arrivals, seconds, rate, replay(arrivals, seconds, fifo)


def standard_error(values: Seconds) -> float:
    """Of the mean of values whose neighbours depend on each other: by means of batches.

    A batch of 5,000 jobs is many times as long as the queue remembers at load 0.9.
    """
    means = values.reshape(BATCHES, -1).mean(axis=1)
    return float(means.std(ddof=1)) / math.sqrt(BATCHES)


@pytest.mark.parametrize("load", [0.5, 0.7, 0.9])
@pytest.mark.parametrize("law", LAWS)
def test_fifo_is_what_pollaczek_and_khinchine_say(law: str, load: float) -> None:
    _, seconds, rate, waits = trace(law, load)
    expected = queueing.fifo(seconds, rate).mean()
    error = standard_error(waits)
    assert waits.mean() == pytest.approx(expected, abs=ERRORS * error)
    assert error < {0.5: 0.04, 0.7: 0.04, 0.9: 0.06}[load] * expected


@pytest.mark.parametrize("load", [0.5, 0.7, 0.9])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("law", LAWS)
def test_gains_over_fifo_are_what_the_formulas_say(law: str, method: str, load: float) -> None:
    arrivals, seconds, rate, plain = trace(law, load)
    simulate, formula = METHODS[method]
    ratio = formula(seconds, rate).mean() / queueing.fifo(seconds, rate).mean()
    # On the same trace most of the chance cancels: the difference has the mean 0.
    difference = simulate(arrivals, seconds) - ratio * plain
    error = standard_error(difference)
    assert abs(difference.mean()) <= ERRORS * error
    assert error < 0.01 * plain.mean()


def test_waits_of_each_level_are_cobhams() -> None:
    arrivals, seconds, rate, _ = trace("lognormal .75", 0.7)
    level = np.searchsorted(CUTS, seconds)
    waits = replay(arrivals, seconds, levels(CUTS))
    expected = queueing.levels(seconds, rate, level)
    for number in range(len(CUTS) + 1):
        inside = level == number
        # The batches' sums: a level has not the same number of jobs in each.
        error = standard_error(np.where(inside, waits - expected, 0)) / inside.mean()
        assert waits[inside].mean() == pytest.approx(expected[inside].mean(), abs=ERRORS * error)
        assert error < 0.1 * expected[inside].mean()


def test_wrong_estimates_cost_what_the_formula_says() -> None:
    arrivals, seconds, rate, plain = trace("lognormal 1.5", 0.7)
    noise = np.random.default_rng(5).lognormal(0, 1, JOBS)
    waits = replay(arrivals, seconds, sjf, estimates=seconds * noise)
    wrong = queueing.sjf(seconds, rate, seconds * noise).mean()
    ratio = wrong / queueing.fifo(seconds, rate).mean()
    difference = waits - ratio * plain
    assert abs(difference.mean()) <= ERRORS * standard_error(difference)
    # The right order would have been further away than the tolerance.
    assert wrong - queueing.sjf(seconds, rate).mean() > 2 * ERRORS * standard_error(difference)


@pytest.mark.parametrize("law", LAWS)
def test_a_burst(law: str) -> None:
    seconds = np.random.default_rng(3).permutation(LAWS[law]())
    burst = np.zeros(JOBS)
    ratio = replay(burst, seconds, sjf).mean() / replay(burst, seconds, fifo).mean()
    # FIFO's mean weighs each size with a random place: relative error CV / sqrt(3 n).
    error = seconds.std() / seconds.mean() / math.sqrt(3 * JOBS)
    assert ratio == pytest.approx(queueing.burst_ratio(seconds), rel=ERRORS * error)


@pytest.mark.parametrize(("servers", "load"), [(2, 0.7), (8, 0.9)])
def test_a_pool_waits_what_erlang_says(servers: int, load: float) -> None:
    arrivals, seconds, _, _ = trace("exponential", load)
    waits = replay(arrivals / servers, seconds, fifo, servers=servers)
    expected = queueing.pool_wait(servers, load, 1.0, 1.0)
    assert waits.mean() == pytest.approx(expected, abs=ERRORS * standard_error(waits))
    p99 = queueing.pool_quantile(servers, load, 1.0, 1.0)
    tail = (waits > p99).astype(float)
    assert tail.mean() == pytest.approx(0.01, abs=ERRORS * standard_error(tail))


# What holds exactly. Whole numbers, so that sums are exact and things happen at the same time.

whole = st.integers(0, 12).map(float)
traces = st.lists(st.tuples(whole, st.integers(1, 6).map(float)), min_size=1, max_size=14)
policies = st.sampled_from([fifo, sjf, levels((1.0, 3.0)), ageing(0.5)])
pools = st.integers(1, 3)


def columns(jobs: list[tuple[float, float]]) -> tuple[Seconds, Seconds]:
    arrivals, seconds = zip(*sorted(jobs), strict=True)
    return np.array(arrivals), np.array(seconds)


@given(traces, policies, pools)
def test_the_first_in_rank_is_next_and_nobody_is_idle(
    jobs: list[tuple[float, float]], policy: Policy, servers: int
) -> None:
    arrivals, seconds = columns(jobs)
    waits = replay(arrivals, seconds, policy, servers=servers)
    starts = arrivals + waits
    ranks = policy(arrivals, seconds)
    assert (waits >= 0).all()
    for job, start in enumerate(starts):
        waiting = (arrivals <= start) & (starts > start)
        assert all((ranks[job], job) < (ranks[other], other) for other in np.flatnonzero(waiting))
    for now in np.unique(np.concatenate((arrivals, starts + seconds))):
        running = int(((starts <= now) & (now < starts + seconds)).sum())
        assert running <= servers
        if ((arrivals <= now) & (starts > now)).any():
            assert running == servers


@given(traces, policies, pools)
def test_jobs_of_one_chunk_are_jobs(
    jobs: list[tuple[float, float]], policy: Policy, servers: int
) -> None:
    arrivals, seconds = columns(jobs)
    chunks = [[size] for size in seconds]
    took = simulator.replay_jobs(arrivals, chunks, policy, window=3, servers=servers)
    assert (took == replay(arrivals, seconds, policy, servers=servers) + seconds).all()


@given(traces, policies)
def test_one_server_that_holds_everything_has_its_own_order(
    jobs: list[tuple[float, float]], policy: Policy
) -> None:
    arrivals, seconds = columns(jobs)
    waits = simulator.replay_prefetched(arrivals, seconds, policy, prefetch=len(jobs))
    assert (waits == replay(arrivals, seconds, policy)).all()


@given(traces, policies, pools)
def test_servers_that_hold_nothing_have_the_brokers_order(
    jobs: list[tuple[float, float]], policy: Policy, servers: int
) -> None:
    arrivals, seconds = columns(jobs)
    waits = simulator.replay_prefetched(
        arrivals, seconds, fifo, prefetch=1, servers=servers, broker=policy
    )
    assert (waits == replay(arrivals, seconds, policy, servers=servers)).all()


@given(traces, st.sampled_from([0.25, 0.5, 2.0]))
def test_no_wait_is_longer_than_ageing_allows(jobs: list[tuple[float, float]], gain: float) -> None:
    arrivals, seconds = columns(jobs)
    waits = replay(arrivals, seconds, ageing(gain))
    assert (waits <= simulator.ageing_bound(arrivals, seconds, gain)).all()


# Stories.


def last_to_overtake(arrivals: Seconds, waits: Seconds) -> Seconds:
    """For each job the arrival of the latest one among those that began before it."""
    order = np.argsort(arrivals + waits, kind="stable")
    latest = np.empty(len(order))
    latest[order] = np.maximum.accumulate(arrivals[order])
    return latest


def test_ageing_serves_long_jobs_within_a_bound_when_short_ones_are_too_many() -> None:
    rng = np.random.default_rng(2)
    seconds = np.where(rng.random(20_000) < 0.01, 5.0, 0.1)
    arrivals = queueing.poisson(rng, queueing.rate_for(seconds, 1.5), seconds.size)
    gain, long = 0.1, seconds > 1
    waits = replay(arrivals, seconds, ageing(gain))
    late = last_to_overtake(arrivals, waits) - arrivals
    assert (late <= seconds / gain).all()
    assert late[long].max() > 0.95 * 5.0 / gain  # the bound is no looser than it has to be
    bound = simulator.ageing_bound(arrivals, seconds, gain)
    assert (waits <= bound * (1 + 1e-9)).all()
    assert waits[long].max() > 0.95 * bound[long].max()
    # Without ageing they wait for the end of the overload.
    starving = replay(arrivals, seconds, sjf)
    first = np.flatnonzero(long)[:20]
    assert np.median(starving[first]) > 10 * np.median(waits[first])


def test_ageing_lies_between_shortest_first_and_first_in_first_out() -> None:
    arrivals, seconds, _, plain = trace("exponential", 0.9)
    shortest = replay(arrivals, seconds, sjf)
    assert (replay(arrivals, seconds, ageing(0)) == shortest).all()
    assert (replay(arrivals, seconds, ageing(1e9)) == plain).all()
    means = [replay(arrivals, seconds, ageing(gain)).mean() for gain in (0, 0.1, 1, 10, 1e9)]
    assert means == sorted(means)
    assert means[1] < plain.mean() < 1.001 * means[-1]


def test_what_one_server_holds_another_one_cannot_take() -> None:
    arrivals, seconds = [0.0] * 4, [10.0, 1.0, 1.0, 1.0]
    assert replay(arrivals, seconds, fifo, servers=2).tolist() == [0, 0, 1, 2]
    held = simulator.replay_prefetched(arrivals, seconds, fifo, prefetch=2, servers=2)
    assert held.tolist() == [0, 0, 10, 1]


def test_lanes_keep_the_short_within_reach() -> None:
    arrivals, seconds = [0.0] * 4, [5.0, 5.0, 5.0, 1.0]
    one = simulator.replay_prefetched(arrivals, seconds, sjf, prefetch=1)
    assert one.tolist() == [0, 5, 10, 15]
    lanes = simulator.replay_prefetched(arrivals, seconds, sjf, prefetch=1, lanes=[1, 1, 1, 0])
    assert lanes.tolist() == [1, 6, 11, 0]


def test_a_small_job_does_not_wait_for_a_large_one_that_came_first() -> None:
    jobs = [[1.0, 1.0, 1.0], [1.0]]
    srtf = simulator.replay_jobs([0.0, 0.5], jobs, sjf, window=2)
    assert srtf.tolist() == [4, 1.5]
    everything = simulator.replay_jobs([0.0, 0.5], jobs, fifo, window=3)
    assert everything.tolist() == [3, 3.5]


def test_a_job_that_is_nearly_done_goes_first() -> None:
    # After two seconds one second remains of the first: less than the second job's two.
    took = simulator.replay_jobs([0.0, 2.0], [[1.0] * 3, [1.0] * 2], sjf, window=1)
    assert took.tolist() == [3, 3]


def test_jobs_in_turns() -> None:
    took = simulator.replay_jobs([0.0, 0.0], [[1.0] * 3, [1.0] * 2], fifo, window=1)
    assert took.tolist() == [5, 4]


def test_a_window_bounds_the_servers_of_a_job() -> None:
    took = [
        simulator.replay_jobs([0.0], [[1.0] * 4], sjf, window=window, servers=4)[0]
        for window in (1, 2, 4)
    ]
    assert took == [4, 2, 1]


def test_ten_jobs_of_1_to_1000_chunks_complete_twice_as_fast() -> None:
    sizes = np.geomspace(1, 1000, 10).astype(int)
    rng = np.random.default_rng(4)
    orders = [[[0.05] * int(size) for size in rng.permutation(sizes)] for _ in range(20)]
    burst = np.zeros(sizes.size)

    def mean(policy: Policy, window: int) -> float:
        took = [
            simulator.replay_jobs(burst, jobs, policy, window=window, servers=2).mean()
            for jobs in orders
        ]
        return float(np.mean(took))

    srtf = mean(sjf, window=8)
    assert mean(fifo, window=1000) > 2 * srtf
    # Two servers need as long as half of what is not longer than a job.
    assert srtf == pytest.approx(np.cumsum(sizes).mean() * 0.05 / 2, rel=0.02)


def test_levels_end_where_lanes_do() -> None:
    bounds = list(LANES.values())[:-1]
    edges = np.array([0.01, 0.05, 0.0501, 0.5, 0.501, 60.0])
    names = [list(LANES)[int(level)] for level in levels(bounds)(edges, edges)]
    assert names == [lane(seconds) for seconds in edges]


@pytest.mark.parametrize(
    ("arrivals", "seconds"),
    [([], []), ([0.0], [1.0, 2.0]), ([1.0, 0.0], [1.0, 1.0]), ([-1.0], [1.0]), ([0.0], [0.0])],
)
def test_traces_that_are_none(arrivals: list[float], seconds: list[float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        replay(arrivals, seconds, fifo)


def test_nobody_to_serve() -> None:
    with pytest.raises(ValueError, match="servers must be at least 1"):
        replay([0.0], [1.0], fifo, servers=0)
    with pytest.raises(ValueError, match="window must be at least 1"):
        simulator.replay_jobs([0.0], [[1.0]], fifo, window=0)
    with pytest.raises(ValueError, match="prefetch must be at least 1"):
        simulator.replay_prefetched([0.0], [1.0], fifo, prefetch=0)
