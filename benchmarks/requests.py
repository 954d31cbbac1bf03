"""Concurrent single calls of 60 words with their results: ours beside what one would pick else."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import rig
from benchmarks.peers import Measure, bare, celery, dramatiq, faststream, rate, taskiq
from benchmarks.report import Figure, Report, bars
from lmaas.broker_config.settings import Settings
from lmaas.producer.client import Client

WORDS = 60
#: Callers at the same time, each of which makes one call after the other.
CALLERS = 512
#: Seconds of one measurement.
SECONDS = 4.0
#: The best of so many runs each, in turn: other work on the machine only ever slows down.
ROUNDS = 2

OURS = "LMaaS, client.classify"


async def ours(settings: Settings, texts: Sequence[str], callers: int, seconds: float) -> float:
    async with rig.workers(settings, 1), Client(settings) as client:

        async def call(text: str) -> object:
            return await client.classify(rig.MODEL, text)

        return await rate(call, texts, callers, seconds)


WAYS: dict[str, Measure] = {
    OURS: ours,
    "bare aio-pika, one text a message": bare.measure,
    "Celery, prefork": celery.prefork,
    "Celery, 4 threads": celery.threads,
    "FastStream, request": faststream.request,
    "FastStream, reply_to": faststream.reply_to,
    "Dramatiq, 8 threads": dramatiq.measure,
    "taskiq": taskiq.measure,
}
GOALS = {
    "bare aio-pika, one text a message": 15,
    "Celery, prefork": 40,
    "Celery, 4 threads": 40,
}


async def measure() -> Report:
    texts = [" ".join(review.split()[:WORDS]) for review in rig.reviews()]
    best = dict.fromkeys(WAYS, 0.0)
    async with rig.broker() as settings:
        for _ in range(ROUNDS):
            for name, way in WAYS.items():
                best[name] = max(best[name], await way(settings, texts, CALLERS, SECONDS))
    rates = [Figure(name=name, value=value, unit="calls/s") for name, value in best.items()]
    ratios = [
        Figure(name=f"LMaaS / {name}", value=best[OURS] / value, unit="", at_least=GOALS.get(name))
        for name, value in best.items()
        if name != OURS
    ]
    return Report(
        benchmark="requests",
        setting=f"{CALLERS} callers for {SECONDS:g} s, texts of {WORDS} words, one worker process, "
        f"persistent messages, results returned; best of {ROUNDS}",
        figures=[*rates, *ratios],
        plots=[
            bars(f"Answers a second to {CALLERS} callers", "calls/s", best, ours=[OURS]),
        ],
    )
