"""The two ends of a queue that is none: where packs go in, and where their replies come out."""

from __future__ import annotations

import asyncio

import aio_pika
import msgspec

from lmaas.broker_config.connection import Session
from lmaas.broker_config.messages import CANCEL, MSGPACK, ModelCard, encode
from lmaas.broker_config.seals import Seals
from lmaas.broker_config.server import LARGEST_MESSAGE
from lmaas.broker_config.settings import Settings
from lmaas.producer.publishing import PackPublisher
from lmaas.producer.replies import Replies
from lmaas.testing.service import Service


def ends(service: Service, settings: Settings, client: str) -> tuple[PackPublisher, Replies]:
    """For a client of the service, by its id."""
    replies = _Replies(settings, client)
    return _Publisher(service, settings, replies), replies


class _Unconnected(Session):
    """A session that is up while it is open, and has no connection."""

    async def _open(self) -> None:
        self._up.set()

    async def _close(self) -> None:
        self._up.clear()


class _Replies(Replies):
    """Gets its replies from `_Publisher`."""

    def __init__(self, settings: Settings, client: str) -> None:
        super().__init__(settings, client)
        self._seals = Seals.none()
        self.session = _Unconnected(settings, f"client {client} replies")

    def fail(self, correlation_id: str | None, error: Exception) -> None:
        """The call that waits raises it."""
        waiting, *_ = self._waiting.pop(correlation_id or "", (None, 0.0, ""))
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)


class _Publisher(_Unconnected, PackPublisher):
    """Hands what a broker would get to the service."""

    def __init__(self, service: Service, settings: Settings, replies: _Replies) -> None:
        super().__init__(settings, "testing")
        self._seals = Seals.none()
        self._service = service
        self._answers_to = replies
        self._under_way: set[asyncio.Task[None]] = set()

    async def publish(
        self, exchange: str, key: str, message: aio_pika.Message, *, timeout: float | None = None
    ) -> None:
        if not self.is_up:
            raise self._failure()
        if message.type == CANCEL:
            return
        model = msgspec.msgpack.decode(message.body, type=_Named).model
        self._service.check_served(model, self.settings)
        self._check_size(message)
        answering = asyncio.create_task(self._answer(message))
        self._under_way.add(answering)
        answering.add_done_callback(self._under_way.discard)

    def _largest(self) -> int:
        return LARGEST_MESSAGE[4]

    async def _answer(self, message: aio_pika.Message) -> None:
        try:
            reply = await self._service.reply(message.body, self.settings)
            await self._answers_to.take(message.correlation_id, encode(reply), MSGPACK, {})
        except Exception as error:
            self._answers_to.fail(message.correlation_id, error)

    async def _close(self) -> None:
        await super()._close()
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def cards(self, model: str | None = None, *, first: bool = False) -> list[ModelCard]:
        if not self.is_up:
            raise self._failure()
        return await self._service.cards(self.settings, model)

    async def _counts(self, queue: str) -> tuple[int, int]:
        return 0, 1


class _Named(msgspec.Struct):
    model: str
