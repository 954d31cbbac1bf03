"""A queue that a worker takes packs of one model from."""

from __future__ import annotations

from dataclasses import dataclass

from aio_pika.abc import AbstractQueue


@dataclass(slots=True, eq=False)
class Lane:
    """A queue of one model that is consumed."""

    model: str
    name: str
    queue: AbstractQueue  # aio-pika holds queues weakly
    prefetch: int
    tag: str = ""
    #: Packs that waited in it when the broker was last asked.
    depth: int = 0
    #: Whether nobody else took from it then.
    was_alone: bool = False
    #: Seconds that the pack that came last had waited.
    waited: float = 0.0
    #: Packs that came.
    taken: int = 0

    @property
    def age(self) -> float:
        """About how long those wait that wait, in seconds."""
        return self.waited if self.depth else 0.0
