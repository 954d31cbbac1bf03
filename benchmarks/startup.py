"""A worker's start: seconds until it consumes, and its resident memory then and under load."""

from __future__ import annotations

import statistics
import time

import psutil

from benchmarks import rig
from benchmarks.report import Figure, Report
from producer.client import Client

ROUNDS = 5


async def measure() -> Report:
    texts = rig.reviews()[:5_000]
    seconds = []
    async with rig.broker() as settings:
        for _ in range(ROUNDS):
            began = time.perf_counter()
            async with rig.workers(settings, 1):
                seconds.append(time.perf_counter() - began)
        async with rig.workers(settings, 1) as worker, Client(settings) as client:
            idle = psutil.Process(worker.pid).memory_info().rss
            async for _ in client.classify_many(rig.MODEL, texts):
                pass
            busy = psutil.Process(worker.pid).memory_info().rss
    return Report(
        benchmark="startup",
        setting=f"`lmaas worker` with the shipped model; median of {ROUNDS} starts",
        figures=[
            Figure(name="process start to ready", value=statistics.median(seconds), unit="s",
                   goal="2"),
            Figure(name="resident when ready", value=idle / 2**20, unit="MiB", goal="200"),
            Figure(name="resident after 5,000 reviews", value=busy / 2**20, unit="MiB",
                   goal="200"),
        ],
    )  # fmt: skip
