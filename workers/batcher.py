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
#: What running a batch costs, whatever is in it, in tokens; `python -m benchmarks batching`.
OVERHEAD: Final = 512
#: Rows of a batch are at most ROW_STEP times this, which bounds the work of choosing the cuts.
MAX_STEPS: Final = 64


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

    Of all ways to cut the sorted positions, at multiples of ROW_STEP, the one that costs least:
    padded tokens, and OVERHEAD for each batch. A batch has at least ROW_STEP rows, however long
    they are.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    starts = range(0, len(order), ROW_STEP)
    padded = [_up(lengths[order[min(start + ROW_STEP, len(order)) - 1]], LENGTH_STEP)
              for start in starts]  # fmt: skip
    found = []
    stop = len(padded)
    first = _first_steps(padded, max_tokens)
    while stop:
        start = first[stop - 1]
        positions = order[start * ROW_STEP : stop * ROW_STEP]
        found.append(Batch(positions, (stop - start) * ROW_STEP, padded[stop - 1]))
        stop = start
    return found[::-1]


def _first_steps(padded: Sequence[int], max_tokens: int) -> list[int]:
    """Where the batch begins that ends with each step of rows, by dynamic programming.

    `padded` has the length of each step of ROW_STEP rows, ascending.
    """
    costs = [0]
    first = []
    for last, length in enumerate(padded):
        tokens = ROW_STEP * length
        start, least = last, costs[last] + tokens
        for earlier in range(last - 1, max(-1, last - MAX_STEPS), -1):
            tokens += ROW_STEP * length
            # Rows that waste more than a batch costs are better off in one of their own.
            if tokens > max_tokens or ROW_STEP * (length - padded[earlier]) > OVERHEAD:
                break
            if costs[earlier] + tokens < least:
                start, least = earlier, costs[earlier] + tokens
        costs.append(least + OVERHEAD)
        first.append(start)
    return first


def _up(value: int, step: int) -> int:
    return -(-value // step) * step
