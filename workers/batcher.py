"""Batches by length: little padding, bounded size, and shapes that keep answers the same.

Pure: lengths in, batches of positions out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

#: Lengths and numbers of rows are rounded up to these. A sum over a padded row is then made in
#: the same order whatever the row's neighbours are, and the answer is the same to the last bit.
LENGTH_STEP: Final = 16
ROW_STEP: Final = 8


@dataclass(frozen=True, slots=True)
class Batch:
    """Positions that run together, as a matrix of `rows` x `length` tokens."""

    positions: list[int]
    rows: int
    length: int

    @property
    def tokens(self) -> int:
        """Padded size."""
        return self.rows * self.length


def batches(lengths: Sequence[int], max_tokens: int) -> list[Batch]:
    """Every position once, shortest first, each batch at most `max_tokens` padded tokens.

    A batch has at least ROW_STEP rows, however long they are.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    found = []
    start = 0
    while start < len(order):
        stop = start + _rows_that_fit(lengths, order, start, max_tokens)
        found.append(_batch(lengths, order[start:stop]))
        start = stop
    return found


def _rows_that_fit(lengths: Sequence[int], order: list[int], start: int, max_tokens: int) -> int:
    """How many positions from `start` fit together; the last one is the longest."""
    rows = min(ROW_STEP, len(order) - start)
    while start + rows < len(order):
        length = _up(lengths[order[start + rows]], LENGTH_STEP)
        if _up(rows + 1, ROW_STEP) * length > max_tokens:
            break
        rows += 1
    return rows


def _batch(lengths: Sequence[int], positions: list[int]) -> Batch:
    longest = lengths[positions[-1]]
    return Batch(positions, _up(len(positions), ROW_STEP), _up(longest, LENGTH_STEP))


def _up(value: int, step: int) -> int:
    return -(-value // step) * step
