"""One call at a time on an idle system: ours beside a bare round trip and the model's own time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import numpy as np

from benchmarks import rig
from benchmarks.peers import Call, bare
from benchmarks.report import Figure, Report, bars
from lmaas.producer.client import Client
from lmaas.workers.repository import Repository
from lmaas.workers.runtime import Runtime

WORDS = 60
CALLS = 1_000
#: Calls before those that count.
WARM_UP = 100


async def measure() -> Report:
    texts = [" ".join(review.split()[:WORDS]) for review in rig.reviews()[: WARM_UP + CALLS]]
    runtime = Runtime(Repository(rig.MODELS).find(rig.MODEL))

    async def model(text: str) -> object:
        return runtime.labelled(rig.items([text]))

    async with (
        rig.broker() as settings,
        rig.workers(settings, 1),
        bare.served(settings, "echo") as echo,
        Client(settings) as client,
    ):

        async def ours(text: str) -> object:
            return await client.classify(rig.MODEL, text)

        ways = {"LMaaS": ours, "bare aio-pika round trip, echoed": echo, "the model alone": model}
        seconds = await _in_turn(list(ways.values()), texts)
    ours_took, echo_took, model_took = seconds[WARM_UP:].T
    limit = echo_took + model_took
    times = _figures(ways, (ours_took, echo_took, model_took))
    return Report(
        benchmark="latency",
        setting=f"{CALLS:,} calls one after the other, all ways in turn, texts of {WORDS} words, "
        "one worker process, persistent messages, publisher confirms; linger as by default",
        figures=[
            *times,
            *(
                Figure(
                    name=f"LMaaS / (bare round trip + model), p{percent}",
                    value=float(np.percentile(ours_took, percent) / np.percentile(limit, percent)),
                    unit="",
                    at_most=1.5 if percent == 50 else None,
                )
                for percent in (50, 99)
            ),
        ],
        plots=[
            bars(
                "Time of one call on an idle system",
                "ms",
                {figure.name: figure.value for figure in times},
                ours=[figure.name for figure in times if figure.name.startswith("LMaaS")],
            )
        ],
    )


async def _in_turn(ways: Sequence[Call], texts: Iterable[str]) -> np.ndarray:
    """Seconds [text, way]."""
    return np.array([[await _seconds(way, text) for way in ways] for text in texts])


async def _seconds(call: Call, text: str) -> float:
    began = time.perf_counter()
    await call(text)
    return time.perf_counter() - began


def _figures(names: Iterable[str], took: Iterable[np.ndarray]) -> list[Figure]:
    return [
        Figure(name=f"{name}, p{percent}", value=float(np.percentile(seconds, percent)) * 1e3,
               unit="ms")
        for name, seconds in zip(names, took, strict=True)
        for percent in (50, 99)
    ]  # fmt: skip
