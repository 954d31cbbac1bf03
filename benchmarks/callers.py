"""Single calls as people make them: one caller or many in a loop, and calls that come by chance.

What a lone caller waits is beside its floor: the same loop with a bare round trip through the
broker, and with the model alone. Calls by chance come from several processes (see `load`), whose
callers in a loop have shown before what one worker can answer: its capacity.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from benchmarks import load, rig
from benchmarks.load import Call, Calls, Closed, Generators, Open, closed
from benchmarks.peers import bare
from benchmarks.queueing import Seconds
from benchmarks.report import Figure, Grid, Plot, Report, bars, lines
from lmaas.producer.client import Client
from lmaas.workers.repository import Repository
from lmaas.workers.runtime import Runtime

WORDS: Final = 60
TEXTS: Final = 4_096
#: Callers in a loop, of one client.
CALLERS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
#: Callers in a loop, of all processes together, that ask as much as there are answers.
SATURATING: Final = 512
#: Seconds of one measurement.
SECONDS: Final = 3.0
#: Shares of the capacity, with the goal for the median against that of a lone caller.
LOADS: Final = {0.1: 1.3, 0.5: 1.6, 0.9: 3.0}
#: Goal for a lone caller against a bare round trip and the model.
FLOOR: Final = 1.2

OURS, BARE, MODEL = "a lone caller", "a bare round trip", "the model alone"
PERCENTS: Final = (50, 99)


async def measure() -> Report:
    texts = [" ".join(review.split()[:WORDS]) for review in rig.reviews()[:TEXTS]]
    async with rig.broker() as settings, rig.workers(settings, 1):
        async with bare.served(settings, "echo") as echo:
            alone = {BARE: await closed(echo, texts, 1, SECONDS)}
        alone[MODEL] = await closed(_model(), texts, 1, SECONDS)
        async with Client(settings) as client:

            async def ours(text: str) -> object:
                return await client.classify(rig.MODEL, text)

            looped: dict[float, Calls] = {n: await closed(ours, texts, n, SECONDS) for n in CALLERS}
        alone[OURS] = looped[1]
        with Generators(settings, texts) as generators:
            capacity = (await generators.play(Closed(SATURATING), SECONDS)).rate
            chance = {
                share: await generators.play(Open(share * capacity), SECONDS) for share in LOADS
            }
    times = _times(alone)
    return Report(
        benchmark="callers",
        setting=f"texts of {WORDS} words, one worker process, persistent messages, publisher "
        f"confirms, linger as by default; {SECONDS:g} s each; callers in a loop are of one client; "
        f"calls by chance come from {load.PROCESSES} processes with a client each, the capacity is "
        f"what {SATURATING} callers in a loop of the same processes get, and the time of a call "
        "is from the moment at which it was to be made",
        figures=[
            *times,
            *_ratios(alone),
            Figure(name="capacity", value=capacity, unit="calls/s"),
            *(
                Figure(name=f"calls by chance at {share:g} of the capacity / a lone caller, p50",
                       value=found.percentile(50) / looped[1].percentile(50), unit="",
                       at_most=LOADS[share])
                for share, found in chance.items()
            ),
        ],
        tables=[
            Grid(
                title="Callers in a loop",
                columns=["callers", "calls/s", "p50, ms", "p99, ms"],
                rows=[[n, found.rate, *_milliseconds(found.took)] for n, found in looped.items()],
            ),
            Grid(
                title="Calls by chance",
                columns=["of the capacity", "calls/s", "p50, ms", "p99, ms",
                         "made late by, p50, ms", "p99, ms"],
                rows=[
                    [share, found.rate, *_milliseconds(found.took), *_milliseconds(found.late)]
                    for share, found in chance.items()
                ],
            ),
        ],
        plots=_plots(times, looped, chance),
    )  # fmt: skip


def _model() -> Call:
    runtime = Runtime(Repository(rig.MODELS).find(rig.MODEL))

    async def model(text: str) -> object:
        return runtime.labelled(rig.items([text]))

    return model


def _times(alone: Mapping[str, Calls]) -> list[Figure]:
    return [
        Figure(name=f"{name}, p{percent}", value=alone[name].percentile(percent) * 1e3, unit="ms")
        for name in (OURS, BARE, MODEL)
        for percent in PERCENTS
    ]


def _ratios(alone: Mapping[str, Calls]) -> list[Figure]:
    """Of a lone caller to its floor."""

    def ratio(percent: int) -> float:
        ours, *floor = (alone[name].percentile(percent) for name in (OURS, BARE, MODEL))
        return ours / sum(floor)

    return [
        Figure(name=f"a lone caller / (bare round trip + model), p{percent}", value=ratio(percent),
               unit="", at_most=FLOOR if percent == 50 else None)
        for percent in PERCENTS
    ]  # fmt: skip


def _milliseconds(seconds: Seconds) -> list[float]:
    return [float(value) * 1e3 for value in np.percentile(seconds, PERCENTS)]


def _plots(
    times: list[Figure], looped: Mapping[float, Calls], chance: Mapping[float, Calls]
) -> list[Plot]:
    both = [f"p{percent}" for percent in PERCENTS]

    def along(found: Mapping[float, Calls]) -> dict[str, list[tuple[float, float]]]:
        rows = {at: _milliseconds(calls.took) for at, calls in found.items()}
        return {
            name: [(at, row[place]) for at, row in rows.items()] for place, name in enumerate(both)
        }

    return [
        bars("Time of one call of a lone caller", "ms",
             {figure.name: figure.value for figure in times},
             ours=[figure.name for figure in times if figure.name.startswith(OURS)], name="alone"),
        lines("Time of a call by the number of callers", "callers", "ms", along(looped),
              ours=both, name="loop", x_scale="log", y_scale="log"),
        lines("Time of a call by the load, calls by chance", "of the capacity", "ms", along(chance),
              ours=both, name="chance", y_scale="log"),
    ]  # fmt: skip
