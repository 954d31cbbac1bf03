"""What a model costs on this machine, and how large its batches should be.

No TensorFlow in here: it runs a version as a worker does, of whatever kind its items are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from lmaas.broker_config.estimator import Estimator
from lmaas.broker_config.messages import Item
from lmaas.workers.batcher import batches
from lmaas.workers.manifest import Batching, Cost
from lmaas.workers.runtime import Runtime

#: Padded units of a batch that are tried.
SIZES: Final = tuple(2**power for power in range(9, 16))
#: Of batches that are nearly as fast as the fastest the smallest are best: a worker can turn to
#: other work between two of them, and they take less memory.
NEARLY: Final = 1.03
#: The fastest of so many runs counts, because what else the machine does is not the model's; of a
#: slow model, of those that begin within these seconds.
REPEATS: Final = 5
SECONDS: Final = 2.0
#: How often each of the measured packs is learnt from: enough for the estimates to settle.
LESSONS: Final = 100

Clock = Callable[[], float]


def measured(
    runtime: Runtime,
    items: Sequence[Item],
    batching: Batching,
    clock: Clock = time.perf_counter,
) -> tuple[Batching, Cost]:
    """The batching with the best `most` of SIZES, and what packs cost with it.

    `items` are those that the model will have to do with, at least one, and some hundreds for
    figures that are worth something.
    """
    sizes = [msgspec.structs.replace(batching, most=most) for most in SIZES]
    times = [timed(runtime, items, size, clock) for size in sizes]
    fast = NEARLY * min(times)
    best = next(size for size, seconds in zip(sizes, times, strict=True) if seconds <= fast)
    return best, _cost(runtime, items, best, clock)


def _cost(runtime: Runtime, items: Sequence[Item], batching: Batching, clock: Clock) -> Cost:
    """Learnt from the service times of packs that differ in items and in bytes."""
    ordered = sorted(items, key=lambda item: item.size)
    middle = len(ordered) // 2
    packs = [ordered[:1], ordered[-1:], ordered[: middle + 1], ordered[middle:], ordered]
    times = [timed(runtime, pack, batching, clock) for pack in packs]
    estimator = Estimator()
    for _ in range(LESSONS):
        for pack, seconds in zip(packs, times, strict=True):
            estimator.observe([(len(pack), sum(item.size for item in pack))], seconds)
    cost = estimator.cost
    return Cost(
        fixed_seconds=cost.fixed,
        seconds_per_item=cost.per_item,
        seconds_per_unit=cost.per_byte,
    )


def timed(
    runtime: Runtime,
    items: Sequence[Item],
    batching: Batching,
    clock: Clock = time.perf_counter,
) -> float:
    """Seconds of a pack of these items: those of the fastest of some runs."""
    times: list[float] = []
    while len(times) < REPEATS and sum(times) < SECONDS:
        start = clock()
        encoded = runtime.encode(items)
        for batch in batches(encoded.lengths, batching):
            runtime.run(encoded, batch)
        times.append(clock() - start)
    return min(times)
