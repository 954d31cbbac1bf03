"""A replay: arrivals and service times in, waits out, for one order or another.

What a measured trace would have waited under another policy; checked against `benchmarks.queueing`.
Times are seconds, one a job, sorted by arrival; servers are equally fast.

>>> arrivals = queueing.poisson(rng, queueing.rate_for(seconds, load=0.9), len(seconds))
>>> waits = replay(arrivals, seconds, ageing(0.1))
>>> queueing.by_size(seconds, waits, bounds=(0.05, 0.5))
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from benchmarks.queueing import Seconds
from lmaas.workers.ready_queue import JOIN_ITEMS, ReadyQueue
from lmaas.workers.shares import Shares

#: One number or an array of them.
N = TypeVar("N", float, Seconds)


class Policy(Protocol):
    """A rank from the time of publishing and the estimated seconds: the lowest goes first.

    Equal ranks go in order of arrival. A rank never changes while a job waits.
    """

    def __call__(self, published: N, estimate: N, /) -> N: ...


def fifo(published: N, _estimate: N, /) -> N:
    """First in, first out."""
    return published


def sjf(_published: N, estimate: N, /) -> N:
    """Shortest job first; for chunks, whose estimate is what remains of their job, SRTF."""
    return estimate


def ageing(gain: float) -> Policy:
    """Linear ageing: a second of waiting makes up for `gain` seconds of service.

    A job that came at `a` with the estimate `s` is overtaken by nothing that comes after
    `a + s / gain`, whatever the load (see `ageing_bound`).
    """

    def rank(published: N, estimate: N, /) -> N:
        return estimate + gain * published

    return rank


def replay(
    arrivals: ArrayLike,
    seconds: ArrayLike,
    policy: Policy,
    *,
    servers: int = 1,
    estimates: ArrayLike | None = None,
) -> Seconds:
    """The wait of each job when a free server takes the first in rank and finishes it."""
    trace = _Trace.of(arrivals, seconds, policy, estimates)
    _at_least_one(servers=servers)
    starts = np.empty(trace.size)
    waiting: list[tuple[float, int]] = []
    free = [0.0] * servers
    now = 0.0
    arrived = 0
    for _ in range(trace.size):
        now = max(now, heappop(free))
        if not waiting:
            now = max(now, trace.arrivals[arrived])
        while arrived < trace.size and trace.arrivals[arrived] <= now:
            heappush(waiting, (trace.ranks[arrived], arrived))
            arrived += 1
        _, job = heappop(waiting)
        starts[job] = now
        heappush(free, now + trace.seconds[job])
    return starts - trace.came


def replay_jobs(
    arrivals: ArrayLike,
    chunks: Sequence[Sequence[float]],
    policy: Policy,
    *,
    window: int,
    servers: int = 1,
) -> Seconds:
    """Seconds from the arrival of each batch job to the end of its last chunk.

    `chunks` has the service times of each job's chunks. At most `window` of them are published and
    not done; the next one follows when one ends. The estimate that `policy` gets is what is not
    done of the chunk's job when it is published, so that `sjf` is shortest remaining time first.
    `fifo` with a window of 1 serves the jobs in turns; with the largest window it is publish-all.
    """
    trace = _Trace.of(arrivals, [sum(job) for job in chunks], fifo, None)
    _at_least_one(servers=servers, window=window)
    left = list(trace.seconds)
    unpublished = [iter(job) for job in chunks]
    done = np.empty(trace.size)
    serial = itertools.count()
    waiting: list[tuple[float, int, int, float]] = []
    running: list[tuple[float, int, int, float]] = []
    arrived = 0

    def publish(job: int, now: float, count: int) -> None:
        for chunk in itertools.islice(unpublished[job], count):
            heappush(waiting, (policy(now, left[job]), next(serial), job, chunk))

    while arrived < trace.size or running:
        now = min(trace.arrival(arrived), running[0][0] if running else inf)
        while trace.arrival(arrived) <= now:
            publish(arrived, now, window)
            arrived += 1
        while running and running[0][0] <= now:
            _, _, job, chunk = heappop(running)
            done[job] = now
            left[job] -= chunk
            publish(job, now, 1)
        while waiting and len(running) < servers:
            _, number, job, chunk = heappop(waiting)
            heappush(running, (now + chunk, number, job, chunk))
    return done - trace.came


def replay_prefetched(
    arrivals: ArrayLike,
    seconds: ArrayLike,
    policy: Policy,
    *,
    prefetch: int,
    servers: int = 1,
    estimates: ArrayLike | None = None,
    broker: Policy = fifo,
    lanes: Sequence[int] | None = None,
) -> Seconds:
    """The wait of each job when servers hold jobs ahead of time, as AMQP consumers do.

    The broker hands out each lane in the order of `broker`, to one server after the other that has
    fewer than `prefetch` jobs of that lane, the running one included. What a server holds is its
    own, in the order of `policy`: others may be idle meanwhile. `lanes` has the lane of each job
    from 0; without, there is one.
    """
    trace = _Trace.of(arrivals, seconds, policy, estimates)
    order = _Trace.of(arrivals, seconds, broker, estimates).ranks
    _at_least_one(servers=servers, prefetch=prefetch)
    lane = [0] * trace.size if lanes is None else list(lanes)
    queues = [_Lane(servers, prefetch) for _ in range(max(lane) + 1)]
    starts = np.empty(trace.size)
    held: list[list[tuple[float, int]]] = [[] for _ in range(servers)]
    running: list[tuple[float, int, int]] = []
    idle = set(range(servers))
    arrived = 0
    while arrived < trace.size or running:
        now = min(trace.arrival(arrived), running[0][0] if running else inf)
        while trace.arrival(arrived) <= now:
            heappush(queues[lane[arrived]].waiting, (order[arrived], arrived))
            arrived += 1
        while running and running[0][0] <= now:
            _, server, job = heappop(running)
            queues[lane[job]].room[server] += 1
            idle.add(server)
        for queue in queues:
            for job, server in queue.deliveries():
                heappush(held[server], (trace.ranks[job], job))
        for server in [server for server in idle if held[server]]:
            _, job = heappop(held[server])
            starts[job] = now
            idle.remove(server)
            heappush(running, (now + trace.seconds[job], server, job))
    return starts - trace.came


def replay_tenants(
    arrivals: ArrayLike,
    seconds: ArrayLike,
    tenants: Sequence[str],
    *,
    gain: float,
    memory: float,
) -> Seconds:
    """The wait of each job of a tenant when one worker holds all that wait, in its own order.

    `gain` is the setting `ageing`, `memory` the setting `tenant_memory`.
    """
    trace = _Trace.of(arrivals, seconds, fifo, None)
    now = 0.0
    shares = Shares(memory, lambda: now)
    ready: ReadyQueue[int] = ReadyQueue(gain, shares, lambda: now)
    starts = np.empty(trace.size)
    arrived = 0
    for _ in range(trace.size):
        if not ready:
            now = max(now, trace.arrivals[arrived])
        while arrived < trace.size and trace.arrivals[arrived] <= now:
            took, came = trace.seconds[arrived], trace.arrivals[arrived]
            ready.put(
                arrived, tenant=tenants[arrived], kind="", rank=took, seconds=took,
                size=JOIN_ITEMS, arrival=came,
            )  # fmt: skip
            arrived += 1
        (job,) = ready.take_held()
        starts[job] = now
        now += trace.seconds[job]
        shares.add(tenants[job], trace.seconds[job])
    return starts - trace.came


def ageing_bound(
    arrivals: ArrayLike, seconds: ArrayLike, gain: float, estimates: ArrayLike | None = None
) -> Seconds:
    """The longest that each job can wait for one server under `ageing(gain)`.

    The work that is there when it comes, which is its wait under `fifo`, and the work that comes
    in the `estimate / gain` seconds after it, during which it can be overtaken.
    """
    came = np.asarray(arrivals, dtype=float)
    window = np.asarray(seconds if estimates is None else estimates, dtype=float) / gain
    work = np.concatenate(([0.0], np.cumsum(seconds)))
    last = np.searchsorted(came, came + window, side="right")
    overtaking: Seconds = work[last] - work[1:]
    return replay(arrivals, seconds, fifo) + overtaking


def _at_least_one(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} must be at least 1, not {count}")


@dataclass(frozen=True, slots=True)
class _Trace:
    """A checked trace as lists, which a loop reads faster than arrays."""

    came: Seconds
    arrivals: list[float]
    seconds: list[float]
    ranks: list[float]

    @classmethod
    def of(
        cls, arrivals: ArrayLike, seconds: ArrayLike, policy: Policy, estimates: ArrayLike | None
    ) -> _Trace:
        came = np.asarray(arrivals, dtype=float)
        service = np.asarray(seconds, dtype=float)
        estimate = service if estimates is None else np.asarray(estimates, dtype=float)
        if not came.shape == service.shape == estimate.shape or came.ndim != 1 or not came.size:
            raise ValueError("arrivals, seconds and estimates must be of one length, at least 1")
        if not (np.all(np.diff(came, prepend=0.0) >= 0) and np.all(service > 0)):
            raise ValueError("arrivals must be sorted and not negative, seconds positive")
        return cls(came, came.tolist(), service.tolist(), policy(came, estimate).tolist())

    @property
    def size(self) -> int:
        return len(self.arrivals)

    def arrival(self, number: int) -> float:
        """When a job comes; never, after the last one."""
        return self.arrivals[number] if number < len(self.arrivals) else inf


class _Lane:
    """A queue of the broker, and for how many more of its jobs each server has room."""

    def __init__(self, servers: int, prefetch: int) -> None:
        #: Rank and job.
        self.waiting: list[tuple[float, int]] = []
        self.room = [prefetch] * servers
        self._turns = deque(range(servers))

    def deliveries(self) -> Iterator[tuple[int, int]]:
        """Jobs and the servers that get them, in turns."""
        while self.waiting and any(self.room):
            server = self._turns[0]
            self._turns.rotate(-1)
            if self.room[server]:
                self.room[server] -= 1
                yield heappop(self.waiting)[1], server
