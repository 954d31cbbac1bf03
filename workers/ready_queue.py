"""The local heap: what a worker holds and has not begun, in the order of the policy.

Pure but for the waiting. `broker_config.scheduling.key` says the order: every entry ages alike, so
that time changes no place. Who learns that an estimate was wrong takes all out and puts it in anew.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from typing import Final, Generic, TypeVar

from lmaas.broker_config.scheduling import key

T = TypeVar("T")

#: Entries are taken together until they have this many items ...
JOIN_ITEMS: Final = 256
#: ... or this many seconds: who shares a batch waits for all of it.
JOIN_SECONDS: Final = 0.003


class ReadyQueue(Generic[T]):
    """For one taker."""

    def __init__(self, ageing: float) -> None:
        self._ageing = ageing
        self._heap: list[tuple[float, int, str, int, float, T]] = []
        self._count = itertools.count()
        self._changed = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def head(self) -> tuple[float, T] | None:
        """What would be taken next, with its place in the order; from any thread."""
        try:
            place, _, _, _, _, entry = self._heap[0]
        except IndexError:
            return None
        return place, entry

    def put(
        self, entry: T, *, kind: str, rank: float, seconds: float, size: int, arrival: float
    ) -> float:
        """`rank` and `seconds` of service, `size` items, `arrival` in Unix seconds.

        Only entries of one `kind` are taken together. Returns its place in the order.
        """
        place = key(rank, arrival, self._ageing)
        heapq.heappush(self._heap, (place, next(self._count), kind, size, seconds, entry))
        self._changed.set()
        return place

    async def take(self) -> list[T]:
        """The next entries that fit together, at least one; none when closed."""
        while not self._heap and not self._closed:
            self._changed.clear()
            await self._changed.wait()
        taken: list[T] = []
        kind, items, seconds = "", 0, 0.0
        while self._heap and (not taken or self._fits(kind, items, seconds)):
            _, _, kind, more_items, more_seconds, entry = heapq.heappop(self._heap)
            taken.append(entry)
            items += more_items
            seconds += more_seconds
        return taken

    def _fits(self, kind: str, items: int, seconds: float) -> bool:
        """The next one must not be passed: what is behind it waits, whatever its kind is."""
        _, _, next_kind, more_items, more_seconds, _ = self._heap[0]
        return (
            next_kind == kind
            and items + more_items <= JOIN_ITEMS
            and seconds + more_seconds <= JOIN_SECONDS
        )

    def empty(self) -> list[T]:
        """Takes everything out at once, in order."""
        self._heap.sort()
        entries = [entry for *_, entry in self._heap]
        self._heap.clear()
        return entries

    def close(self) -> None:
        """Nothing more will come: `take` returns what is left, then nothing."""
        self._closed = True
        self._changed.set()
