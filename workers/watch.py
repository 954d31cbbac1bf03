"""Whether the worker consumes: what readiness means, and what is done when it does not.

A consumer can be gone without a word: after a node moved, a failover, a mistake of ours. So the
broker is asked every few seconds, and when it knows of no consumer the connection is made anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from lmaas.broker_config.connection import harmless_when_gone
from lmaas.broker_config.errors import BrokerUnavailable
from lmaas.broker_config.publisher import Publisher
from lmaas.workers.consumer import Consumer
from lmaas.workers.lane import Lane

log = logging.getLogger(__name__)

#: Seconds between two looks.
INTERVAL: Final = 5.0
#: So many looks in a row without a consumer are believed.
LOOKS: Final = 2


class Watch:
    """Looks after the lanes of one worker."""

    def __init__(self, publisher: Publisher, consumer: Consumer) -> None:
        self._publisher = publisher
        self._consumer = consumer
        self._found: str | None = None

    @property
    def lanes(self) -> Sequence[Lane]:
        return self._consumer.lanes

    @property
    def problem(self) -> str | None:
        """Why the worker does not work, as far as is known; None when it does."""
        for session, purpose in ((self._consumer.session, "consume"), (self._publisher, "publish")):
            if not session.is_up:
                why = f": {session.trouble}" if session.trouble else ""
                return f"no connection to {purpose} with{why}"
        return self._found

    async def run(self) -> None:
        """Looks for ever. Raises BrokerUnavailable when consuming anew does not help either.

        A connection that is lost is the session's affair; what ends that, is raised here too.
        """
        loop = asyncio.get_running_loop()
        looks, since = 0, loop.time()
        while True:
            await asyncio.sleep(INTERVAL)
            self._found = await self._look()
            if self._found is None:
                looks, since = 0, loop.time()
                continue
            looks += 1
            if looks < LOOKS:
                continue
            seconds = loop.time() - since
            if seconds > self._consumer.session.settings.connect_timeout:
                raise BrokerUnavailable(
                    f"{self._found} for {seconds:.0f} s, and consuming anew does not help"
                )
            log.warning("%s: consuming anew", self._found, extra={"action": "consumer_lost"})
            self._consumer.session.reset()
            # Until then looks would find nothing wrong, as if that had helped.
            await self._consumer.session.channel()
            looks, self._found = 0, None

    async def _look(self) -> str | None:
        """What is wrong."""
        session = self._consumer.session
        if session.is_up:
            # A lane that does not answer ends the session, which says so.
            with harmless_when_gone("watch"):
                queue = await self._consumer.unconsumed()
                if queue is not None:
                    return f"nobody consumes {queue}"
        return None
