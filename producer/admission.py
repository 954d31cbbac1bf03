"""Whether a lane has room for another pack: what a publisher knows of its depth.

RabbitMQ could refuse by itself, but a classic lane that does would drop what comes back to it from
a retry queue (see broker_config.topology). The bound is held about, and not to the pack: several
publishers do not see each other's packs until they ask again.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

#: Seconds for which it is believed that a lane has room. That it is full is asked each time.
BELIEVED: Final = 1.0


@dataclass(slots=True)
class _Lane:
    """A queue's depth when we asked, with what was published since; and our packs in all."""

    depth: int = 0
    admitted: int = 0
    on_their_way: int = 0
    asked: float = float("-inf")
    asking: asyncio.Task[None] | None = None


class Admission:
    """Counts packs into lanes that take `limit` each."""

    def __init__(self, limit: int, depth: Callable[[str], Awaitable[int]]) -> None:
        """`depth` asks the broker how many messages are ready in a queue."""
        self._limit = limit
        self._depth = depth
        self._lanes: defaultdict[str, _Lane] = defaultdict(_Lane)

    async def admits(self, queue: str) -> bool:
        """Whether one more may be published, which is counted until `published` is called.

        Waits for the broker only when the lane seems to be full.
        """
        lane = self._lanes[queue]
        full = lane.depth >= self._limit
        idle = lane.asking is None or lane.asking.done()
        if idle and (full or time.monotonic() - lane.asked >= BELIEVED):
            lane.asked = time.monotonic()
            lane.asking = asyncio.create_task(self._ask(queue))
        if full and lane.asking:
            await asyncio.wait([lane.asking])
        if lane.depth >= self._limit:
            return False
        lane.depth += 1
        lane.admitted += 1
        lane.on_their_way += 1
        return True

    async def _ask(self, queue: str) -> None:
        lane = self._lanes[queue]
        before = lane.admitted - lane.on_their_way
        depth = await self._depth(queue)
        # What was on its way may be in the answer or not: rather too many than too few.
        lane.depth = depth + lane.admitted - before

    def published(self, queue: str) -> None:
        """A pack that was admitted is there, or will not come."""
        self._lanes[queue].on_their_way -= 1

    async def close(self) -> None:
        """Give up questions that are under way."""
        asking = [lane.asking for lane in self._lanes.values() if lane.asking]
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
