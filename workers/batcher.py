"""Batches by length: little padding, bounded size, and shapes that keep answers the same.

Pure: lengths in, batches of positions out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lmaas.workers.manifest import Batching

#: Rows of a batch are at most `row_step` times this, which bounds the work of choosing the cuts.
MAX_STEPS: Final = 64


@dataclass(frozen=True, slots=True)
class Batch:
    """Positions that run together, as `rows` x `length` units."""

    positions: list[int]
    rows: int
    length: int

    @property
    def size(self) -> int:
        """Padded, in units."""
        return self.rows * self.length


def batches(lengths: Sequence[int], how: Batching) -> list[Batch]:
    """Every position once, shortest first, each batch at most `how.most` padded units.

    Rows and lengths are rounded up to the steps of `how`: a sum over a padded row is then made in
    the same order whatever the row's neighbours are, and the answer is the same to the last bit.
    Of all ways to cut the sorted positions, at multiples of `row_step`, the one that costs least:
    padded units, and `overhead` for each batch. A batch has at least `row_step` rows, however long
    they are; one of a graph whose number of rows is fixed has that number.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    step = how.rows or how.row_step
    padded = [_up(lengths[order[min(start + step, len(order)) - 1]], how.length_step)
              for start in range(0, len(order), step)]  # fmt: skip
    first = range(len(padded)) if how.rows else _first_steps(padded, how)
    found = []
    stop = len(padded)
    while stop:
        start = first[stop - 1]
        positions = order[start * step : stop * step]
        found.append(Batch(positions, (stop - start) * step, padded[stop - 1]))
        stop = start
    return found[::-1]


def bisected(batch: Batch, how: Batching) -> list[Batch]:
    """The positions of a batch of several in two."""
    middle = len(batch.positions) // 2
    parts = (batch.positions[:middle], batch.positions[middle:])
    return [Batch(part, how.rows or _up(len(part), how.row_step), batch.length) for part in parts]


def _first_steps(padded: Sequence[int], how: Batching) -> list[int]:
    """Where the batch begins that ends with each step of rows, by dynamic programming.

    `padded` has the length of each step of `row_step` rows, ascending.
    """
    row_step, most, overhead = how.row_step, how.most, how.overhead
    costs = [0]
    first = []
    for last, length in enumerate(padded):
        units = row_step * length
        start, least = last, costs[last] + units
        for earlier in range(last - 1, max(-1, last - MAX_STEPS), -1):
            units += row_step * length
            # Rows that waste more than a batch costs are better off in one of their own.
            if units > most or row_step * (length - padded[earlier]) > overhead:
                break
            if costs[earlier] + units < least:
                start, least = earlier, costs[earlier] + units
        costs.append(least + overhead)
        first.append(start)
    return first


def _up(value: int, step: int) -> int:
    return -(-value // step) * step
