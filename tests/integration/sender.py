"""Packs one by one, as other programs send them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from lmaas.broker_config.headers import Headers
from lmaas.broker_config.messages import JSON, Item, Reply, Request
from lmaas.broker_config.replies import decoded_reply
from lmaas.broker_config.sealing import ENCODING, KEY_HEADER, OVERHEAD, Label
from lmaas.broker_config.seals import Seals
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import Names, routing_key
from lmaas.producer.publishing import PackPublisher
from tests.integration.lanes import LIMIT, channel_to
from tests.integration.stage import ENVELOPE, PER_BYTE


class Double(float):
    """A number that is sent as 64 bits, as Java and Go do it; aio-pika sends 32."""


class Sender:
    """Publishes packs one after the other, and hears the replies; where there are payload keys, it
    seals and opens them.
    """

    def __init__(self, publisher: PackPublisher, channel: AbstractChannel, reply_to: str) -> None:
        self.publisher = publisher
        self._seals = Seals(publisher.settings)
        self._channel = channel
        self._reply_to = reply_to
        self._replies: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()

    async def send(self, name: str, seconds: float = 0.001, **headers: Any) -> None:
        """A pack that takes so long; 0.0006 s is the least."""
        request = Request(model="sentiment", items=[self._item(name, seconds)])
        await self.publisher.publish_pack(
            request, reply_to=self._reply_to, correlation_id=name, headers=Headers(**headers)
        )

    async def raw(self, name: str, seconds: float, lane: str, **properties: Any) -> None:
        """The same in JSON from a foreign program, which chooses the lane itself."""
        item = self._item(name, seconds)
        content = {"model": "sentiment", "items": [{"id": item.id, "text": item.text}]}
        body = json.dumps(content).encode()
        if self._seals.are_used:
            label = Label("request", "sentiment", self._reply_to, name, JSON)
            body, key = await self._seals.seal(body, label)
            headers = properties.pop("headers", {}) | {KEY_HEADER: key}
            properties |= {"headers": headers, "content_encoding": ENCODING}
        await self.body(name, body, lane, **properties)

    async def body(self, name: str, body: bytes, lane: str, **properties: Any) -> None:
        """These bytes, as they are."""
        exchange = await self._channel.get_exchange(
            self.publisher.settings.names.work, ensure=False
        )
        message = aio_pika.Message(
            body,
            content_type=JSON,
            correlation_id=name,
            reply_to=self._reply_to,
            **properties,
        )
        await exchange.publish(message, routing_key("sentiment", lane))

    def _item(self, name: str, seconds: float) -> Item:
        """That of a pack which takes so long, with its seal."""
        around = ENVELOPE + len(name) + (OVERHEAD if self._seals.are_used else 0)
        return Item(id=name, text="x" * max(1, round(seconds / PER_BYTE) - around))

    async def heard(self, message: AbstractIncomingMessage) -> None:
        await self._replies.put(message)

    async def reply(self) -> tuple[str, Reply]:
        """The next one, with its correlation id."""
        async with asyncio.timeout(LIMIT):
            message = await self._replies.get()
        name, content_type = message.correlation_id or "", message.content_type
        label = Label("reply", "sentiment", self._reply_to, name, content_type or "")
        seal = self._seals.found(message.content_encoding, message.headers, lambda: label)
        return name, await decoded_reply(message.body, content_type, self._seals.opening(seal))

    async def replies(self, count: int) -> dict[str, Reply]:
        """The next ones, no two to the same pack."""
        found = [await self.reply() for _ in range(count)]
        assert len(dict(found)) == count
        assert self._replies.empty()
        return dict(found)


def of_others(names: Names, name: str) -> str:
    """A results queue as other programs have them: no user's, and bound to nothing."""
    return f"{names.results}.client.{name}"


@contextlib.asynccontextmanager
async def sending(settings: Settings) -> AsyncIterator[Sender]:
    async with PackPublisher(settings, "sender") as publisher, channel_to(settings) as channel:
        name = of_others(settings.names, uuid.uuid4().hex)
        queue = await channel.declare_queue(name, exclusive=True)
        sender = Sender(publisher, channel, queue.name)
        await queue.consume(sender.heard, no_ack=True)
        yield sender
