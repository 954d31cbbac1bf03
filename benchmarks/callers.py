"""Single calls as people make them: one caller or many, each in a loop; and calls that come by
chance, whether earlier ones are answered or not.

The floor is what the same loop takes for a bare round trip through the broker and for the model.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Final

import numpy as np

from benchmarks import rig
from benchmarks.peers import Call, bare
from benchmarks.report import Figure, Grid, Report, lines
from lmaas.producer.client import Client
from lmaas.workers.repository import Repository
from lmaas.workers.runtime import Runtime

WORDS: Final = 60
#: Callers in a loop, and how many of them one worker's capacity is measured with.
CALLERS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
#: Seconds of one measurement, after those that do not count.
SECONDS, WARM_UP = 3.0, 0.5
#: Shares of the capacity, with the goal for the median against that of a lone caller.
LOADS: Final = {0.1: 1.3, 0.5: 1.6, 0.9: 3.0}
#: Goal for a lone caller against a bare round trip and the model.
FLOOR: Final = 1.2


async def measure() -> Report:
    texts = [" ".join(review.split()[:WORDS]) for review in rig.reviews()]
    runtime = Runtime(Repository(rig.MODELS).find(rig.MODEL))

    async def model(text: str) -> object:
        return runtime.labelled(rig.items([text]))

    async with rig.broker() as settings, rig.workers(settings, 1):
        async with bare.served(settings, "echo") as echo:
            echoed = await _closed(echo, texts, 1)
        computed = await _closed(model, texts, 1)
        async with Client(settings) as client:

            async def ours(text: str) -> object:
                return await client.classify(rig.MODEL, text)

            closed = {callers: await _closed(ours, texts, callers) for callers in CALLERS}
            capacity = max(found.size / SECONDS for found in closed.values())
            opened = {load: await _open(ours, texts, load * capacity) for load in LOADS}
    alone = _median(closed[1])
    floor = _median(echoed) + _median(computed)
    figures = [
        Figure(name="a lone caller in a loop, p50", value=alone * 1e3, unit="ms"),
        Figure(name="a bare round trip in a loop, p50", value=_median(echoed) * 1e3, unit="ms"),
        Figure(name="the model in a loop, p50", value=_median(computed) * 1e3, unit="ms"),
        Figure(name="a lone caller / (bare round trip + model), p50", value=alone / floor, unit="",
               at_most=FLOOR),
        *(
            Figure(name=f"calls by chance at {load:g} of the capacity / a lone caller, p50",
                   value=_median(found) / alone, unit="", at_most=LOADS[load])
            for load, found in opened.items()
        ),
    ]  # fmt: skip
    return Report(
        benchmark="callers",
        setting=f"texts of {WORDS} words, one worker process, persistent messages, linger as by "
        f"default; {SECONDS:g} s each, of which the capacity is the best "
        f"({capacity:,.0f} calls/s)",
        figures=figures,
        tables=[
            Grid(
                title="Callers in a loop",
                columns=["callers", "calls/s", "p50, ms", "p99, ms"],
                rows=[
                    [callers, found.size / SECONDS, *_percentiles(found)]
                    for callers, found in closed.items()
                ],
            ),
            Grid(
                title="Calls by chance",
                columns=["of the capacity", "calls/s", "p50, ms", "p99, ms"],
                rows=[
                    [load, load * capacity, *_percentiles(found)] for load, found in opened.items()
                ],
            ),
        ],
        plots=[
            lines(
                "Time of a call by the number of callers", "callers", "ms",
                {
                    "p50": [(n, _percentiles(found)[0]) for n, found in closed.items()],
                    "p99": [(n, _percentiles(found)[1]) for n, found in closed.items()],
                },
                ours=["p50", "p99"], x_scale="log", y_scale="log",
            )
        ],
    )  # fmt: skip


async def _closed(call: Call, texts: Sequence[str], callers: int) -> np.ndarray:
    """Seconds of each call that `callers` made, each one after the other, in SECONDS."""
    took: list[float] = []
    start = time.perf_counter() + WARM_UP

    async def loop(first: int) -> None:
        place = first
        while (began := time.perf_counter()) < start + SECONDS:
            await call(texts[place % len(texts)])
            if began >= start:
                took.append(time.perf_counter() - began)
            place += callers

    await asyncio.gather(*(loop(first) for first in range(callers)))
    return np.array(took)


async def _open(call: Call, texts: Sequence[str], rate: float) -> np.ndarray:
    """Seconds of each of the calls that come by chance, `rate` a second."""
    source, took, calls = random.Random(11), list[float](), set[asyncio.Task[None]]()
    start = time.perf_counter() + WARM_UP
    due = time.perf_counter()

    async def one(text: str, due: float) -> None:
        await call(text)
        if due >= start:
            took.append(time.perf_counter() - due)

    place = 0
    while due < start + SECONDS:
        due += source.expovariate(rate)
        if (early := due - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        task = asyncio.create_task(one(texts[place % len(texts)], due))
        calls.add(task)
        task.add_done_callback(calls.discard)
        place += 1
    await asyncio.gather(*calls)
    return np.array(took)


def _median(seconds: np.ndarray) -> float:
    return float(np.median(seconds))


def _percentiles(seconds: np.ndarray) -> list[float]:
    """The median and the 99th, in milliseconds."""
    return [float(value) * 1e3 for value in np.percentile(seconds, (50, 99))]
