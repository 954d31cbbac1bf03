"""What a worker publishes about a pack: sealed as that came, and as often as it takes."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import aio_pika

from lmaas.broker_config import tracing
from lmaas.broker_config.errors import BrokerUnavailable, Busy
from lmaas.broker_config.publisher import Publisher
from lmaas.broker_config.sealing import Direction, Sealed
from lmaas.broker_config.seals import Seals
from lmaas.workers.delivery import Delivery

log = logging.getLogger(__name__)

#: Seconds before a broker that did not take a message is asked again.
PAUSE: Final = 1.0


class Outgoing:
    """The way out of one worker."""

    def __init__(self, publisher: Publisher, seals: Seals) -> None:
        self._publisher = publisher
        self._seals = seals

    async def sealed(self, delivery: Delivery, direction: Direction, body: bytes) -> Sealed | None:
        """A body that belongs to what was sealed, by the same key; None when it is sent as it is.

        That is so without a seal, and of a refusal of what could not be opened: it says nothing of
        what is in there, and who asked may have no key that we have.
        """
        seal = delivery.seal
        if seal is None or not seal.there or not self._seals.are_used or delivery.is_unopened:
            return None
        asked, answered = seal.label.content_type, delivery.language
        content_type = asked if direction == "request" else answered
        label = seal.label._replace(direction=direction, content_type=content_type)
        return await self._seals.seal(body, label, seal.key)

    async def publish(
        self, delivery: Delivery, exchange: str, key: str, message: aio_pika.Message
    ) -> None:
        """Again and again, while the pack is ours: the broker may be full, or in alarm for hours.

        Raises Unroutable, and BrokerUnavailable or Busy when somebody else gets the pack.
        """
        while True:
            try:
                return await self._publisher.publish(exchange, key, message)
            except (BrokerUnavailable, Busy) as error:
                if not delivery.is_ours:
                    raise
                log.warning(
                    "not published yet: %s", error,
                    extra={"action": "publish_again", **tracing.context(delivery.headers)},
                )  # fmt: skip
                await asyncio.sleep(PAUSE)
