"""A small job of one API key, alone and beside one of another key that is 1,000 times as large."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

import click

from benchmarks import gateway, rig
from benchmarks.report import Figure, Grid, Report, spread
from benchmarks.upload import QUERY, made, pieces

#: Rows of the small job, and how often as many the large one has.
ROWS = 1_000
TIMES = 1_000
WORDS = 60
#: Small jobs one after the other, before the large one and beside it.
JOBS = 11

ALONE, BESIDE = "alone", "beside the large one"


async def measure(rows: int = ROWS, times: int = TIMES, jobs: int = JOBS) -> Report:
    texts = [" ".join(review.split()[:WORDS]) for review in rig.reviews()]
    async with rig.broker() as engine, rig.workers(engine, 1):
        with gateway.folder() as state:
            one, other = [await gateway.key(state, "jobs") for _ in range(2)]
            async with gateway.listening(state, engine, access="keys") as served:
                small = Small(served, b"".join(pieces(texts, rows)), one)
                await small.seconds(jobs)  # they do not count
                took = {ALONE: await small.seconds(jobs)}
                large = await served.submit(QUERY, made(texts, rows * times), **other)
                took[BESIDE] = await small.seconds(jobs)
                left = await served.get(f"/v1/jobs/{large}", **other)
                await served.cancel(large, **other)
    if left["state"] != "running":
        raise click.ClickException("the large job ended before the small ones: make it larger")
    ratio = median(took[BESIDE]) / median(took[ALONE])
    return Report(
        benchmark="fair_share",
        setting=f"a job of {rows:,} rows of {WORDS} words, {jobs} times one after the other, each "
        f"from its POST to its end; {BESIDE}: when one of another key with {rows * times:,} rows "
        f"is accepted, and has not ended ({left['done']:,} done afterwards); one worker process",
        figures=[
            *(Figure(name=f"{name}, median", value=median(found), unit="s")
              for name, found in took.items()),
            Figure(name=f"{BESIDE} / {ALONE}", value=ratio, unit="", at_most=2),
        ],
        tables=[
            Grid(title="Seconds of a small job, the median / the longest", columns=["", "s"],
                 rows=[[name, spread(found)] for name, found in took.items()])
        ],
    )  # fmt: skip


@dataclass(frozen=True)
class Small:
    """One job, again and again."""

    served: gateway.Gateway
    body: bytes
    key: Mapping[str, str]

    async def seconds(self, times: int) -> list[float]:
        """From its POST to its end, of each."""
        return [await self._once() for _ in range(times)]

    async def _once(self) -> float:
        began = time.time()
        job = await self.served.submit(QUERY, self.body, **self.key)
        view = await self.served.ended(job, **self.key)
        # Who listens to the job's events hears of its end up to half a second later.
        ended: float = view["ended"]
        return ended - began
