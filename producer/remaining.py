"""What remains of a stream of packs, for ordering the shortest remaining one first."""

from __future__ import annotations

from collections.abc import Sequence

from broker_config.messages import Item
from broker_config.scheduling import Cost


class Remaining:
    """Seconds that remain of a job, as its packs are published.

    When nobody knows how long the job is, what it has had so far stands for what remains: for
    sizes that vary widely, long so far means long to come (least attained service).
    """

    def __init__(self, items: int | None) -> None:
        """`items` in the whole job, if that is known."""
        self._items = items
        self._sent_items = 0
        self._sent_seconds = 0.0

    def next(self, pack: Sequence[Item]) -> float:
        """What remains when a pack is published, itself included."""
        seconds = Cost().estimate(sum(len(item.text or "") for item in pack))
        self._sent_items += len(pack)
        self._sent_seconds += seconds
        if self._items is None:
            return self._sent_seconds
        to_come = max(0, self._items - self._sent_items)
        return seconds + to_come * self._sent_seconds / self._sent_items
