"""What remains of a stream of packs, for ordering the shortest remaining one first."""

from __future__ import annotations

from collections.abc import Sequence

from lmaas.broker_config.messages import Item
from lmaas.producer.packer import Estimate


class Remaining:
    """Seconds by which the packs of a job are ordered, as they are published.

    - A window of packs at a time, of a known number of items: what remains of the job.
    - All of them at once: the whole job, for each of its packs. By what remains, the last ones
      would pass the first.
    - When nobody knows how long the job is, what it has had so far stands for what remains: for
      sizes that vary widely, long so far means long to come (least attained service).
    """

    def __init__(self, seconds: Estimate, items: int | None, *, at_once: bool = False) -> None:
        """`seconds` estimates a pack; `items` are in the whole job, if that is known."""
        self._seconds = seconds
        self._items = items
        self._at_once = at_once
        self._sent_items = 0
        self._sent_seconds = 0.0

    def next(self, pack: Sequence[Item]) -> float:
        """Of the pack that is about to be published; what remains includes it."""
        seconds = self._seconds(len(pack), sum(item.size for item in pack))
        self._sent_items += len(pack)
        self._sent_seconds += seconds
        if self._items is None:
            return self._sent_seconds
        of_an_item = self._sent_seconds / self._sent_items
        if self._at_once:
            return of_an_item * max(self._items, self._sent_items)
        return seconds + of_an_item * max(0, self._items - self._sent_items)
