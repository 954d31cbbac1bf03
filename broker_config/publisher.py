"""Publishing that is confirmed, or says why not, whatever becomes of the connection meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import aio_pika
from aio_pika.abc import AbstractChannel
from aiormq.exceptions import (
    AMQPChannelError,
    ChannelAccessRefused,
    ConnectionClosed,
    ConnectionInternalError,
    DeliveryError,
    PublishError,
)

from lmaas.broker_config import metrics, server
from lmaas.broker_config.connection import Session, forbidden, harmless_when_gone
from lmaas.broker_config.errors import BrokerUnavailable, Busy, MessageError, Unroutable
from lmaas.broker_config.hosts import NOT_NOW, Pauses, is_gone, words
from lmaas.broker_config.settings import Settings

#: Seconds for which a refusal may come from a quorum queue that elects another leader; it takes 1.
ELECTION: Final = 5.0
#: So often the broker may hang up over a message before that counts as its answer.
CLOSED_OVER: Final = 3


@dataclass(slots=True, eq=False)
class _Publication:
    """A message on its way to the broker's confirm."""

    exchange: str
    key: str
    message: aio_pika.Message
    #: Under way; its value is what went wrong.
    sending: asyncio.Task[BaseException | None] | None = None
    #: Why it was not confirmed the last time.
    trouble: BaseException | None = None
    #: Since when the broker refuses it, on the event loop's clock.
    refused: float | None = None
    pauses: Pauses = field(default_factory=Pauses)
    #: Times that the broker hung up while this was under way, and gave a reason.
    closed_over: int = 0


class Publisher(Session):
    """A session to publish with: confirmed, mandatory, and published again after a loss."""

    def __init__(
        self,
        settings: Settings,
        name: str,
        prepare: Callable[[AbstractChannel], Awaitable[None]] | None = None,
        *,
        outlasts_alarms: bool = False,
    ) -> None:
        """With `outlasts_alarms` no time counts in which the broker blocks publishers."""
        super().__init__(settings, name, prepare)
        self._outlasts_alarms = outlasts_alarms
        self._one_by_one = asyncio.Lock()
        self._renewing = asyncio.Lock()
        #: Everything that is under way.
        self._sending: set[asyncio.Task[Any]] = set()
        self._retiring: set[asyncio.Task[None]] = set()

    async def publish(
        self, exchange: str, key: str, message: aio_pika.Message, *, timeout: float | None = None
    ) -> None:
        """Returns when the broker has confirmed; `timeout` seconds bound all of it.

        A message whose confirm was lost with the connection is published again, so the
        receiver may see it twice. Raises MessageError when it is too large for the broker, or the
        broker closes the channel or the connection over it, Unroutable when no queue takes it,
        Busy when the broker refuses it (a queue is full), BrokerRefused when its user may not
        publish there, BrokerUnavailable when the time is up.
        """
        limit = timeout or self.settings.publish_timeout
        publication = _Publication(exchange, key, message)
        began = time.monotonic()
        while True:
            try:
                async with asyncio.timeout(limit):
                    while not await self._try(publication):
                        pass
                metrics.confirmed(time.monotonic() - began)
                return
            except TimeoutError as error:
                if not (self._outlasts_alarms and self._is_blocked()):
                    told = await self._told("confirm", limit, publication.trouble)
                    raise BrokerUnavailable(told) from error

    def _is_blocked(self) -> bool:
        transport = self._connection.transport if self._connection else None
        return transport is not None and server.is_blocked(transport.connection)

    async def _try(self, publication: _Publication) -> bool:
        """Whether the broker has confirmed; if not, it is to be tried again."""
        if not publication.closed_over:
            return await self._send(publication)
        # One at a time, so that only the guilty one fails again.
        async with self._one_by_one:
            return await self._send(publication)

    async def _send(self, publication: _Publication) -> bool:
        key = publication.key
        channel = await self.channel()
        if publication.sending is None:
            if self._is_blocked():
                return await self._unblocked()
            self._check_size(publication.message)
            target = await channel.get_exchange(publication.exchange, ensure=False)
            publication.sending = asyncio.create_task(_sent(target, key, publication.message))
            self._sending.add(publication.sending)
            publication.sending.add_done_callback(self._sending.discard)
        # A task that `wait` does not cancel: aiormq's channel breaks when a publish is given up
        # and its message comes back afterwards.
        await asyncio.wait([publication.sending])
        outcome, publication.sending = publication.sending.result(), None
        match outcome:
            case None:
                return True
            case PublishError() as error:
                exchange = publication.exchange
                raise Unroutable(f"no queue takes {key!r} from {exchange!r}") from error
            case DeliveryError() as error:
                await self._refused(publication, channel, error)
                return False
        publication.trouble = outcome
        if _hung_up_over(outcome):
            publication.closed_over += 1
            if publication.closed_over >= CLOSED_OVER:
                if isinstance(outcome, ChannelAccessRefused):
                    raise forbidden(self.settings, outcome) from outcome
                what = "channel" if isinstance(outcome, AMQPChannelError) else "connection"
                raise MessageError(
                    f"{self.settings.broker} closed the {what} {CLOSED_OVER} times over a "
                    f"message for {key!r}: {words(outcome)}"
                ) from outcome
        await self._left(channel)
        return False

    async def _refused(
        self, publication: _Publication, channel: AbstractChannel, error: DeliveryError
    ) -> None:
        """Waits a little and takes another channel. Raises Busy when that did not help for long.

        A quorum queue without a leader refuses, and RabbitMQ 3.10 goes on to refuse what comes
        over a channel that first used the queue at that time.
        """
        now = asyncio.get_running_loop().time()
        publication.refused = publication.refused or now
        refusal = Busy(
            f"the broker refuses messages for {publication.key!r}: its queue is full, or has "
            "no leader because too many nodes are down"
        )
        if now - publication.refused >= ELECTION:
            raise refusal from error
        publication.trouble = refusal
        await asyncio.sleep(publication.pauses.next())
        async with self._renewing:
            if self._channel is channel and self._connection is not None:
                with harmless_when_gone("renew"):
                    self._channel = await self._watched_channel(self._connection)
                    retiring = asyncio.create_task(_retire(channel, set(self._sending)))
                    self._retiring.add(retiring)
                    retiring.add_done_callback(self._retiring.discard)

    async def _unblocked(self) -> bool:
        """False, when the broker takes messages again or the connection is lost.

        What is written meanwhile would only fill the line, and be published twice after a loss.
        """
        assert self._connection is not None
        assert self._connection.transport is not None
        waits = [
            asyncio.ensure_future(self._connection.transport.connection.ready()),
            asyncio.ensure_future(self._lost.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return False

    def _check_size(self, message: aio_pika.Message) -> None:
        limit = self.settings.max_message_bytes or self._largest()
        if len(message.body) > limit:
            raise MessageError(
                f"the message has {len(message.body):,} bytes, and the broker takes {limit:,}: "
                "make smaller packs (settings pack_items, pack_bytes), or raise max_message_size "
                "on the broker and LMAAS_MAX_MESSAGE_BYTES here"
            )

    def _largest(self) -> int:
        """Bytes of a message that the broker takes, if nobody has set it otherwise there."""
        assert self._connection is not None
        assert self._connection.transport is not None
        return server.largest_message(self._connection.transport.connection.server_properties)


def _hung_up_over(outcome: BaseException) -> bool:
    """Whether the broker closed the channel, or the connection, over what it was sent.

    It does the latter when a frame is too large. A connection that is lost without a word, or
    because the broker goes down, is nobody's fault.
    """
    if isinstance(outcome, ConnectionClosed):
        forced = isinstance(outcome, ConnectionInternalError) or outcome.args[:1] in _FORCED
        return not forced
    return isinstance(outcome, AMQPChannelError)


_FORCED: Final = tuple((code,) for code in NOT_NOW)


async def _retire(channel: AbstractChannel, sending: set[asyncio.Task[Any]]) -> None:
    """Closes a channel when what is under way on it is confirmed."""
    if sending:
        await asyncio.wait(sending)
    with harmless_when_gone("retire"):
        await channel.close()


async def _sent(
    exchange: aio_pika.abc.AbstractExchange, key: str, message: aio_pika.Message
) -> BaseException | None:
    """None when confirmed, else what went wrong, as a value: nobody may be waiting any more."""
    try:
        await exchange.publish(message, key, mandatory=True)
    except BaseException as error:
        if not is_gone(error):
            raise
        return error
    return None
