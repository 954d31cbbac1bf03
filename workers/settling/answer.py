"""A reply that is ready to go, and what of its pack has failed. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from lmaas.broker_config.codes import meaning
from lmaas.broker_config.messages import ItemError, Reply, encode
from lmaas.broker_config.metrics import outcomes
from lmaas.workers.delivery import Delivery


@dataclass(slots=True)
class Answer:
    """The body of a reply, and the failures that are not its sender's own."""

    body: bytes
    #: By the item's position in its pack.
    failures: dict[int, ItemError] = field(default_factory=dict)
    #: Why the pack was refused as a whole.
    refusal: ItemError | None = None

    @classmethod
    def of(cls, delivery: Delivery, reply: Reply) -> Answer:
        failures = {
            place: result.error
            for place, result in enumerate(reply.results)
            if result.error is not None and meaning(result.error.code).dead_lettered
        }
        delivery.outcomes = outcomes(reply)
        for place in failures.keys() & delivery.pack.faults.keys():  # the sender's own words
            del failures[place]
        return cls(encode(reply, delivery.language), failures, reply.error)

    @property
    def error(self) -> ItemError | None:
        """The first one; None when there is nothing to retry or to dead-letter."""
        return self.refusal or next(iter(self.failures.values()), None)

    @property
    def reasons(self) -> dict[ItemError, list[int]]:
        """Each error with the places of the items that have it; no places: all of the pack."""
        if self.refusal is not None:
            return {self.refusal: []}
        reasons: dict[ItemError, list[int]] = {}
        for place, error in sorted(self.failures.items()):
            reasons.setdefault(error, []).append(place)
        return reasons

    @property
    def transient(self) -> ItemError | None:
        """One that may be gone at the next try."""
        errors = [*self.failures.values(), *([self.refusal] if self.refusal else [])]
        return next((error for error in errors if meaning(error.code).transient), None)
