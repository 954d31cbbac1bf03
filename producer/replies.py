"""A client's results queue: each reply finds the call that waits for it, once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any, Final

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue

from lmaas.broker_config.connection import Session, harmless_when_gone
from lmaas.broker_config.declaring import declare
from lmaas.broker_config.errors import BrokerUnavailable, MessageError
from lmaas.broker_config.headers import CLOCK
from lmaas.broker_config.messages import Reply
from lmaas.broker_config.replies import decoded_reply
from lmaas.broker_config.sealing import Label
from lmaas.broker_config.seals import Seals
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import client_results
from lmaas.producer.clocks import Clocks

log = logging.getLogger(__name__)

#: Seconds; a quorum queue waits 5 s for a node that is gone before it is deleted without it.
DELETE_TIMEOUT: Final = 10.0


_NOBODY: Final = (None, 0.0, "")


class Replies:
    """Consumes the results queue of one client.

    The queue is durable and not exclusive: replies that come while the connection is lost are
    there when it is back. Replies to nobody (a second answer to the same pack) are dropped.
    """

    def __init__(self, settings: Settings, client: str) -> None:
        self.queue_name = settings.names.client_results(client)
        self._seals = Seals(settings)
        self._topology = client_results(settings.names, client, settings.queue_type)
        #: The call that waits for a reply, when it began, in Unix seconds, and the model.
        self._waiting: dict[str, tuple[asyncio.Future[Reply], float, str]] = {}
        self._queue: AbstractQueue | None = None
        self._tag = ""
        self.clocks = Clocks(settings.clock_skew)
        #: When anything came last, on the event loop's clock.
        self.last_arrival = asyncio.get_running_loop().time()
        self.session = Session(settings, f"client {client} replies", self._prepare)

    async def _prepare(self, channel: AbstractChannel) -> None:
        await declare(channel, self._topology)
        self._queue = await channel.get_queue(self.queue_name, ensure=False)
        self._tag = await self._queue.consume(self._on_message)

    def expect(self, correlation_id: str, model: str) -> asyncio.Future[Reply]:
        """A future of the reply to a pack that is about to be published."""
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[correlation_id] = future, time.time(), model
        return future

    def expects(self, correlation_id: str) -> bool:
        """Whether somebody waits for the reply to this pack."""
        return correlation_id in self._waiting

    def forget(self, correlation_id: str) -> None:
        self._waiting.pop(correlation_id, None)

    async def take(
        self,
        correlation_id: str | None,
        body: bytes,
        content_type: str | None,
        headers: Mapping[str, Any],
        encoding: str | None = None,
    ) -> None:
        """A reply has come. While a large one is decoded, its caller goes on to wait."""
        self.last_arrival, arrived = asyncio.get_running_loop().time(), time.time()
        name = correlation_id or ""
        waiting, sent, model = self._waiting.get(name, _NOBODY)
        if waiting is None:
            return
        seal = self._seals.found(
            encoding,
            headers,
            lambda: Label("reply", model, self.queue_name, name, content_type or ""),
        )
        reply: Reply | MessageError
        try:
            reply = await decoded_reply(body, content_type, self._seals.opening(seal))
        except MessageError as error:
            reply = error
        if self._waiting.get(name, _NOBODY)[0] is waiting:
            self.forget(name)
        if waiting.done():
            return
        if isinstance(reply, MessageError):
            waiting.set_exception(reply)
        else:
            self.clocks.heard(headers.get(CLOCK), sent, arrived, reply.worker)
            waiting.set_result(reply)

    async def _on_message(self, message: AbstractIncomingMessage) -> None:
        await self.take(
            message.correlation_id,
            message.body,
            message.content_type,
            message.headers,
            message.content_encoding,
        )
        with harmless_when_gone("ack"):
            await message.ack()

    async def close(self) -> None:
        """Tell those who wait, and remove the queue; without a connection it expires by itself."""
        for waiting, *_ in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(BrokerUnavailable("the client was closed"))
                waiting.exception()  # it counts as seen: its caller may fail for another reason
        if self._queue is not None and self.session.is_up:
            with harmless_when_gone("delete_results"):
                await self._queue.cancel(self._tag)
                await self._queue.delete(if_unused=False, if_empty=False, timeout=DELETE_TIMEOUT)
