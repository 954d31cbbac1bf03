"""What remains of a stream of packs, for ordering the shortest remaining one first."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Iterable, Sequence

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

    def __init__(
        self,
        seconds: Estimate,
        items: int | None,
        *,
        at_once: bool = False,
        ahead: Callable[[int], int] | None = None,
    ) -> None:
        """`seconds` estimates a pack; `items` are in the whole job, if that is known.

        `ahead` says how many items of other jobs count for a job of so many, too: `Ahead`.
        """
        self._seconds = seconds
        self._ahead = ahead or (lambda _items: 0)
        self._items = items
        self._at_once = at_once
        self._sent_items = 0
        self._sent_seconds = 0.0

    def next(self, pack: Sequence[Item]) -> float:
        """Of the pack that is about to be published; what remains includes it."""
        seconds = self._seconds(len(pack), sum(item.size for item in pack))
        self._sent_items += len(pack)
        self._sent_seconds += seconds
        of_an_item = self._sent_seconds / self._sent_items
        if self._items is None or self._at_once:
            items = max(self._items or 0, self._sent_items)
            return of_an_item * (items + self._ahead(items))
        return seconds + of_an_item * max(0, self._items - self._sent_items)


class Ahead:
    """Of those whose jobs wait together: how many items of theirs come before a job.

    By this a job is ordered among the jobs of others as if each owner had one queue, the shortest
    job first: a thousand jobs of one owner do not keep one of another owner waiting, and a short
    job passes the long ones of its own owner.
    """

    def __init__(self, waiting: Iterable[int]) -> None:
        """`waiting` has the items that remain of each job."""
        self._sizes = sorted(waiting)
        self._sums = [0, *itertools.accumulate(self._sizes)]

    def __call__(self, items: int) -> int:
        """Those of jobs that are not longer than one with so many items."""
        return self._sums[bisect.bisect_right(self._sizes, items)]
