"""Packs that run together, a batch at a time: from requests to replies.

No queue in here. It blocks, so it is called off the event loop.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence

from lmaas.broker_config.messages import Item, ItemError, Options, Reply, Result, Timings
from lmaas.workers.pack import Pack
from lmaas.workers.plan import Plan
from lmaas.workers.runtime import Runtime


class Group:
    """Packs for one version that want the same of it: as if they were one."""

    def __init__(
        self,
        places: list[int],
        packs: Sequence[Pack],
        runtime: Runtime,
        options: Options,
        *,
        private: bool = False,
    ) -> None:
        """For `private` see Plan."""
        #: Of the packs in their run.
        self.places = places
        self.version = runtime.manifest.version
        self.plan = Plan(runtime, *_joined(packs), private=private)
        self._options = options
        ends = [*itertools.accumulate(map(len, packs), initial=0)]
        self._slices = [slice(start, end) for start, end in itertools.pairwise(ends)]

    def drop(self, place: int) -> None:
        """The items of the pack at a place of the run."""
        own = self._slices[self.places.index(place)]
        self.plan.drop(range(own.start, own.stop))

    def results(self) -> Iterator[tuple[int, list[Result]]]:
        """Of each pack, with its place in the run."""
        results = self.plan.results(self._options)
        return zip(self.places, (results[own] for own in self._slices), strict=True)


class Run:
    """Packs on their way, a batch at a time: between two batches whoever is shorter can go first.

    For one thread at a time.
    """

    def __init__(
        self,
        worker: str,
        packs: Sequence[Pack],
        groups: Sequence[Group],
        replies: dict[int, Reply],
        began: float,
    ) -> None:
        """`replies` has those that are known without a run; `began` is in seconds of
        time.monotonic().
        """
        self._worker = worker
        self._packs = packs
        self._groups = groups
        self._replies = replies
        self._units = sum(group.plan.units for group in groups)
        self._began = began
        self._seconds = time.monotonic() - began

    @property
    def left(self) -> float:
        """The share that has not run yet, 1 to 0."""
        left = sum(group.plan.left for group in self._groups)
        return left / self._units if left else 0.0

    def advance(self, enough: Callable[[], bool] = lambda: False) -> bool:
        """Run one batch after the other until `enough`, which is asked between two, or to the end.

        Returns whether that is reached.
        """
        now = time.monotonic()
        for plan in [group.plan for group in self._groups]:
            while plan.left:
                plan.step()
                before, now = now, time.monotonic()
                self._seconds += now - before
                if self.left and enough():
                    return False
        return True

    def remaining(self, estimated: float) -> float:
        """Seconds that what is left takes, of those `estimated` for all.

        What has run counts for as much as it is of the whole: the first batch may be a small one,
        and its time has the preparation of all the others in it.
        """
        left = self.left
        return left * (left * estimated + self._seconds)

    def drop(self, place: int) -> None:
        """Nobody wants the reply to the pack at this place: what is left of it is not run."""
        for group in self._groups:
            if place in group.places:
                group.drop(place)

    def replies(self) -> list[Reply]:
        """To each pack, once all has run; of one that was dropped it says nothing."""
        estimated = sum(pack.seconds for pack in self._packs)
        for group in self._groups:
            for place, results in group.results():
                pack = self._packs[place]
                assert pack.request is not None
                self._replies[place] = Reply(
                    model=pack.request.model,
                    version=group.version,
                    worker=self._worker,
                    timings=Timings(
                        waited=round(self._began - pack.arrived, 6),
                        ran=round(self._seconds, 6),
                        cost=round(self._seconds * pack.seconds / estimated, 6),
                    ),
                    results=results,
                )
        return [self._replies[place] for place in range(len(self._packs))]


def _joined(packs: Sequence[Pack]) -> tuple[list[Item], dict[int, ItemError]]:
    items: list[Item] = []
    faults: dict[int, ItemError] = {}
    for pack in packs:
        assert pack.request is not None
        faults |= {len(items) + position: error for position, error in pack.faults.items()}
        items += pack.request.items
    return items, faults
