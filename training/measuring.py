"""What a model is run with, measured on this machine: how large its batches are, how many threads
a process has, and what packs cost.

No TensorFlow in here: it runs a version as a worker does, of whatever kind its items are. It takes
some seconds, whatever the model is; more only where a single run of it takes seconds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec

from lmaas.broker_config.estimator import Estimator
from lmaas.broker_config.messages import Item
from lmaas.service import cores
from lmaas.workers.batcher import Batch, batches
from lmaas.workers.manifest import Batching, Cost, Manifest, Parallelism, Speed
from lmaas.workers.model_version import ModelVersion
from lmaas.workers.preprocess import Encoded
from lmaas.workers.runtime import Runtime

#: Of batches that are nearly as fast as the fastest the smallest are best: a worker can turn to
#: other work between two of them, and they take less memory.
NEARLY: Final = 1.03
#: Of numbers of threads that are nearly as fast as the best the largest is best: there are fewer
#: processes then, each of which has the model in memory, and an item alone is answered sooner.
NEARLY_WITH_FEWER: Final = 1.05
#: The fastest of so many runs counts, because what else the machine does is not the model's; of a
#: slow model, of those that begin within these seconds.
REPEATS: Final = 5
SECONDS: Final = 0.3
#: Items that are run together are doubled until a run of them takes so many seconds.
ENOUGH: Final = 0.2
#: Batches that are so many times as slow as the fastest end the search in their direction, and so
#: do these seconds.
SLOW: Final = 1.5
LONGEST: Final = 3.0
#: Bytes of a model's files in all sessions that run side by side.
COPIES: Final = 1024 * 1024 * 1024
#: How often each of the measured packs is learnt from: enough for the estimates to settle.
LESSONS: Final = 100

Clock = Callable[[], float]


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What goes into the manifest."""

    batching: Batching
    cost: Cost
    parallelism: Parallelism | None = None

    def in_(self, manifest: Manifest) -> Manifest:
        return msgspec.structs.replace(
            manifest, batching=self.batching, cost=self.cost, parallelism=self.parallelism
        )


def measured(version: ModelVersion, items: Sequence[Item]) -> Measured:
    """Of a version that has been tried.

    `items` are those that the model will have to do with, at least one, and some hundreds for
    figures that are worth something.
    """

    def made(threads: int) -> Runtime:
        return Runtime(version, threads=threads, trial=False)

    return found(made, items, version.manifest.batching, cores.usable())


def found(
    made: Callable[[int], Runtime],
    items: Sequence[Item],
    batching: Batching,
    usable: int,
    clock: Clock = time.perf_counter,
) -> Measured:
    """The same; `made` makes a runtime of so many threads, `usable` is the number of cores."""
    first = made(1)
    sample = affordable(first, items, batching, clock)
    table: list[Speed] = []
    for threads in _threads(usable, first.size):
        processes = usable // threads
        # A session of one thread can be run by several at a time.
        runtimes = [first] if threads == 1 else [made(threads) for _ in range(processes)]
        table += _speeds(runtimes, processes, threads, sample, batching, clock)
    threads = _best_threads(table)
    batching = msgspec.structs.replace(batching, most=_best_units(table, threads))
    runtime = first if threads == 1 else made(threads)
    return Measured(
        batching=batching,
        cost=_cost(runtime, sample, batching, clock),
        parallelism=Parallelism(cores=usable, threads=threads, speeds=table),
    )


# ------------------------------------------------------------------- what is tried


def affordable(
    runtime: Runtime,
    items: Sequence[Item],
    batching: Batching,
    clock: Clock = time.perf_counter,
) -> Sequence[Item]:
    """As many of the items, of all lengths, as can be run again and again."""
    ordered = sorted(items, key=lambda item: item.size)
    count = 1
    _pass(runtime, _spread(ordered, count), batching)  # the first run makes what later ones use
    while count < len(ordered):
        start = clock()
        _pass(runtime, _spread(ordered, count), batching)
        if clock() - start >= ENOUGH:
            break
        count = min(2 * count, len(ordered))
    return _spread(ordered, count)


def _spread(ordered: Sequence[Item], count: int) -> Sequence[Item]:
    """So many of them, from everywhere; of one, the one in the middle."""
    return [ordered[(2 * place + 1) * len(ordered) // (2 * count)] for place in range(count)]


def _units(lengths: Sequence[int], how: Batching) -> tuple[int, ...]:
    """Padded units of a batch: of one item, twice as many, and so on, up to all in one batch.

    The item is of middle length, its rows and length as they run.
    """
    ordered = sorted(lengths)
    rows, step = how.rows or how.row_step, how.length_step
    one = rows * -(-ordered[len(ordered) // 2] // step) * step
    whole = -(-len(lengths) // rows) * rows * -(-ordered[-1] // step) * step
    doublings = 0 if how.rows else math.ceil(math.log2(max(whole / one, 1)))
    return tuple(one << doubling for doubling in range(doublings + 1))


def _threads(usable: int, size: int) -> Iterator[int]:
    """One, four times as many, and so on; and all cores."""
    threads = 1
    while threads < usable:
        if threads == 1 or usable // threads * size <= COPIES:
            yield threads
        threads *= 4
    yield usable


def _speeds(
    runtimes: Sequence[Runtime],
    processes: int,
    threads: int,
    sample: Sequence[Item],
    batching: Batching,
    clock: Clock,
) -> list[Speed]:
    """Of so many processes side by side.

    Threads of this process stand for them, as ONNX Runtime lets go of Python's lock. To prepare
    items keeps it, so that this is timed by itself.
    """
    encoded = runtimes[0].encode(sample)
    preparing = _fastest(lambda: runtimes[0].encode(sample), clock)
    times: dict[int, float] = {}
    until = clock() + LONGEST
    with ThreadPoolExecutor(processes) as pool:

        def measure(units: int) -> bool:
            """Whether it is worth while to go on in this direction."""
            cut = batches(encoded.lengths, msgspec.structs.replace(batching, most=units))

            def run(place: int) -> None:
                _run(runtimes[place % len(runtimes)], encoded, cut)

            times[units] = preparing + _fastest(
                lambda: list(pool.map(run, range(processes))), clock
            )
            return times[units] <= SLOW * min(times.values()) and clock() < until

        candidates = _units(encoded.lengths, batching)
        # How long these take is known, as the number of items was found with them.
        known = sum(units <= batching.most for units in candidates) or 1
        for direction in (reversed(candidates[:known]), candidates[known:]):
            for units in direction:
                if not measure(units):
                    break
    return [
        Speed(
            threads=threads,
            processes=processes,
            units=units,
            items_per_second=processes * len(sample) / max(seconds, 1e-9),
        )
        for units, seconds in sorted(times.items())
    ]


# ------------------------------------------------------------------- what is chosen


def _best_threads(table: Sequence[Speed]) -> int:
    fast = max(one.items_per_second for one in table) / NEARLY_WITH_FEWER
    return max(one.threads for one in table if one.items_per_second >= fast)


def _best_units(table: Sequence[Speed], threads: int) -> int:
    those = [one for one in table if one.threads == threads]
    fast = max(one.items_per_second for one in those) / NEARLY
    return min(one.units for one in those if one.items_per_second >= fast)


# ------------------------------------------------------------------- what packs cost


def _cost(runtime: Runtime, items: Sequence[Item], batching: Batching, clock: Clock) -> Cost:
    """Learnt from the service times of packs that differ in items and in bytes."""
    ordered = sorted(items, key=lambda item: item.size)
    middle = len(ordered) // 2
    packs = [ordered[:1], ordered[-1:], ordered[: middle + 1], ordered[middle:], ordered]
    packs = [pack for place, pack in enumerate(packs) if pack not in packs[:place]]
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
    return _fastest(lambda: _pass(runtime, items, batching), clock)


def _fastest(run: Callable[[], object], clock: Clock) -> float:
    times: list[float] = []
    while len(times) < REPEATS and sum(times) < SECONDS:
        start = clock()
        run()
        times.append(clock() - start)
    return min(times)


def _pass(runtime: Runtime, items: Sequence[Item], batching: Batching) -> None:
    encoded = runtime.encode(items)
    _run(runtime, encoded, batches(encoded.lengths, batching))


def _run(runtime: Runtime, encoded: Encoded, cut: Sequence[Batch]) -> None:
    for batch in cut:
        runtime.run(encoded, batch)
