"""The local heap: what a worker holds and has not begun, shortest first, nothing for ever.

Pure but for the waiting. The rank of an entry is `seconds + ageing * arrival`: what waits gains
on what comes later, and because every entry ages alike the rank never has to be computed again
(linear ageing; see docs/architecture.md).
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from typing import Final, Generic, TypeVar

T = TypeVar("T")

#: Seconds of service time that a second of waiting makes up for.
AGEING: Final = 0.1


class ReadyQueue(Generic[T]):
    """For one taker."""

    def __init__(self, ageing: float = AGEING) -> None:
        self._ageing = ageing
        self._heap: list[tuple[float, int, int, T]] = []
        self._count = itertools.count()
        self._changed = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        return len(self._heap)

    def put(self, entry: T, *, seconds: float, size: int, arrival: float) -> None:
        """`seconds` of estimated service, `size` items, `arrival` on the monotonic clock."""
        rank = seconds + self._ageing * arrival
        heapq.heappush(self._heap, (rank, next(self._count), size, entry))
        self._changed.set()

    async def take(self, size: int) -> list[T]:
        """The next entries, at least one, until they have `size` items; none when closed."""
        while not self._heap and not self._closed:
            self._changed.clear()
            await self._changed.wait()
        taken: list[T] = []
        total = 0
        while self._heap and (not taken or total + self._heap[0][2] <= size):
            _, _, items, entry = heapq.heappop(self._heap)
            taken.append(entry)
            total += items
        return taken

    def empty(self) -> list[T]:
        """Takes everything out at once."""
        entries = [entry for *_, entry in self._heap]
        self._heap.clear()
        return entries

    def close(self) -> None:
        """Nothing more will come: `take` returns what is left, then nothing."""
        self._closed = True
        self._changed.set()
