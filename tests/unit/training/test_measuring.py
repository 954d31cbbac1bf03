"""What is measured of a model on a clock that a made-up runtime sets forward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import msgspec
import numpy as np
import pytest

from lmaas.broker_config.messages import Item
from lmaas.training.measuring import REPEATS, SECONDS, SIZES, measured
from lmaas.workers.batcher import Batch
from lmaas.workers.heads import Scores
from lmaas.workers.manifest import Batching, Cost
from lmaas.workers.preprocess import Encoded
from lmaas.workers.runtime import Runtime

TEXTS = [Item(id="", text="x" * (20 + 7 * (place % 40))) for place in range(1024)]
#: Batches are as full as they may be.
BATCHING = Batching(unit="bytes", most=1_000_000, overhead=1_000_000)


@dataclass
class Model:
    """Takes the time that it is told to."""

    #: Seconds to prepare an item, and of a batch by its padded units.
    prepare: Callable[[Item], float] = lambda item: 0.0
    batch: Callable[[int], float] = lambda units: 0.0
    now: float = 0.0

    def clock(self) -> float:
        return self.now

    def encode(self, items: Sequence[Item]) -> Encoded:
        self.now += sum(self.prepare(item) for item in items)
        return _Lengths([item.size for item in items])

    def run(self, encoded: Encoded, batch: Batch) -> Scores:
        self.now += self.batch(batch.size)
        return np.zeros((len(batch.positions), 1), np.float32)

    def measured(self, items: Sequence[Item] = TEXTS) -> tuple[Batching, Cost]:
        return measured(cast(Runtime, self), items, BATCHING, self.clock)


@dataclass
class _Lengths:
    lengths: Sequence[int]

    def arrays(self, batch: Batch) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
        raise AssertionError("only a real runtime needs them")


@pytest.mark.parametrize("best", SIZES[1:-1])
def test_batches_are_as_large_as_is_fastest(best: int) -> None:
    """What fits into a cache is fast, and each batch has a cost of its own."""

    def seconds(units: int) -> float:
        return 1e-2 + 1e-6 * units + 1e-4 * max(0, units - best)

    batching, _ = Model(batch=seconds).measured()
    assert batching == msgspec.structs.replace(BATCHING, most=best)


def test_of_batches_that_are_alike_the_smallest_are_best() -> None:
    """None takes longer than another for the padding that it has."""
    batching, _ = Model(prepare=lambda _: 1e-3).measured()
    assert batching.most == SIZES[0]


@pytest.mark.parametrize(
    ("fixed", "per_item", "per_byte"),
    [(1e-3, 2e-4, 1e-6), (5e-2, 1e-3, 1e-6), (0.0, 0.0, 1e-6), (0.0, 1e-3, 0.0)],
)
def test_the_cost_has_a_part_for_each_pack_item_and_byte(
    fixed: float, per_item: float, per_byte: float
) -> None:
    model = Model(prepare=lambda item: per_item + per_byte * item.size)
    encode = model.encode

    def encoded(items: Sequence[Item]) -> Encoded:
        model.now += fixed
        return encode(items)

    model.encode = encoded  # type: ignore[method-assign]
    _, cost = model.measured()
    for items in (TEXTS[:1], TEXTS[39:40], TEXTS[:100], TEXTS):
        size = sum(item.size for item in items)
        exact = fixed + per_item * len(items) + per_byte * size
        assert cost.calibration.estimate(len(items), size) == pytest.approx(exact, rel=0.25)


def test_the_cost_is_that_of_the_batches_that_were_found() -> None:
    """Not that of those that were tried last."""

    def seconds(units: int) -> float:
        return 1e-2 + 1e-4 * max(0, units - 2048)

    batching, cost = Model(batch=seconds).measured()
    assert batching.most == 2048
    count, size = len(TEXTS), sum(item.size for item in TEXTS)
    exact = 1e-2 * size / 2048
    assert cost.calibration.estimate(count, size) == pytest.approx(exact, rel=0.3)


@pytest.mark.parametrize("items", [TEXTS[:1], TEXTS[:2], TEXTS[::40]])
def test_a_few_items_that_are_alike_are_enough_for_some_figures(items: Sequence[Item]) -> None:
    _, cost = Model(batch=lambda units: 1e-3 + 1e-6 * units).measured(items)
    size = sum(item.size for item in items)
    assert 1e-4 < cost.calibration.estimate(len(items), size) < 1e-1


@pytest.mark.parametrize(("seconds", "runs"), [(SECONDS, 1), (SECONDS / 2, 2), (0.01, REPEATS)])
def test_a_slow_model_is_run_less_often(seconds: float, runs: int) -> None:
    model = Model()
    calls = 0

    def encoded(items: Sequence[Item]) -> Encoded:
        nonlocal calls
        calls += 1
        model.now += seconds
        return _Lengths([1] * len(items))

    model.encode = encoded  # type: ignore[method-assign]
    model.measured()
    assert calls == runs * (len(SIZES) + 5)
