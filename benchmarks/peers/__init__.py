"""What a user would pick instead, one module each, configured as its own documentation says.

A module has the worker and `async def measure(settings, texts, callers, seconds) -> float`: calls
a second of one worker process, which it starts and ends. All run the same model with the same
code (`classify`) on durable classic queues with persistent messages, and all answers come back.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from benchmarks.load import PATIENCE, WARM_UP, Call, closed
from benchmarks.rig import MODEL, items
from lmaas.broker_config.settings import Settings
from lmaas.workers.repository import Repository
from lmaas.workers.runtime import Runtime

Measure = Callable[[Settings, Sequence[str], int, float], Awaitable[float]]
Sent = TypeVar("Sent")

#: Messages that a broker hands out ahead where a peer's documentation names no number.
PREFETCH = 100


@functools.cache
def runtime() -> Runtime:
    """The model, loaded by the first call in a worker."""
    return Runtime(Repository(os.environ["LMAAS_MODELS"]).find(MODEL))


def classify(text: str) -> tuple[str, float]:
    """What every peer's worker does."""
    ((label, score, _),) = runtime().labelled(items([text]))
    return label, score


async def rate(call: Call, texts: Sequence[str], callers: int, seconds: float) -> float:
    """Calls a second by `callers`, each of which waits for its answer before it calls again."""
    async with asyncio.timeout(PATIENCE):
        await call(texts[0])  # alone, so that the model is loaded once
    return (await closed(call, texts, callers, seconds)).rate


def rate_of_window(
    send: Callable[[str], Sent],
    wait: Callable[[Sent], object],
    texts: Sequence[str],
    callers: int,
    seconds: float,
) -> float:
    """`rate` for a client that is not asynchronous: one thread with `callers` calls in flight.

    A thread a caller would be slower: these clients open a connection for each thread.
    """
    source = itertools.cycle(texts)
    wait(send(next(source)))
    for length in (WARM_UP, seconds):
        answered, began = 0, time.perf_counter()
        flying = deque(send(next(source)) for _ in range(callers))
        while flying:
            wait(flying.popleft())
            answered += 1
            if time.perf_counter() < began + length:
                flying.append(send(next(source)))
    return answered / (time.perf_counter() - began)
