"""One job, and a page of jobs, of a gateway that knows 10,000: what a lone caller waits."""

from __future__ import annotations

import time
from collections.abc import Sequence
from random import Random

import numpy as np

from benchmarks import ended_jobs, gateway, rig
from benchmarks.report import Figure, Grid, Report

COUNT = 10_000
#: Requests of each kind.
REQUESTS = 2_000
#: Jobs of a page.
LIMIT = 20
GOAL = 20.0
PERCENTS = (50, 99, 100)


async def measure(count: int = COUNT, requests: int = REQUESTS) -> Report:
    async with rig.broker() as engine:
        with gateway.folder() as state:
            ids = await ended_jobs.ended(state, count)
            async with gateway.listening(state, engine) as served:
                paths = _paths(ids, requests)
                found = {name: await _times(served, each) for name, each in paths.items()}
    return Report(
        benchmark="known_jobs",
        setting=f"{count:,} jobs that have ended, {requests:,} requests of each kind, one after "
        "the other over one connection",
        figures=[
            Figure(name=f"{name}, p99", value=float(np.percentile(times, 99)), unit="ms",
                   at_most=GOAL)
            for name, times in found.items()
        ],
        tables=[
            Grid(title="Times, ms", columns=["", "p50", "p99", "the longest"],
                 rows=[[name, *map(float, np.percentile(times, PERCENTS))]
                       for name, times in found.items()])
        ],
    )  # fmt: skip


def _paths(ids: Sequence[str], requests: int) -> dict[str, list[str]]:
    """By kind of request. Pages are from all over the list: the first one and the last one, too."""
    chosen = Random(7).choices(ids, k=requests)
    return {
        "one job": [f"/v1/jobs/{job}" for job in chosen],
        f"the first page, of {LIMIT}": [f"/v1/jobs?limit={LIMIT}"] * requests,
        f"a later page, of {LIMIT}": [f"/v1/jobs?limit={LIMIT}&after={job}" for job in chosen],
        "a page of 100": ["/v1/jobs?limit=100"] * requests,
    }


async def _times(served: gateway.Gateway, paths: Sequence[str]) -> list[float]:
    """Milliseconds of each request, after one that does not count."""
    times = []
    await served.get(paths[0])
    for path in paths:
        began = time.perf_counter()
        await served.get(path)
        times.append((time.perf_counter() - began) * 1e3)
    return times
