"""Mean waits in closed form: what theory promises for measured service times.

Arrivals are Poisson, `rate` of them a second; service times are drawn from `seconds`, a sample such
as a measured trace. A formula for one server answers with an array beside the sample: the mean wait
in seconds of the jobs that are as long as this one. The array's mean is the mean over all jobs; a
part of it is a class. Jobs of equal rank are served in order of arrival.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Seconds, one a job.
Seconds = NDArray[np.float64]

#: Below this the chance to wait counts as none.
_NEVER: Final = 1e-300


def rate_for(seconds: ArrayLike, load: float, servers: int = 1) -> float:
    """Jobs a second that keep `servers` busy for the share `load` of the time."""
    return load * servers / float(np.asarray(seconds).mean())


def poisson(rng: np.random.Generator, rate: float, count: int) -> Seconds:
    """Arrivals of `count` jobs, `rate` a second on average. A burst is `np.zeros(count)`."""
    return np.cumsum(rng.exponential(1 / rate, count))


def poisson_within(rng: np.random.Generator, rate: float, seconds: float) -> Seconds:
    """Arrivals in so many seconds, `rate` of them a second on average: how many is chance too."""
    return np.sort(rng.uniform(0.0, seconds, rng.poisson(rate * seconds)))


def fifo(seconds: ArrayLike, rate: float) -> Seconds:
    """First in, first out (Pollaczek-Khinchine): W = R / (1 - rho), R = rate E[S^2] / 2."""
    return levels(seconds, rate, np.zeros(np.shape(seconds)))


def sjf(seconds: ArrayLike, rate: float, estimates: ArrayLike | None = None) -> Seconds:
    """Shortest job first, which interrupts nothing (Phipps): every size is a level.

    With `estimates` beside `seconds`, a job's rank is its estimate, right or wrong.
    """
    return levels(seconds, rate, seconds if estimates is None else estimates)


def levels(seconds: ArrayLike, rate: float, level: ArrayLike) -> Seconds:
    """Priority levels, which interrupt nothing (Cobham).

    W_k = R / ((1 - sigma_(k-1)) (1 - sigma_k)), where sigma_k is the load of the levels up to k.
    `level` is beside `seconds`; the lowest number is served first.
    """
    sample = _sample(seconds, rate)
    _, place = np.unique(np.asarray(level), return_inverse=True)
    load = np.bincount(place, weights=sample) * (rate / sample.size)
    through = np.cumsum(load)
    residual = rate * float(np.mean(sample**2)) / 2
    waits: Seconds = residual / ((1 - through + load) * (1 - through))
    return waits[place]


def burst_ratio(seconds: ArrayLike) -> float:
    """Mean wait of shortest first / of random order, when all jobs are there from the beginning.

    Exact for this many jobs; it tends to 1 - Gini(S).
    """
    sample = np.sort(np.asarray(seconds, dtype=float))
    behind = np.arange(sample.size - 1, -1, -1)
    return float(2 * (behind @ sample) / ((sample.size - 1) * sample.sum()))


@dataclass(frozen=True, kw_only=True)
class SizeClass:
    """How long the jobs of one size waited, in seconds."""

    #: The longest service time in the class.
    bound: float
    jobs: int
    mean: float
    p50: float
    p99: float


def by_size(seconds: ArrayLike, waits: Seconds, bounds: Sequence[float]) -> list[SizeClass]:
    """Waits by service time: a class up to each of `bounds`, one above; none that is empty."""
    place = np.searchsorted(bounds, np.asarray(seconds, dtype=float))
    classes = []
    for number, bound in enumerate((*bounds, math.inf)):
        part = waits[place == number]
        if part.size:
            p50, p99 = np.quantile(part, (0.5, 0.99)).tolist()
            mean = float(part.mean())
            classes.append(SizeClass(bound=bound, jobs=part.size, mean=mean, p50=p50, p99=p99))
    return classes


def erlang_c(servers: int, load: float) -> float:
    """The chance that a job has to wait for one of `servers`, exponential service (Erlang).

    By Erlang B's recurrence, which neither overflows nor cancels.
    """
    _check_load(load)
    offered = servers * load
    blocked = 1.0
    for busy in range(1, servers + 1):
        blocked = offered * blocked / (busy + offered * blocked)
    return blocked / (1 - load * (1 - blocked))


def pool_wait(servers: int, load: float, mean: float, variation: float) -> float:
    """Mean wait in seconds for one of `servers`, first in, first out (Allen and Cunneen).

    `mean` seconds of service with the coefficient of `variation`. Exact for one server and for
    exponential service, an approximation between them.
    """
    return erlang_c(servers, load) * _drain(servers, load, mean, variation)


def pool_quantile(
    servers: int, load: float, mean: float, variation: float, quantile: float = 0.99
) -> float:
    """The wait in seconds that the share `quantile` of the jobs stay below.

    Who waits at all waits an exponential time with the mean of `pool_wait` (exact for exponential
    service; for others Kingman's limit under heavy load).
    """
    late = max(erlang_c(servers, load), _NEVER) / (1 - quantile)
    return max(0.0, math.log(late)) * _drain(servers, load, mean, variation)


def _drain(servers: int, load: float, mean: float, variation: float) -> float:
    """Mean wait in seconds of those that wait."""
    return (1 + variation**2) / 2 * mean / (servers * (1 - load))


def _sample(seconds: ArrayLike, rate: float) -> Seconds:
    sample = np.asarray(seconds, dtype=float)
    if sample.ndim != 1 or not sample.size or not np.all(sample > 0):
        raise ValueError("service times must be a sequence of positive seconds")
    _check_load(rate * float(sample.mean()))
    return sample


def _check_load(load: float) -> None:
    if not 0 < load < 1:
        raise ValueError(f"load must be between 0 and 1, not {load:.3g}: a wait would never end")
