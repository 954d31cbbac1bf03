"""Replies: to the queue that the request named, in its language, and sealed as it was."""

from __future__ import annotations

import logging
import time
from typing import Final

import aio_pika
from aio_pika import DeliveryMode

from lmaas.broker_config import tracing
from lmaas.broker_config.codes import Code
from lmaas.broker_config.errors import MessageError, Unroutable
from lmaas.broker_config.headers import CLOCK
from lmaas.broker_config.messages import REPLY, ItemError, Reply, encode
from lmaas.broker_config.sealing import ENCODING, KEY_HEADER
from lmaas.workers.callers import Callers
from lmaas.workers.consumer import Consumer
from lmaas.workers.delivery import Delivery
from lmaas.workers.settling.outgoing import Outgoing

log = logging.getLogger(__name__)

#: Headers of a request that its reply carries too.
ECHOED: Final = ("lmaas-job", "lmaas-chunk", "lmaas-items", "lmaas-replays", "traceparent")


class Replier:
    """Sends those of one worker."""

    def __init__(self, outgoing: Outgoing, consumer: Consumer, callers: Callers) -> None:
        """The `consumer` hears how long confirms take."""
        self._outgoing = outgoing
        self._consumer = consumer
        self._callers = callers

    async def send(self, delivery: Delivery, body: bytes) -> bool:
        """Whether somebody takes the reply, or nobody asked for one; it is confirmed then.

        One that is too large is an error for who asked. Raises BrokerUnavailable or Busy when
        somebody else gets the pack.
        """
        if not delivery.reply_to:
            return True
        try:
            return await self._send(delivery, delivery.reply_to, body)
        except MessageError as error:
            request = delivery.pack.request
            fault = ItemError(code=Code.TOO_LARGE, message=f"the answer cannot be sent: {error}")
            reply = Reply(model=request.model if request else "", results=[], error=fault)
            body = encode(reply, delivery.language)
        try:
            return await self._send(delivery, delivery.reply_to, body)
        except MessageError as error:
            log.warning(
                "the broker takes no answer: %s", error,
                extra={"action": "reply_refused", **tracing.context(delivery.headers)},
            )  # fmt: skip
            return False

    async def _send(self, delivery: Delivery, reply_to: str, body: bytes) -> bool:
        """Whether there is such a queue. Raises MessageError when the body is too large."""
        table = delivery.headers.table()
        sealed = await self._outgoing.sealed(delivery, "reply", body)
        message = aio_pika.Message(
            body if sealed is None else sealed.body,
            content_encoding=None if sealed is None else ENCODING,
            content_type=delivery.language,
            correlation_id=delivery.message.correlation_id,
            delivery_mode=DeliveryMode.PERSISTENT,
            type=REPLY,
            headers={name: table[name] for name in ECHOED if name in table}
            | {CLOCK: int(time.time() * 1000)}
            | ({} if sealed is None else {KEY_HEADER: sealed.key}),
        )
        began = time.monotonic()
        try:
            exchange, key = self._callers.address(reply_to)
            await self._outgoing.publish(delivery, exchange, key, message)
        except Unroutable:
            return False
        self._consumer.confirmed(time.monotonic() - began)
        return True
