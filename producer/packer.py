"""When a pack is full: the one rule for single calls, streams, jobs and files. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from lmaas.broker_config.messages import Item
from lmaas.broker_config.settings import Settings

#: Bytes of data that take as much of a window as a pack of texts does.
PLACE: Final = 2 * 1024 * 1024
#: The seconds that a pack of so many items, of so many bytes together, is expected to take.
Estimate = Callable[[int, int], float]


def places(items: Sequence[Item]) -> int:
    """How many places of a window a pack takes: several where it has a large picture or sound, so
    that a window is a bound of memory."""
    return 1 + sum(len(item.data) for item in items if item.data is not None) // PLACE


class Packer:
    """Takes items one after the other, and gives them back in packs.

    A pack is full when it has `pack_items` items, `pack_bytes` bytes, or when it is expected to
    take `pack_seconds`: 256 texts take a small model 5 ms, and a large one 12 s. The item that
    fills it may be of any size.
    """

    def __init__(self, settings: Settings, estimate: Estimate | None = None) -> None:
        """`estimate` is for the model of these items; without it their time is not counted."""
        self._settings = settings
        self._estimate = estimate
        self._items: list[Item] = []
        self._bytes = 0

    def __len__(self) -> int:
        """Items of the pack that is not full yet."""
        return len(self._items)

    def add(self, item: Item) -> list[Item]:
        """The pack that is full with this item; empty when there is still room."""
        self._items.append(item)
        self._bytes += item.size
        return self.rest() if self._is_full() else []

    def _is_full(self) -> bool:
        limits = self._settings
        if len(self._items) >= limits.pack_items or self._bytes >= limits.pack_bytes:
            return True
        if self._estimate is None:
            return False
        return self._estimate(len(self._items), self._bytes) >= limits.pack_seconds

    def rest(self) -> list[Item]:
        """The pack as far as it is; empty when there is none."""
        items, self._items, self._bytes = self._items, [], 0
        return items
