"""The local heap: what a worker holds and has not begun, in the order of the policy.

Pure but for the waiting. `broker_config.scheduling.key` says the order of a tenant's entries: each
ages alike, so that time changes no place. Between tenants `workers.shares` says it. Who learns that
an estimate was wrong takes all out and puts it in anew.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable, Iterable
from typing import Final, Generic, NamedTuple, TypeVar

from lmaas.broker_config.scheduling import key
from lmaas.workers.shares import Order, Shares

T = TypeVar("T")

#: Entries are taken together until they have this many items ...
JOIN_ITEMS: Final = 256
#: ... or this many seconds: who shares a batch waits for all of it.
JOIN_SECONDS: Final = 0.003


class _Held(NamedTuple, Generic[T]):
    """An entry; those of a tenant are in this order."""

    place: float
    #: Equals are taken as they came.
    number: int
    kind: str
    size: int
    seconds: float
    rank: float
    entry: T


class ReadyQueue(Generic[T]):
    """For one taker."""

    def __init__(
        self,
        ageing: float,
        shares: Shares | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Without `shares` all tenants are one. `clock` tells Unix seconds."""
        self._ageing = ageing
        self._shares = shares or Shares(0.0)
        self._clock = clock
        #: A heap for each tenant; none is empty.
        self._heaps: dict[str, list[_Held[T]]] = {}
        self._count = itertools.count()
        self._changed = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        return sum(map(len, list(self._heaps.values())))

    def order(self, tenants: Iterable[str] = ()) -> Order:
        """As of now, among those whose entries are held and `tenants`; from any thread."""
        ahead = self._shares.ahead({*list(self._heaps), *tenants})
        return Order(ahead, self._clock(), self._ageing)

    @property
    def head(self) -> tuple[float, T] | None:
        """What would be taken next, with its place in the order; from any thread."""
        return self.head_in(self.order())

    def head_in(self, order: Order) -> tuple[float, T] | None:
        """The same in another order."""
        found: tuple[float, T] | None = None
        for tenant, heap in list(self._heaps.items()):
            try:
                first = heap[0]
            except IndexError:  # it was taken this moment
                continue
            place = order.place(tenant, first.place, first.rank)
            if found is None or place < found[0]:
                found = place, first.entry
        return found

    def put(
        self,
        entry: T,
        *,
        tenant: str = "",
        kind: str,
        rank: float,
        seconds: float,
        size: int,
        arrival: float,
    ) -> float:
        """`rank` and `seconds` of service, `size` items, `arrival` in Unix seconds.

        Only entries of one `kind` are taken together. Returns its place in its tenant's order.
        """
        place = key(rank, arrival, self._ageing)
        held = _Held(place, next(self._count), kind, size, seconds, rank, entry)
        heapq.heappush(self._heaps.setdefault(tenant, []), held)
        self._changed.set()
        return place

    async def take(self) -> list[T]:
        """The next entries that fit together, at least one; none when closed."""
        while not self._heaps and not self._closed:
            self._changed.clear()
            await self._changed.wait()
        return self.take_held()

    def take_held(self) -> list[T]:
        """The same of what is held now; none when nothing is."""
        order = self.order()
        heads = [_head(order, tenant, heap) for tenant, heap in self._heaps.items()]
        heapq.heapify(heads)
        taken: list[T] = []
        kind, items, seconds = "", 0, 0.0
        while heads:
            tenant = heads[0][2]
            heap = self._heaps[tenant]
            # The next one must not be passed: what is behind it waits, whatever its kind is.
            if taken and not _fits(heap[0], kind, items, seconds):
                break
            held = heapq.heappop(heap)
            taken.append(held.entry)
            kind = held.kind
            items += held.size
            seconds += held.seconds
            if heap:
                heapq.heapreplace(heads, _head(order, tenant, heap))
            else:
                heapq.heappop(heads)
                del self._heaps[tenant]
        return taken

    def empty(self) -> list[T]:
        """Takes everything out at once, in the order in which it would be without tenants."""
        held = sorted(itertools.chain.from_iterable(self._heaps.values()))
        self._heaps.clear()
        return [one.entry for one in held]

    def close(self) -> None:
        """Nothing more will come: `take` returns what is left, then nothing."""
        self._closed = True
        self._changed.set()


def _head(order: Order, tenant: str, heap: list[_Held[T]]) -> tuple[float, int, str]:
    """Of a tenant: the place of the first entry, its number, and the tenant."""
    first = heap[0]
    return order.place(tenant, first.place, first.rank), first.number, tenant


def _fits(held: _Held[T], kind: str, items: int, seconds: float) -> bool:
    """Together with what is taken already."""
    return (
        held.kind == kind
        and items + held.size <= JOIN_ITEMS
        and seconds + held.seconds <= JOIN_SECONDS
    )
