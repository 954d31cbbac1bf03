"""The dead letter queue, read page by page, with everything left that nobody acknowledges.

So can another queue be read that nobody consumes.

A page is a consumer with a prefetch, all of which is taken and not acknowledged, then the next
consumer. So memory holds one page however many there are, and closing the channel puts back what
was not acknowledged: on a classic queue in its order, on a quorum queue with pages exchanged. A
queue that is exclusive to the connection says that somebody reads, because two readers would see
half of the packs each.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from aio_pika.abc import (
    AbstractChannel,
    AbstractConnection,
    AbstractIncomingMessage,
    AbstractQueue,
)
from aiormq.exceptions import ChannelAccessRefused, ChannelLockedResource, ChannelNotFoundEntity

from lmaas.broker_config.connection import Session, harmless_when_gone
from lmaas.broker_config.errors import BrokerError, BrokerRefused, BrokerUnavailable
from lmaas.broker_config.hosts import Pauses, is_gone
from lmaas.broker_config.settings import Settings

T = TypeVar("T")

#: Messages of the first page, and of the largest; bodies of a page, in bytes and about.
FIRST_PAGE: Final = 100
LARGEST_PAGE: Final = 500
PAGE_BYTES: Final = 16 * 1024 * 1024
#: Unacknowledged messages of a channel, about: at each ack the broker walks over those before it.
CHANNEL_HOLDS: Final = 2_000
#: Seconds without a delivery after which the broker is asked whether anything is left: somebody
#: else may have emptied the queue meanwhile.
SILENCE: Final = 2.0
#: Seconds to wait until the broker has everything back, and between two looks.
HAND_BACK_TIMEOUT: Final = 30.0
HAND_BACK_PAUSE: Final = 0.02
#: Seconds for which the sign that somebody reads is not believed yet: on RabbitMQ 4.3 it outlives
#: the connection of who has read by a moment.
TAKEN_PATIENCE: Final = 3.0


class TakenError(BrokerUnavailable):
    """Somebody else reads."""


class MissingError(BrokerError):
    """There is no such queue."""


class LostError(Exception):
    """The connection went away under a reader."""


async def _channel_of(connection: AbstractConnection) -> AbstractChannel:
    return await connection.channel()


def next_size(page: list[AbstractIncomingMessage]) -> int:
    """Messages of the page after this one: many small ones, or a few large ones."""
    mean = sum(len(message.body) for message in page) / len(page)
    return max(1, min(LARGEST_PAGE, int(PAGE_BYTES / max(mean, 1))))


class DeadLetterQueue:
    """The dead letter queue while this process reads it, or another one that nobody consumes."""

    def __init__(self, settings: Settings, name: str | None = None) -> None:
        self._settings = settings
        self._name = name or settings.names.dead
        link = "dead letters" if name is None else "purge"
        self._session = Session(settings, link, self._prepare)
        self._arrivals: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        self._lost = asyncio.Event()
        self._channels: list[AbstractChannel] = []
        self._held = 0
        self._began = False
        #: Messages that there were when `pages` began.
        self.total = 0

    async def __aenter__(self) -> Self:
        """Raises BrokerUnavailable while somebody else reads, BrokerRefused for who may not."""
        pauses = Pauses()
        patience = asyncio.get_running_loop().time() + TAKEN_PATIENCE
        while True:
            try:
                await self._session.__aenter__()
                return self
            except TakenError:
                if asyncio.get_running_loop().time() >= patience:
                    raise
            await asyncio.sleep(pauses.next())

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self._hand_back()
        finally:
            await self._session.__aexit__(kind, error, traceback)

    async def _prepare(self, channel: AbstractChannel) -> None:
        try:
            await channel.declare_queue(f"{self._name}.reader", exclusive=True)
            await channel.get_queue(self._name)
        except ChannelLockedResource as error:
            raise self._is_read_by_others() from error
        except ChannelAccessRefused as error:
            raise BrokerRefused(
                f"user {self._settings.user!r} of {self._settings.broker} may not read "
                f"{self._name}; {self._who_may()}"
            ) from error
        except ChannelNotFoundEntity as error:
            raise MissingError(
                f"{self._settings.broker} has no dead letter queue {self._name}: no worker was "
                "there yet, or LMAAS_PREFIX is another one (`lmaas broker declare` makes it)"
            ) from error

    def _who_may(self) -> str:
        if self._name != self._settings.names.dead:
            return "its own user may"
        return (
            "who has the role `operator` may: log in as that user (`lmaas broker users` makes it), "
            "with `lmaas dead` for one"
        )

    def _is_read_by_others(self) -> TakenError:
        return TakenError(
            f"{self._name} is being read by somebody else at this moment; try again when they are "
            "done"
        )

    async def pages(self) -> AsyncGenerator[list[AbstractIncomingMessage], None]:
        """What is there now, each message once; after a loss it may be called again.

        When a page comes, the acks of the page before it have reached the broker. Raises
        LostError; BrokerUnavailable when the connection does not come back.
        """
        self._arrivals, self._lost = asyncio.Queue(), asyncio.Event()
        self._channels.clear()
        self._held = 0
        queue = await self._opened()
        left = self.total = queue.declaration_result.message_count or 0
        size, full = FIRST_PAGE, CHANNEL_HOLDS
        while left:
            if self._held >= full:
                queue = await self._opened()
                full = self._held + CHANNEL_HOLDS
            page = await self._unless_lost(self._page(queue, min(left, size)))
            if not page:
                break
            self._held += len(page)
            left -= len(page)
            size = next_size(page)
            yield page
        await self._unless_lost(self._ready(queue.channel))

    async def _opened(self) -> AbstractQueue:
        """The queue on one more channel."""
        channel = await self._session.ask(_channel_of)
        self._channels.append(channel)
        gone = self._lost

        def lost(*_: object) -> None:
            gone.set()

        channel.close_callbacks.add(lost)
        (await channel.get_underlay_channel()).on_consumer_cancel_callbacks.add(lost)
        return await self._unless_lost(channel.get_queue(self._name))

    async def _unless_lost(self, operation: Coroutine[Any, Any, T]) -> T:
        """Raises LostError when the connection goes away before the end of it.

        aiormq may wait for ever for a connection that was lost an instant before.
        """
        running = asyncio.ensure_future(operation)
        lost = asyncio.ensure_future(self._lost.wait())
        try:
            await asyncio.wait([running, lost], return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                raise LostError
            return running.result()
        except BaseException as error:
            if not is_gone(error):
                raise
            raise LostError from error
        finally:
            running.cancel()
            lost.cancel()

    async def _page(self, queue: AbstractQueue, size: int) -> list[AbstractIncomingMessage]:
        """The next so many messages; fewer when somebody else has emptied the queue."""
        await queue.channel.set_qos(size)
        try:
            consumer = await queue.consume(self._arrivals.put, exclusive=True)
        except ChannelAccessRefused as error:
            if self._began:  # the broker has not noticed yet that our last connection is gone
                raise LostError from error
            raise self._is_read_by_others() from error
        self._began = True
        page: list[AbstractIncomingMessage] = []
        while len(page) < size and (message := await self._next(queue)) is not None:
            page.append(message)
        # A full page is the whole prefetch: nothing can be on its way to this consumer any more.
        await queue.cancel(consumer)
        return page

    async def _next(self, queue: AbstractQueue) -> AbstractIncomingMessage | None:
        """None when nothing is left."""
        while self._arrivals.empty():
            try:
                async with asyncio.timeout(SILENCE):
                    return await self._arrivals.get()
            except TimeoutError:
                if not await self._ready(queue.channel) and self._arrivals.empty():
                    return None
        return self._arrivals.get_nowait()

    async def ack(self, messages: list[AbstractIncomingMessage]) -> None:
        """Raises LostError: which of them the broker has is not known then."""

        async def send() -> None:
            for message in messages:
                await message.channel.basic_ack(message.delivery_tag or 0, wait=False)

        await self._unless_lost(send())
        self._held -= len(messages)

    async def _hand_back(self) -> None:
        """Return what is held, and wait until it is there: the next reader counts on it."""
        if not (self._channels and self._session.is_up):
            return
        with harmless_when_gone("hand_back"):
            # Not by a nack: the broker works it off page by page, ten times as long.
            await asyncio.gather(*(channel.close() for channel in self._channels))
            channel = await self._session.channel()
            async with asyncio.timeout(HAND_BACK_TIMEOUT):
                while await self._ready(channel) < self._held:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(HAND_BACK_PAUSE)

    async def _ready(self, channel: AbstractChannel) -> int:
        return (await channel.get_queue(self._name)).declaration_result.message_count or 0
