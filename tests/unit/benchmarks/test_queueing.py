"""The closed formulas against textbook cases, each other, and the table they were taken from."""

from __future__ import annotations

import math
from itertools import pairwise
from random import Random
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import queueing
from benchmarks.queueing import Seconds

#: The middles of equally likely parts.
PARTS = (np.arange(20_000) + 0.5) / 20_000
NORMAL = np.array([NormalDist().inv_cdf(part) for part in PARTS])


def lognormal(variation: float) -> Seconds:
    return np.exp(NORMAL * math.sqrt(math.log(1 + variation**2)))


LAWS = {
    "exponential": -np.log(1 - PARTS),
    "lognormal, CV .75": lognormal(0.75),
    "lognormal, CV 1.5": lognormal(1.5),
    "90 % of size 1, 10 % of size 10": np.where(PARTS < 0.9, 1.0, 10.0),
}
#: Mean wait of SJF / FIFO at these loads, and in a burst, rounded.
LOADS = (0.5, 0.7, 0.8, 0.9, 0.95)
TABLE = {
    "exponential": (0.713, 0.562, 0.471, 0.355, 0.277, 0.50),
    "lognormal, CV .75": (0.775, 0.641, 0.552, 0.429, 0.337, 0.64),
    "lognormal, CV 1.5": (0.675, 0.501, 0.395, 0.263, 0.177, 0.44),
    "90 % of size 1, 10 % of size 10": (0.721, 0.554, 0.451, 0.331, 0.264, 0.57),
}

sizes = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=30).map(np.array)
loads = st.floats(0.01, 0.95)


@pytest.mark.parametrize("law", LAWS)
def test_the_table_of_optimal_ratios(law: str) -> None:
    sample = LAWS[law]
    rates = [queueing.rate_for(sample, load) for load in LOADS]
    ratios = [queueing.sjf(sample, r).mean() / queueing.fifo(sample, r).mean() for r in rates]
    # The table is rounded; a sample of 20,000 has a little less tail than its law.
    assert ratios == pytest.approx(TABLE[law][:-1], abs=1e-3)
    assert queueing.burst_ratio(sample) == pytest.approx(TABLE[law][-1], abs=5e-3)


def test_fifo_with_equal_sizes_waits_half_as_long_as_with_exponential_ones() -> None:
    constant = queueing.fifo([1.0], rate=0.8)
    assert constant.mean() == pytest.approx(0.8 / (1 - 0.8) / 2)
    exponential = LAWS["exponential"]
    waits = queueing.fifo(exponential, queueing.rate_for(exponential, 0.8))
    assert waits.mean() == pytest.approx(0.8 / (1 - 0.8), rel=1e-3)


def test_two_levels_by_hand() -> None:
    # R = (1 + 9) / 2 / 2 * rate = 0.5; loads of the levels 0.1 and 0.3.
    waits = queueing.levels([3.0, 1.0], rate=0.2, level=[7, 2])
    assert waits == pytest.approx([0.5 / (0.9 * 0.6), 0.5 / 0.9])


def test_levels_as_fine_as_the_sizes_are_shortest_first() -> None:
    sample = LAWS["lognormal, CV 1.5"]
    finest = queueing.levels(sample, 0.5, np.arange(sample.size))
    assert queueing.sjf(sample, 0.5) == pytest.approx(finest)


def test_estimates_in_the_wrong_order_are_longest_first() -> None:
    waits = queueing.sjf([1.0, 3.0], 0.2, estimates=[2.0, 1.0])
    assert waits == pytest.approx([0.5 / (0.7 * 0.6), 0.5 / 0.7])


@given(sizes, loads, st.randoms(use_true_random=False))
def test_what_one_order_gives_to_a_class_it_takes_from_another(
    sample: Seconds, load: float, random: Random
) -> None:
    # Kleinrock's conservation law: the mean wait weighted by size is the same in every order.
    rate = queueing.rate_for(sample, load)
    level = [random.randrange(4) for _ in sample]
    expected = np.mean(sample * queueing.fifo(sample, rate))
    assert np.mean(sample * queueing.sjf(sample, rate)) == pytest.approx(expected)
    assert np.mean(sample * queueing.levels(sample, rate, level)) == pytest.approx(expected)


@given(sizes, loads)
def test_finer_orders_wait_less(sample: Seconds, load: float) -> None:
    rate = queueing.rate_for(sample, load)
    two = queueing.levels(sample, rate, sample > np.median(sample)).mean()
    means = [queueing.sjf(sample, rate).mean(), two]
    means.append(queueing.fifo(sample, rate).mean())
    assert all(a <= b * (1 + 1e-9) for a, b in pairwise(means))


def test_a_burst_of_three() -> None:
    # Shortest first waits 0 + 1 + 3; in random order each waits for half of the others.
    assert queueing.burst_ratio([4.0, 1.0, 2.0]) == pytest.approx(4 / 7)


@pytest.mark.parametrize(("servers", "load", "chance"), [(1, 0.3, 0.3), (2, 0.5, 1 / 3)])
def test_the_chance_to_wait(servers: int, load: float, chance: float) -> None:
    assert queueing.erlang_c(servers, load) == pytest.approx(chance)


def test_a_pool_of_one_is_one_server() -> None:
    sample = LAWS["lognormal, CV 1.5"]
    mean, variation = sample.mean(), sample.std() / sample.mean()
    one = queueing.fifo(sample, queueing.rate_for(sample, 0.6)).mean()
    assert queueing.pool_wait(1, 0.6, mean, variation) == pytest.approx(one)


def test_quantiles_of_an_exponential_server() -> None:
    # P(W > t) = load exp(-(1 - load) t / mean)
    wait = queueing.pool_quantile(1, 0.8, 2.0, 1.0, quantile=0.9)
    assert 0.8 * math.exp(-0.2 * wait / 2.0) == pytest.approx(0.1)
    assert queueing.pool_quantile(1, 0.8, 2.0, 1.0, quantile=0.1) == 0


def test_a_thousand_servers_hardly_wait() -> None:
    assert queueing.pool_wait(1000, 0.5, 1.0, 1.0) < 1e-30
    # Unless they are nearly full (Halfin and Whitt): 1 / (1 + b Phi(b) / phi(b)).
    spare, normal = 0.001 * math.sqrt(1000), NormalDist()
    chance = 1 / (1 + spare * normal.cdf(spare) / normal.pdf(spare))
    assert queueing.erlang_c(1000, 0.999) == pytest.approx(chance, rel=0.01)


def test_waits_by_size() -> None:
    waits = np.arange(6.0)
    short, long = queueing.by_size([0.05, 1, 0.01, 2, 0.05, 3], waits, bounds=(0.05, 0.5))
    assert (short.bound, short.jobs, short.mean, short.p50) == (0.05, 3, 2.0, 2.0)
    assert (long.bound, long.jobs, long.mean, long.p50) == (math.inf, 3, 3.0, 3.0)
    assert short.p99 == pytest.approx(3.96)


def test_arrivals_come_as_often_as_asked() -> None:
    gaps = np.diff(queueing.poisson(np.random.default_rng(1), 50.0, 100_000), prepend=0.0)
    # Four standard errors of the mean of exponential gaps, and of their standard deviation.
    assert gaps.mean() == pytest.approx(1 / 50, rel=4 / math.sqrt(100_000))
    assert gaps.std() == pytest.approx(1 / 50, rel=4 * math.sqrt(2 / 100_000))


@pytest.mark.parametrize("sample", [[], [1.0, 0.0], [-1.0], [math.nan], [[1.0]]])
def test_service_times_that_are_none(sample: list[float]) -> None:
    with pytest.raises(ValueError, match="positive seconds"):
        queueing.fifo(sample, 0.1)


@pytest.mark.parametrize("load", [0.0, 1.0, 1.5, -0.1])
def test_loads_without_a_mean_wait(load: float) -> None:
    with pytest.raises(ValueError, match="load must be between"):
        queueing.sjf([1.0], rate=load)
    with pytest.raises(ValueError, match="load must be between"):
        queueing.erlang_c(3, load)
