"""Celery over RabbitMQ with the `rpc://` result backend.

As docs.celeryq.dev has it: "User Guide / Optimizing" for the prefetch multiplier of many short
tasks (128), "Configuration" for `rpc://` with persistent results, "First Steps" for the rest:
the prefork pool, tasks acknowledged before they run, and no publisher confirms. The last two cost
less than what the others here do.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Iterator, Sequence

from celery import Celery, group
from celery.result import AsyncResult
from celery.signals import worker_ready

from benchmarks import rig
from benchmarks.load import PATIENCE
from benchmarks.peers import classify, rate_of_window, runtime
from lmaas.broker_config.settings import Settings

#: Tasks that a process takes ahead.
SHORT_TASKS = 128
LONG_TASKS = 1


def application(broker_url: str) -> Celery:
    found = Celery("peer", broker=broker_url, backend="rpc://", set_as_current=False)
    found.conf.update(
        result_persistent=True,
        result_expires=3600,
        broker_connection_retry_on_startup=True,
    )
    found.task(classify, name="classify")
    found.task(_classify_pack, name="classify_pack")
    return found


def _classify_pack(texts: list[str]) -> list[tuple[str, float]]:
    return [(label, score) for label, score, _ in runtime().labelled(rig.items(texts))]


#: What `celery --app` looks for.
app = application(os.environ.get("LMAAS_BROKER_URL", ""))


@worker_ready.connect
def _say_so(**_: object) -> None:
    print("ready", file=sys.__stderr__, flush=True)


async def prefork(settings: Settings, texts: Sequence[str], callers: int, seconds: float) -> float:
    """One child process."""
    async with rig.process(settings, *_worker("prefork", 1, SHORT_TASKS)):
        return await asyncio.to_thread(_singles, settings, texts, callers, seconds)


async def threads(settings: Settings, texts: Sequence[str], callers: int, seconds: float) -> float:
    """One process with four threads."""
    async with rig.process(settings, *_worker("threads", 4, SHORT_TASKS // 4)):
        return await asyncio.to_thread(_singles, settings, texts, callers, seconds)


async def bulk(settings: Settings, texts: Sequence[str], rows: int, processes: int) -> float:
    """Texts a second of one group of tasks with `rows` texts each, worker start not included."""
    async with rig.process(settings, *_worker("prefork", processes, LONG_TASKS)):
        return await asyncio.to_thread(_group, settings, texts, rows, processes)


def _worker(pool: str, concurrency: int, prefetch_multiplier: int) -> tuple[str, ...]:
    return (
        *("-m", "celery", "--quiet", "--app", "benchmarks.peers.celery", "worker"),
        *("--pool", pool, "--concurrency", str(concurrency)),
        *("--prefetch-multiplier", str(prefetch_multiplier), "--loglevel", "WARNING"),
    )


def _singles(settings: Settings, texts: Sequence[str], callers: int, seconds: float) -> float:
    with _client(settings) as client:
        return rate_of_window(client.tasks["classify"].delay, _answer, texts, callers, seconds)


def _group(settings: Settings, texts: Sequence[str], rows: int, processes: int) -> float:
    with _client(settings) as client:
        task = client.tasks["classify_pack"]
        for started in [task.delay(list(texts[:rows])) for _ in range(2 * processes)]:
            _answer(started)  # the model is loaded now
        began = time.perf_counter()
        packs = [task.s(list(texts[at : at + rows])) for at in range(0, len(texts), rows)]
        answers = group(packs, app=client).apply_async().get(timeout=4 * PATIENCE)
        seconds = time.perf_counter() - began
    assert sum(map(len, answers)) == len(texts)
    return len(texts) / seconds


def _answer(result: AsyncResult) -> object:
    return result.get(timeout=PATIENCE)


@contextlib.contextmanager
def _client(settings: Settings) -> Iterator[Celery]:
    client = application(settings.broker_url)
    try:
        yield client
    finally:
        client.backend.result_consumer.stop()
        client.close()
