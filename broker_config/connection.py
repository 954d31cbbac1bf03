"""Connections to RabbitMQ that wait for it, come back, and say what is wrong.

aio-pika's plain connections are used, and the coming back is done here: a robust connection
replays no failed publish, forgets its return callbacks and can wait for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import AMQPChannelError, AMQPError, DeliveryError, PublishError

from broker_config import metrics, server
from broker_config.errors import (
    BrokerRefused,
    BrokerUnavailable,
    Busy,
    MessageError,
    Unroutable,
)
from broker_config.hosts import HANDSHAKE_TIMEOUT, Pauses, connect, is_gone, words
from broker_config.settings import Settings
from broker_config.unreadable import tolerate

T = TypeVar("T")

tolerate()

log = logging.getLogger(__name__)

#: Seconds for which a refusal may come from a quorum queue that elects another leader; it takes 1.
ELECTION: Final = 5.0
#: So often the broker may close the channel over a message before that counts as its answer.
CLOSED_OVER: Final = 3


@contextlib.contextmanager
def harmless_when_gone(action: str) -> Iterator[None]:
    """For calls that the loss of their connection makes needless."""
    try:
        yield
    except BaseException as error:
        if not is_gone(error):
            raise
        log.info("%s: connection lost: %s", action, error, extra={"action": action})


class Session:
    """One connection with one channel, which come back after a loss.

    `prepare` makes a new channel ready: it declares, sets the prefetch, consumes. It is run at
    every start and return, before anybody gets the channel.
    """

    def __init__(
        self,
        settings: Settings,
        name: str,
        prepare: Callable[[AbstractChannel], Awaitable[None]] | None = None,
    ) -> None:
        self.settings = settings
        self.name = name
        self._prepare = prepare
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._up = asyncio.Event()
        self._lost = asyncio.Event()
        #: Why the connection was lost, or has not come back.
        self._trouble: BaseException | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException as error:
            if not is_gone(error):
                raise
            raise BrokerUnavailable(f"{self.settings.broker} went away: {words(error)}") from error
        self._keeper = asyncio.create_task(self._keep(), name=f"{self.name} keeper")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._keeper:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        await self._close()

    @property
    def is_up(self) -> bool:
        return self._up.is_set()

    async def channel(self) -> AbstractChannel:
        """The channel; waits while it is away. Raises what keeps it from coming back."""
        while self._channel is None:
            if self._keeper is None or self._keeper.done():
                raise self._failure()
            waiting = asyncio.create_task(self._up.wait())
            try:
                await asyncio.wait([waiting, self._keeper], return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()
        return self._channel

    async def ask(self, question: Callable[[AbstractConnection], Coroutine[Any, Any, T]]) -> T:
        """The answer to a question, which is put again when the connection is lost under it.

        It gets the connection, to open a channel of its own on. Raises BrokerUnavailable when
        there is no answer within `connect_timeout`.
        """
        limit = self.settings.connect_timeout
        try:
            async with asyncio.timeout(limit):
                while True:
                    channel = await self.channel()
                    assert self._connection is not None
                    try:
                        return await question(self._connection)
                    except BaseException as error:
                        if isinstance(error, AMQPChannelError) or not is_gone(error):
                            raise
                    await self._left(channel)
        except TimeoutError as error:
            raise BrokerUnavailable(await self._told("answer", limit)) from error

    async def _told(self, what: str, limit: float, reason: BaseException | None = None) -> str:
        """That the broker did not do it in time, and why, as far as we know."""
        broker = self.settings.broker
        transport = self._connection.transport if self._connection else None
        if transport and server.is_blocked(transport.connection):
            return (
                f"{broker} blocks publishers ({server.alarm(transport.connection)}) and did not "
                f"{what} within {limit:g} s; free memory or disk space there"
            )
        reason = reason or (None if self.is_up else self._trouble)
        why = f": {words(reason)}" if reason else ""
        return f"{broker} did not {what} within {limit:g} s{why}"

    def reset(self) -> None:
        """Give up a connection that is of no use, as if it had been lost; it comes back."""
        self._channel = None
        self._up.clear()
        self._lost.set()

    async def _left(self, channel: AbstractChannel) -> None:
        """Waits for the close callback, which may come a little after a call has failed."""
        if self._channel is channel:
            await self._lost.wait()

    async def failed(self) -> None:
        """Waits until the session gave up, and raises why."""
        assert self._keeper is not None
        await asyncio.wait([self._keeper])
        raise self._failure()

    def _failure(self) -> BaseException:
        if self._keeper and self._keeper.done() and not self._keeper.cancelled():
            return self._keeper.exception() or BrokerUnavailable(f"{self.name} is closed")
        return BrokerUnavailable(f"{self.name} is closed")

    async def _open(self) -> None:
        connection = self._connection = await connect(self.settings, name=self.name)
        self._lost.clear()

        connection.close_callbacks.add(functools.partial(self._on_close, connection, None))
        try:
            channel = await self._watched_channel(connection)
            if self._prepare:
                await self._prepare(channel)
        except BaseException:
            await self._close()
            raise
        if not (channel.is_closed or self._lost.is_set()):
            self._trouble = None
            self._channel = channel
            self._up.set()

    async def _watched_channel(self, connection: AbstractConnection) -> AbstractChannel:
        """A new channel, whose end is the loss of this session."""
        channel = await connection.channel(on_return_raises=True)
        on_close = functools.partial(self._on_close, connection, channel)
        channel.close_callbacks.add(on_close)
        # A consumer that the broker cancels, because its queue was deleted or moved to another
        # node, would never hear of anything again.
        (await channel.get_underlay_channel()).on_consumer_cancel_callbacks.add(on_close)
        return channel

    def _on_close(
        self,
        connection: AbstractConnection,
        channel: AbstractChannel | None,
        _: object,
        reason: object = None,
    ) -> None:
        """A connection or a channel has ended; what was given up before is nobody's loss."""
        if self._connection is connection and (not channel or self._channel in {channel, None}):
            if isinstance(reason, AMQPError | OSError):
                self._trouble = reason
            self._channel = None
            self._up.clear()
            self._lost.set()

    async def _keep(self) -> None:
        """Ends only with an error that coming back would not mend."""
        while True:
            await self._lost.wait()
            log.warning(
                "connection lost: %s",
                words(self._trouble) if self._trouble else "no reason was given",
                extra={"action": "connection_lost", "link": self.name},
            )
            pauses = Pauses()
            patience = asyncio.get_running_loop().time() + self.settings.connect_timeout
            while not self.is_up:
                await self._close()
                await asyncio.sleep(pauses.next())
                try:
                    await self._open()
                except BaseException as error:
                    mends = isinstance(error, BrokerUnavailable | BrokerRefused) or is_gone(error)
                    # A refusal is believed when it lasts: who goes down or comes up refuses too.
                    lasts = asyncio.get_running_loop().time() > patience
                    if not mends or (isinstance(error, BrokerRefused) and lasts):
                        raise
                    self._trouble = error
                    log.warning("%s", error, extra={"action": "connect_failed", "link": self.name})
            log.warning("connection back", extra={"action": "connection_back", "link": self.name})
            metrics.reconnected(self.name)

    async def _close(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        self._up.clear()
        if connection is not None:
            with harmless_when_gone("close"):
                async with asyncio.timeout(HANDSHAKE_TIMEOUT):
                    await connection.close()


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
    #: Times that the broker closed the channel while this was under way.
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
        self._suspects = asyncio.Lock()
        self._renewing = asyncio.Lock()
        #: Everything that is under way.
        self._sending: set[asyncio.Task[Any]] = set()
        self._retiring: set[asyncio.Task[None]] = set()

    async def publish(
        self, exchange: str, key: str, message: aio_pika.Message, *, timeout: float | None = None
    ) -> None:
        """Returns when the broker has confirmed; `timeout` seconds bound all of it.

        A message whose confirm was lost with the connection is published again, so the
        receiver may see it twice. Raises MessageError when it is too large for the broker,
        Unroutable when no queue takes it, Busy when the broker refuses it (a queue is full),
        BrokerUnavailable when the time is up or the broker closes the channel over it.
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
        async with self._suspects:
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
        if isinstance(outcome, AMQPChannelError):
            publication.closed_over += 1
            if publication.closed_over >= CLOSED_OVER:
                raise BrokerUnavailable(
                    f"{self.settings.broker} closed the channel {CLOSED_OVER} times over a "
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
        assert self._connection is not None
        assert self._connection.transport is not None
        properties = self._connection.transport.connection.server_properties
        limit = self.settings.max_message_bytes or server.largest_message(properties)
        if len(message.body) > limit:
            raise MessageError(
                f"the message has {len(message.body):,} bytes, and the broker takes {limit:,}: "
                "make smaller packs (settings pack_items, pack_bytes), or raise max_message_size "
                "on the broker and LMAAS_MAX_MESSAGE_BYTES here"
            )


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
