"""A batch job while it is submitted: what its packs have in common, and what was sent. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from lmaas.broker_config.errors import MessageError, ModelNotFound
from lmaas.broker_config.messages import Options


@dataclass(slots=True)
class Sent:
    """What a submission has sent."""

    #: Chunks that may be on the broker.
    begun: int = 0
    #: Items of each chunk that the broker has.
    items: list[int] = field(default_factory=list)

    def is_refused(self, error: BaseException) -> bool:
        """Whether a submission that ends with the error has left nothing in the lanes."""
        return not self.begun or (
            not self.items and isinstance(error, (ModelNotFound, MessageError))
        )


@dataclass(frozen=True, slots=True)
class Terms:
    """What all packs of a job have in common, besides what its entry says."""

    options: Options
    weight: float
    deadline_ms: int | None
    #: Seconds that each waits for room in a full lane.
    patience: float
    #: For whom a gateway asks.
    tenant: str | None = None
    #: How many items of other jobs count for one of so many, too.
    ahead: Callable[[int], int] | None = None
