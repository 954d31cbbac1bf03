"""What is measured of a model on a clock that a made-up runtime sets forward."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import msgspec
import numpy as np
import pytest

from lmaas.broker_config.messages import Item
from lmaas.training.measuring import COPIES, Measured, affordable, found
from lmaas.workers.batcher import Batch
from lmaas.workers.heads import Scores
from lmaas.workers.manifest import Batching, Parallelism
from lmaas.workers.preprocess import Encoded
from lmaas.workers.runtime import Runtime

TEXTS = [Item(id="", text="x" * (20 + 7 * (place % 40))) for place in range(240)]
#: Of the text in the middle.
MIDDLE = 160
MANY = TEXTS * 4
ALIKE = [Item(id="", data=b"x" * 784) for _ in range(64)]
#: Batches are as full as they may be.
BATCHING = Batching(unit="bytes", most=1_000_000, overhead=1_000_000)


@dataclass
class Model:
    """Takes the time that it is told to. Processes side by side take as long as one does."""

    #: Seconds to prepare an item, and of a batch by its padded units and the number of threads.
    prepare: Callable[[Item], float] = lambda item: 0.0
    batch: Callable[[int, int], float] = lambda units, threads: 0.0
    cores: int = 1
    size: int = 0
    now: float = 0.0
    #: Threads of the runtimes that were made.
    made: list[int] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def measured(self, items: Sequence[Item] = TEXTS, batching: Batching = BATCHING) -> Measured:
        return found(self._made, items, batching, self.cores, lambda: self.now)

    def parallelism(self, items: Sequence[Item] = TEXTS) -> Parallelism:
        told = self.measured(items).parallelism
        assert told is not None
        return told

    def _made(self, threads: int) -> Runtime:
        self.made.append(threads)
        return cast(Runtime, _OfThreads(self, threads))


@dataclass
class _OfThreads:
    model: Model
    threads: int

    @property
    def size(self) -> int:
        return self.model.size

    def encode(self, items: Sequence[Item]) -> Encoded:
        self.model.now += sum(self.model.prepare(item) for item in items)
        return _Lengths([item.size for item in items])

    def run(self, encoded: Encoded, batch: Batch) -> Scores:
        together = threading.current_thread() is not threading.main_thread()
        seconds = self.model.batch(batch.size, self.threads)
        with self.model.lock:
            self.model.now += seconds / (self.model.cores // self.threads if together else 1)
        return np.zeros((len(batch.positions), 1), np.float32)


@dataclass
class _Lengths:
    lengths: Sequence[int]

    def arrays(self, batch: Batch) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
        raise AssertionError("only a real runtime needs them")


@pytest.mark.parametrize("best", [MIDDLE, 4 * MIDDLE, 32 * MIDDLE])
def test_batches_are_as_large_as_is_fastest(best: int) -> None:
    """What fits into a cache is fast, and each batch has a cost of its own."""

    def seconds(units: int, _threads: int) -> float:
        return 1e-3 + 1e-6 * units + 1e-5 * max(0, units - best)

    batching = Model(batch=seconds).measured().batching
    assert batching.most == pytest.approx(best, rel=0.1)
    assert msgspec.structs.replace(batching, most=BATCHING.most) == BATCHING


@pytest.mark.parametrize(
    ("rows", "steps", "most"), [(None, (1, 1), 784), (None, (8, 16), 6272), (4, (1, 100), 3200)]
)
def test_of_batches_that_are_alike_those_of_one_item_are_best(
    rows: int | None, steps: tuple[int, int], most: int
) -> None:
    """With as many rows as run at least."""
    row_step, length_step = steps
    how = msgspec.structs.replace(
        BATCHING, unit="pixels", rows=rows, row_step=row_step, length_step=length_step
    )
    told = Model(prepare=lambda _: 1e-3).measured(ALIKE, how)
    assert told.batching == msgspec.structs.replace(how, most=most)


def test_a_batch_of_all_items_is_the_largest_that_is_tried() -> None:
    model = Model(batch=lambda units, _: 1e-6 * units)
    table = model.parallelism(ALIKE).speeds
    assert [one.units for one in table] == [784 * 2**power for power in range(7)]


@pytest.mark.parametrize(
    ("fixed", "per_item", "per_byte"),
    [(1e-3, 2e-4, 1e-6), (5e-2, 1e-3, 1e-6), (0.0, 0.0, 1e-6), (0.0, 1e-3, 0.0)],
)
def test_the_cost_has_a_part_for_each_pack_item_and_byte(
    fixed: float, per_item: float, per_byte: float
) -> None:
    def prepare(item: Item) -> float:
        return per_item + per_byte * item.size + (fixed if item is first else 0.0)

    first = TEXTS[0]
    # Only the runtime knows where a pack begins.
    model = Model(prepare=prepare)
    made = model._made

    class Begun(_OfThreads):
        def encode(self, items: Sequence[Item]) -> Encoded:
            model.now += fixed - (fixed if any(item is first for item in items) else 0.0)
            return super().encode(items)

    assert made
    model._made = lambda threads: cast(Runtime, Begun(model, threads))  # type: ignore[method-assign]
    cost = model.measured().cost
    for items in (TEXTS[:1], TEXTS[39:40], TEXTS[:100], TEXTS):
        size = sum(item.size for item in items)
        exact = fixed + per_item * len(items) + per_byte * size
        assert cost.calibration.estimate(len(items), size) == pytest.approx(exact, rel=0.25)


def test_the_cost_is_that_of_what_was_chosen() -> None:
    """Not that of the batches, or threads, that were tried last."""

    def seconds(units: int, threads: int) -> float:
        return (1e-2 + 1e-4 * max(0, units - 8 * MIDDLE)) * (1 if threads == 1 else 2)

    told = Model(batch=seconds, cores=2).measured()
    assert told.batching.most == pytest.approx(8 * MIDDLE, rel=0.1)
    count, size = len(TEXTS), sum(item.size for item in TEXTS)
    exact = 1e-2 * size / (8 * MIDDLE)
    assert told.cost.calibration.estimate(count, size) == pytest.approx(exact, rel=0.3)


@pytest.mark.parametrize("items", [TEXTS[:1], TEXTS[:2], TEXTS[::40]])
def test_a_few_items_that_are_alike_are_enough_for_some_figures(items: Sequence[Item]) -> None:
    cost = Model(batch=lambda units, _: 1e-3 + 1e-6 * units).measured(items).cost
    size = sum(item.size for item in items)
    assert 1e-4 < cost.calibration.estimate(len(items), size) < 1e-1


@pytest.mark.parametrize(
    ("items", "an_item", "batched", "most"),
    [
        pytest.param(MANY, 1e-5, 1.0, 8, id="linear"),
        pytest.param(MANY, 1e-2, 1.0, 12, id="encoder"),
        pytest.param(MANY, 1e-2, 0.1, 12, id="encoder that likes batches"),
        pytest.param(ALIKE, 0.5, 1.0, 12, id="large pictures"),
        pytest.param(ALIKE, 3.0, 1.0, 36, id="long sounds"),
    ],
)
def test_it_ends_within_seconds(
    items: Sequence[Item], an_item: float, batched: float, most: float
) -> None:
    """Of what takes seconds itself within some runs of it."""
    size = sum(item.size for item in items) / len(items)

    def seconds(units: int, threads: int) -> float:
        return an_item * (1 - batched + batched * units / size) / threads**0.9

    model = Model(batch=seconds, cores=2)
    told = model.measured(items)
    assert model.now < most
    one = told.cost.calibration.estimate(1, int(size))
    assert one == pytest.approx(an_item, rel=0.5, abs=1e-4)


def test_a_model_that_likes_batches_is_measured_with_many_items() -> None:
    model = Model(batch=lambda units, _: 1e-2)
    assert len(affordable(model._made(1), TEXTS, BATCHING, lambda: model.now)) == len(TEXTS)
    assert model.measured().batching.most > 64 * MIDDLE  # which is as many rows as a batch has
    assert model.now < 5


@pytest.mark.parametrize("cores", [2, 8])
@pytest.mark.parametrize(
    ("gain", "all_of_them"), [(0.0, False), (0.5, False), (0.9, False), (1.0, True)]
)
def test_a_process_has_all_cores_when_that_is_as_fast_as_a_process_a_core(
    cores: int, gain: float, *, all_of_them: bool
) -> None:
    """`gain` is what each thread more is worth: 1 is as much as the first."""

    def seconds(units: int, threads: int) -> float:
        return (1e-3 + 1e-6 * units) / (1 + gain * (threads - 1))

    told = Model(batch=seconds, cores=cores).parallelism()
    assert (told.cores, told.threads) == (cores, cores if all_of_them else 1)


def test_nearly_as_fast_with_fewer_processes_is_better() -> None:
    told = Model(batch=lambda units, threads: 1e-6 * units / threads**0.95, cores=2).parallelism()
    assert told.threads == 2


def test_what_prepares_items_wants_a_process_a_core() -> None:
    told = Model(
        prepare=lambda _: 1e-3, batch=lambda units, threads: 1e-6 * units / threads, cores=2
    ).parallelism()
    assert told.threads == 1


def test_the_speeds_are_of_all_processes_together() -> None:
    told = Model(batch=lambda units, threads: 1e-3 * units / 784, cores=2).parallelism(ALIKE)
    assert {(one.threads, one.processes) for one in told.speeds} == {(1, 2), (2, 1)}
    for one in told.speeds:
        assert one.items_per_second == pytest.approx(1000 * one.processes)


@pytest.mark.parametrize(
    ("cores", "size", "tried"),
    [(1, 0, [1]), (2, 0, [1, 2]), (6, 0, [1, 4, 6]), (64, 0, [1, 4, 16, 64]),
     (64, COPIES // 8, [1, 16, 64])],
)  # fmt: skip
def test_sessions_side_by_side_fit_into_memory(cores: int, size: int, tried: list[int]) -> None:
    told = Model(batch=lambda *_: 1e-3, cores=cores, size=size).parallelism(ALIKE[:1])
    assert sorted({one.threads for one in told.speeds}) == tried
