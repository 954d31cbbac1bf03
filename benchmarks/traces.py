"""Traces: when packs come and how large they are, made once and played under every policy.

Sizes are the quantiles of a lognormal law in random order, so that their moments are no matter of
chance; arrivals are Poisson. What a trace of some thousand packs waits still scatters around the
steady state that the formulas speak of, far more than a benchmark may. So many traces are made, and
the one is played whose replay is nearest to the formulas: what then differs is the system's doing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Final

import numpy as np

from benchmarks import queueing, simulator
from benchmarks.queueing import Seconds
from benchmarks.simulator import N
from lmaas.broker_config.scheduling import LANES, MAX_PRIORITY, place

#: Traces to choose from.
CANDIDATES: Final = 1000
#: Packs of the trace that says what the tail of a long one is, and how many of them.
LONG: Final = 20_000
LONG_TRACES: Final = 5
#: The longest class is this share of the packs.
LONGEST: Final = 0.1


@dataclass(frozen=True)
class Trace:
    """Packs in order of arrival, one a place."""

    #: Seconds from the beginning.
    arrivals: Seconds
    #: Expected seconds of service.
    seconds: Seconds
    #: How far the replay is from the steady state, as a share of it, in the worst of the measures.
    distance: float

    def slower(self, factor: float) -> Trace:
        """The same packs with `factor` times as long between them."""
        return replace(self, arrivals=self.arrivals * factor)


def lognormal(count: int, mean: float, variation: float) -> Seconds:
    """`count` quantiles of a lognormal law with a mean and a coefficient of variation, rising."""
    spread = math.sqrt(math.log(1 + variation**2))
    normal = [NormalDist().inv_cdf((place + 0.5) / count) for place in range(count)]
    sample = np.exp(spread * np.array(normal))
    scaled: Seconds = sample * (mean / sample.mean())
    return scaled


def broker_levels(_published: N, estimate: N, /) -> N:
    """A policy of the replay: the levels of our broker without ageing, lane times priority."""
    level: N = np.vectorize(_level, otypes=[float])(estimate)
    return level


def _level(seconds: float) -> int:
    lane, priority = place("sjf", 0.0, seconds)
    return list(LANES).index(lane) * (MAX_PRIORITY + 1) - priority


def steady(seconds: Seconds, load: float, gain: float, candidates: int = CANDIDATES) -> Trace:
    """The trace of these service times that is nearest to the steady state at `load`.

    Measured by the mean waits of FIFO and of our levels, which have formulas, and by what ageing
    with `gain` costs the longest, for which long traces stand.
    """
    rate = queueing.rate_for(seconds, load)
    levels = broker_levels(seconds, seconds)
    fifo = queueing.fifo(seconds, rate).mean()
    cobham = queueing.levels(seconds, rate, levels).mean()
    tail = _long_tail(seconds, load, gain)

    def distance(arrivals: Seconds, shuffled: Seconds) -> float:
        plain = simulator.replay(arrivals, shuffled, simulator.fifo)
        ours = simulator.replay(arrivals, shuffled, broker_levels)
        ratios = (plain.mean() / fifo, ours.mean() / cobham,
                  _tail(arrivals, shuffled, plain, gain) / tail)  # fmt: skip
        return float(max(abs(ratio - 1) for ratio in ratios))

    drawn = (_drawn(seed, seconds, rate) for seed in range(candidates))
    return min((Trace(*pair, distance(*pair)) for pair in drawn), key=lambda trace: trace.distance)


def _drawn(seed: int, seconds: Seconds, rate: float) -> tuple[Seconds, Seconds]:
    """Arrivals at exactly this rate, and the service times in random order."""
    rng = np.random.default_rng(seed)
    arrivals = queueing.poisson(rng, rate, seconds.size)
    arrivals *= seconds.size / rate / arrivals[-1]
    return arrivals, rng.permutation(seconds)


def tail_ratio(seconds: Seconds, waits: Seconds, plain: Seconds) -> float:
    """The p99 of the longest packs' answer times, over what it is with the waits `plain`."""
    longest = seconds >= np.quantile(seconds, 1 - LONGEST)
    ours, theirs = (np.quantile((wait + seconds)[longest], 0.99) for wait in (waits, plain))
    return float(ours / theirs)


def _tail(arrivals: Seconds, seconds: Seconds, plain: Seconds, gain: float) -> float:
    return tail_ratio(seconds, simulator.replay(arrivals, seconds, simulator.ageing(gain)), plain)


def _long_tail(seconds: Seconds, load: float, gain: float) -> float:
    """The mean of some long traces of the same sizes."""
    sizes = np.resize(seconds, LONG)
    rate = queueing.rate_for(sizes, load)
    tails = []
    for seed in range(LONG_TRACES):
        arrivals, shuffled = _drawn(seed, sizes, rate)
        plain = simulator.replay(arrivals, shuffled, simulator.fifo)
        tails.append(_tail(arrivals, shuffled, plain, gain))
    return float(np.mean(tails))


def burst(seconds: Seconds, candidates: int = CANDIDATES) -> Trace:
    """All at the beginning, in the order whose FIFO mean is nearest to that of all orders."""
    mean = float(seconds.mean()) * (seconds.size - 1) / 2
    there = np.zeros(seconds.size)

    def orders() -> Iterator[Trace]:
        for seed in range(candidates):
            order = np.random.default_rng(seed).permutation(seconds)
            waits = simulator.replay(there, order, simulator.fifo)
            yield Trace(there, order, abs(float(waits.mean()) / mean - 1))

    return min(orders(), key=lambda trace: trace.distance)
