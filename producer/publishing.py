"""Packs to their lanes: the one way in which requests are published."""

from __future__ import annotations

import time
import uuid

import aio_pika
import msgspec
from aio_pika import DeliveryMode
from aio_pika.abc import AbstractChannel

from broker_config.connection import Publisher
from broker_config.errors import MessageError, ModelNotFound, Unroutable
from broker_config.messages import MSGPACK, REQUEST, Headers, Request, encode
from broker_config.scheduling import Cost, place, rank
from broker_config.settings import Settings
from broker_config.topology import declare, is_model_name, routing_key, topology


class PackPublisher(Publisher):
    """A publisher that knows the lanes."""

    def __init__(self, settings: Settings, name: str) -> None:
        super().__init__(settings, name, self._declare)

    async def _declare(self, channel: AbstractChannel) -> None:
        # No lanes: a lane exists when a worker has served its model, and a name that nobody
        # serves is told to the caller instead of waiting in a queue for ever.
        await declare(channel, topology(self.settings.names, self.settings.queue_type))

    async def publish_pack(
        self, request: Request, *, reply_to: str, correlation_id: str, headers: Headers
    ) -> None:
        """Publish a pack to its lane and wait for the broker's confirm.

        `headers.cost` and `headers.published` are filled in here. Raises ModelNotFound when no
        worker has ever served the model on this broker, and what `publish` raises.
        """
        if not is_model_name(request.model):
            raise ModelNotFound(f"no model can have the name {request.model!r}")
        if request.options.top_k < 0:
            raise MessageError(f"top_k is {request.options.top_k}; it must be 0 or more")
        try:
            body = encode(request)
        except UnicodeEncodeError as error:
            raise MessageError(f"the request cannot be sent: {error}") from error
        now = time.time()
        seconds = Cost().estimate(len(body))
        lane, priority = place(
            self.settings.policy,
            self.settings.ageing,
            rank(self.settings.policy, seconds, headers.remaining),
        )
        message = aio_pika.Message(
            body,
            content_type=MSGPACK,
            correlation_id=correlation_id,
            delivery_mode=DeliveryMode.PERSISTENT,
            headers=msgspec.structs.replace(headers, cost=seconds, published=now).table(),
            message_id=uuid.uuid4().hex,
            priority=priority,
            reply_to=reply_to,
            timestamp=int(now),
            type=REQUEST,
        )
        key = routing_key(request.model, lane)
        try:
            await self.publish(self.settings.names.work, key, message)
        except Unroutable as error:
            raise ModelNotFound(
                f"no worker has ever served model {request.model!r} on {self.settings.broker}; "
                f"start one with `lmaas worker --model {request.model}`"
            ) from error
