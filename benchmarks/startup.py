"""Starts: until a worker consumes and answers, until a text is classified; and a worker's memory.

The program and the model were read before, so that no start waits for the disk.
"""

from __future__ import annotations

import asyncio
import statistics
import time

import psutil

from benchmarks import rig
from benchmarks.report import Figure, Report, bars
from lmaas.broker_config.settings import Settings
from lmaas.producer.client import Client

ROUNDS = 5
TEXT = "What a film!"
#: Seconds in which a call reaches the lane.
ON_ITS_WAY = 0.2

READY = "lmaas worker, process start to ready"
ANSWER = "lmaas worker, process start to the first answer"
CLASSIFY = "lmaas classify --text, the whole command"


async def measure() -> Report:
    texts = rig.reviews()[:5_000]
    async with rig.broker() as settings, Client(settings) as client:
        async with rig.workers(settings, 1) as worker:
            idle = psutil.Process(worker.pid).memory_info().rss
            async for _ in client.classify_many(rig.MODEL, texts):
                pass
            busy = psutil.Process(worker.pid).memory_info().rss
        rounds = [
            await _started(settings, client) | await _classified(settings) for _ in range(ROUNDS)
        ]
    seconds = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    return Report(
        benchmark="startup",
        setting="`lmaas worker` and `lmaas classify` with the shipped model, one process each; "
        f"median of {ROUNDS} starts",
        figures=[
            Figure(name=READY, value=seconds[READY], unit="s", at_most=1.5),
            Figure(name=ANSWER, value=seconds[ANSWER], unit="s"),
            Figure(name=CLASSIFY, value=seconds[CLASSIFY], unit="s"),
            Figure(name="worker, resident when ready", value=idle / 1e6, unit="MB", at_most=150),
            Figure(name="worker, resident after 5,000 reviews", value=busy / 1e6, unit="MB",
                   at_most=150),
        ],
        plots=[bars("Seconds from the start", "s", seconds, ours=seconds)],
    )  # fmt: skip


async def _started(settings: Settings, client: Client) -> dict[str, float]:
    """Seconds of a worker's start while a call waits for it."""

    async def answered() -> float:
        await client.classify(rig.MODEL, TEXT)
        return time.perf_counter()

    answer = asyncio.create_task(answered())
    await asyncio.sleep(ON_ITS_WAY)
    began = time.perf_counter()
    async with rig.workers(settings, 1):
        ready = time.perf_counter()
        return {READY: ready - began, ANSWER: await answer - began}


async def _classified(settings: Settings) -> dict[str, float]:
    """Seconds of a command that classifies one text in process."""
    began = time.perf_counter()
    await rig.run(settings, "-m", "lmaas", "classify", "--text", TEXT)
    return {CLASSIFY: time.perf_counter() - began}
