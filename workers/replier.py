"""The end of a pack on the worker: reply, the broker's confirm, then the ack; never otherwise."""

from __future__ import annotations

import logging
import time
import uuid
from collections import OrderedDict
from typing import Final

import aio_pika
from aio_pika import DeliveryMode
from aio_pika.abc import AbstractIncomingMessage, HeadersType

from broker_config.connection import Publisher
from broker_config.errors import LmaasError, Unroutable
from broker_config.messages import JSON, MSGPACK, REPLY, ItemError, Reply, encode
from broker_config.topology import Names
from workers.consumer import Consumer, Delivery, published

log = logging.getLogger(__name__)

#: Cancelled jobs that a worker remembers, by their results queues.
REMEMBERED_JOBS: Final = 10_000
LARGEST_FLOAT: Final = 3.4e38
#: Headers of a request that its reply carries too.
ECHOED: Final = ("lmaas-job", "lmaas-chunk", "lmaas-replays", "traceparent")


class Replier:
    """Sends replies and settles deliveries."""

    def __init__(self, name: str, names: Names, publisher: Publisher, consumer: Consumer) -> None:
        """`name` is the worker's."""
        self._name = name
        self._names = names
        self._publisher = publisher
        self._consumer = consumer
        self._cancelled: OrderedDict[str, None] = OrderedDict()

    def is_cancelled(self, delivery: Delivery) -> bool:
        """Whether nobody waits any more for the job that this pack belongs to."""
        return delivery.message.reply_to in self._cancelled

    async def finish(self, delivery: Delivery, body: bytes) -> None:
        """Without a confirmed reply the pack goes back to the broker."""
        try:
            if delivery.pack.error is not None:
                await self._park(delivery, delivery.pack.error)
            if delivery.message.reply_to:
                began = time.monotonic()
                await self._reply(delivery, delivery.message.reply_to, body)
                self._consumer.prefetch.confirmed(time.monotonic() - began)
        except LmaasError as error:
            log.warning("reply not sent: %s", error, extra={"action": "reply_failed"})
            await self._consumer.hand_back(delivery)
        else:
            await self._consumer.ack(delivery)

    async def move(self, delivery: Delivery, key: str) -> None:
        """To the lane where it belongs; if that does not take it, it is run where it is."""
        headers: HeadersType = {
            **delivery.message.headers,
            "lmaas-cost": delivery.seconds,
            "lmaas-published-ms": int(published(delivery.headers) * 1000),
        }
        try:
            await self._publisher.publish(self._names.work, key, _copy(delivery.message, headers))
        except LmaasError as error:
            log.warning("not moved to %s: %s", key, error, extra={"action": "move_failed"})
            delivery.belongs = None
            self._consumer.hold(delivery)
        else:
            await self._consumer.ack(delivery)

    async def skip(self, delivery: Delivery) -> None:
        """Drop a pack of a cancelled job."""
        await self._consumer.ack(delivery)

    async def _reply(self, delivery: Delivery, reply_to: str, body: bytes) -> None:
        table = delivery.headers.table()
        message = aio_pika.Message(
            body,
            content_type=language(delivery),
            correlation_id=delivery.message.correlation_id,
            delivery_mode=DeliveryMode.PERSISTENT,
            type=REPLY,
            headers={name: table[name] for name in ECHOED if name in table},
        )
        try:
            # The default exchange reaches every queue by its name, whoever declared it.
            await self._publisher.publish("", reply_to, message)
        except Unroutable:
            self._nobody_waits(delivery.headers.job, reply_to)

    def _nobody_waits(self, job: str | None, reply_to: str) -> None:
        """The results queue is gone: the caller left, or cancelled the job by deleting it."""
        log.info("nobody waits for a reply", extra={"action": "reply_unclaimed", "job": job})
        if job:  # a client's queue may be made anew when the client is back
            self._cancelled[reply_to] = None
            if len(self._cancelled) > REMEMBERED_JOBS:
                self._cancelled.popitem(last=False)

    async def _park(self, delivery: Delivery, error: ItemError) -> None:
        """Put a copy with the reason into the parking lot, for people to look at."""
        headers: HeadersType = {
            **delivery.headers.table(),
            "lmaas-error": str(error.code),
            "lmaas-reason": error.message,
            "lmaas-worker": self._name,
        }
        message = _copy(delivery.message, headers)
        await self._publisher.publish(self._names.dead, delivery.message.routing_key or "", message)


def _copy(message: AbstractIncomingMessage, headers: HeadersType) -> aio_pika.Message:
    return aio_pika.Message(
        message.body,
        content_type=message.content_type,
        correlation_id=message.correlation_id,
        delivery_mode=DeliveryMode.PERSISTENT,
        headers={name: value for name, value in headers.items() if _fits(value)},
        message_id=uuid.uuid4().hex,
        reply_to=message.reply_to,
        timestamp=message.timestamp,
        type=message.type,
    )


def _fits(value: object) -> bool:
    """Whether aio-pika can send a header: it has 32 bits for a fraction, other libraries 64."""
    return not isinstance(value, float) or abs(value) < LARGEST_FLOAT


def language(delivery: Delivery) -> str:
    """Answered as it was asked; in JSON when nobody could read the question."""
    asked = (delivery.message.content_type or "").partition(";")[0].strip().lower()
    return MSGPACK if asked == MSGPACK else JSON


def encoded(delivery: Delivery, reply: Reply) -> bytes:
    return encode(reply, language(delivery))
