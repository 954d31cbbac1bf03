"""Packs that run together, until they are answered."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from lmaas.workers.answering import Answerer
from lmaas.workers.delivery import Delivery
from lmaas.workers.run import Run
from lmaas.workers.settling.answer import Answer
from lmaas.workers.shares import Order


@dataclass(slots=True, eq=False)
class Begun:
    """What the inference thread has at a time, or has left alone for something shorter."""

    #: Those that are still wanted.
    deliveries: list[Delivery]
    #: Seconds in the inference thread so far.
    spent: float = 0.0
    run: Run | None = None
    #: Of each delivery of the run its place there.
    _places: dict[Delivery, int] = field(default_factory=dict)

    def begin(self, answerer: Answerer) -> Run:
        """The run of those that are wanted now."""
        self._places = {delivery: place for place, delivery in enumerate(self.deliveries)}
        self.run = answerer.begin([delivery.pack for delivery in self.deliveries])
        return self.run

    @property
    def seconds(self) -> float:
        """Estimated for all of it."""
        return sum(delivery.seconds for delivery in self.deliveries)

    @property
    def remaining(self) -> float:
        """Seconds that what is left of it takes."""
        return self.run.remaining(self.seconds) if self.run else self.seconds

    @property
    def tenants(self) -> set[str]:
        return {delivery.tenant for delivery in self.deliveries}

    def place(self, order: Order) -> float:
        """By what is left of it."""
        first = min(order.place(one.tenant, one.place, one.rank) for one in self.deliveries)
        return first - self.seconds + self.remaining

    def drop(self, unwanted: Collection[Delivery]) -> None:
        """These are settled already."""
        self.deliveries = [one for one in self.deliveries if one not in unwanted]
        if self.run is not None:
            for delivery in unwanted:
                self.run.drop(self._places[delivery])

    def answers(self) -> list[Answer]:
        """To those that are wanted, once all has run."""
        assert self.run is not None
        replies = self.run.replies()
        return [Answer.of(one, replies[self._places[one]]) for one in self.deliveries]
