"""Who still waits for an answer, as far as a worker knows: what nobody takes is run in vain."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Final

from aiormq.exceptions import AMQPChannelError

from lmaas.broker_config.errors import BrokerRefused, BrokerUnavailable
from lmaas.broker_config.publisher import Publisher
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import delay_ms
from lmaas.workers.cancelled import Cancelled
from lmaas.workers.delivery import Delivery

#: Results queues that a worker remembers: so many that are away, and so many that were found.
REMEMBERED: Final = 10_000
#: Seconds at most for which a results queue that was not there is taken to be away, and the share
#: of the shortest retry delay: what is retried comes back later than that, and is tried.
AWAY: Final = 0.9
AWAY_SHARE: Final = 0.9


class Claims:
    """By the results queues that answers go to. `cancelled` has what callers have given up."""

    def __init__(self, settings: Settings, publisher: Publisher, cancelled: Cancelled) -> None:
        self._publisher = publisher
        self._cancelled = cancelled
        shortest = min(map(delay_ms, settings.retry_delays)) / 1000
        self._away_for = min(AWAY, AWAY_SHARE * shortest)
        #: Results queues of clients that are away, each with the moment at which that was seen, on
        #: the clock of time.monotonic().
        self._away: OrderedDict[str, float] = OrderedDict()
        #: The same of queues that were found.
        self._there: OrderedDict[str, float] = OrderedDict()

    def is_cancelled(self, delivery: Delivery) -> bool:
        """Whether nobody waits any more for this pack, or for the job that it belongs to."""
        return delivery in self._cancelled

    def is_away(self, delivery: Delivery) -> bool:
        """Whether there was no queue for its answer a moment ago, so that to run it is in vain."""
        return self._is_recent(self._away, delivery.reply_to)

    async def look(self, delivery: Delivery) -> None:
        """Ask the broker whether somebody takes its answer, unless that was known a moment ago.

        For a pack that costs more than the question. `is_cancelled` or `is_away` say what came of
        it.
        """
        queue = delivery.reply_to
        if not queue or self._is_recent(self._there, queue):
            return
        try:
            there = await self._publisher.counts(queue) is not None
        except BrokerUnavailable:  # then the pack is not ours any more, too
            return
        except (AMQPChannelError, BrokerRefused):  # one that only its owner may ask for
            there = True
        if there:
            _note(self._there, queue)
        else:
            self.miss(delivery)

    def miss(self, delivery: Delivery) -> None:
        """There is no queue for its answer: that of a job, which does not come back, or another."""
        queue = delivery.reply_to or ""
        if delivery.headers.job is not None:
            self._cancelled.close(queue)
        else:
            _note(self._away, queue)

    def _is_recent(self, queues: OrderedDict[str, float], queue: str | None) -> bool:
        seen = queues.get(queue or "")
        return seen is not None and time.monotonic() - seen < self._away_for


def _note(queues: OrderedDict[str, float], queue: str) -> None:
    """That it was seen now."""
    queues[queue] = time.monotonic()
    queues.move_to_end(queue)
    if len(queues) > REMEMBERED:
        queues.popitem(last=False)
