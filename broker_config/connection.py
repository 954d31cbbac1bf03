"""Connections to RabbitMQ that wait for it, come back, and say what is wrong.

aio-pika's plain connections are used, and the coming back is done here: a robust connection
replays no failed publish, forgets its return callbacks and can wait for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import (
    AMQPChannelError,
    AMQPError,
    AuthenticationError,
    ConnectionClosed,
    DeliveryError,
    InvalidFrameError,
    ProbableAuthenticationError,
    PublishError,
)
from yarl import URL

from broker_config import decoding
from broker_config.errors import (
    BrokerRefused,
    BrokerUnavailable,
    Busy,
    SettingsError,
    Unroutable,
)
from broker_config.settings import Settings, masked

T = TypeVar("T")

log = logging.getLogger(__name__)

#: Seconds between tries: doubling from the first to the last, with jitter.
FIRST_PAUSE: Final = 0.1
LAST_PAUSE: Final = 2.0
#: Seconds for one try: TCP, TLS and the AMQP handshake.
HANDSHAKE_TIMEOUT: Final = 10.0

#: AMQP codes of a broker that closes a connection because it is on its way down or up:
#: CONNECTION_FORCED and INTERNAL_ERROR.
NOT_NOW: Final = (320, 541)
_GONE: Final = (AMQPError, OSError, asyncio.InvalidStateError, RuntimeError)


def is_gone(error: BaseException) -> bool:
    """Whether aio-pika raised this because a channel or connection went away under a call."""
    if isinstance(error, asyncio.CancelledError):  # its own task was cancelled, and not ours
        task = asyncio.current_task()
        return task is not None and not task.cancelling()
    return isinstance(error, _GONE) or type(error) is Exception


@contextlib.contextmanager
def harmless_when_gone(action: str) -> Iterator[None]:
    """For calls that the loss of their connection makes needless."""
    try:
        yield
    except BaseException as error:
        if not is_gone(error):
            raise
        log.info("%s: connection lost: %s", action, error, extra={"action": action})


async def connect(settings: Settings, *, name: str) -> AbstractConnection:
    """A connection to the first of the broker's hosts that answers.

    Waits up to `settings.connect_timeout` seconds for a broker that is not up yet. Raises
    BrokerUnavailable after that, BrokerRefused at once when the broker says no.
    """
    decoding.tolerate()
    urls = [_url(part, settings, name) for part in settings.broker_url.split(",")]
    context = _tls(settings) if urls[0].scheme == "amqps" else None
    pauses = _Pauses()
    last: BaseException | None = None
    try:
        async with asyncio.timeout(settings.connect_timeout):
            while True:
                for url in urls:
                    try:
                        return await _try_once(url, context)
                    except BaseException as error:
                        if not is_gone(error):
                            raise
                        last = error
                        if refusal := _refusal(error, url):
                            raise refusal from error
                if pauses.is_first:
                    log.warning(
                        "no broker at %s yet; trying for %g s",
                        settings.broker,
                        settings.connect_timeout,
                        extra={"action": "broker_awaited"},
                    )
                await asyncio.sleep(pauses.next())
    except TimeoutError as error:
        reason = f" ({_words(last)})" if last else ""
        raise BrokerUnavailable(
            f"no broker at {settings.broker} within {settings.connect_timeout:g} s{reason}; "
            "is it running, and is LMAAS_BROKER_URL right?"
        ) from error


async def _try_once(url: URL, context: ssl.SSLContext | None) -> AbstractConnection:
    # A task that only `wait` stands for: aiormq may swallow a cancellation of its caller, who
    # then would go on for ever.
    trying = asyncio.create_task(
        aio_pika.connect(url, timeout=HANDSHAKE_TIMEOUT, ssl_context=context)
    )
    try:
        await asyncio.wait([trying])
    except asyncio.CancelledError:
        trying.add_done_callback(_close_unwanted)
        trying.cancel()
        raise
    return trying.result()


def _close_unwanted(trying: asyncio.Task[AbstractConnection]) -> None:
    if not trying.cancelled() and trying.exception() is None:
        closing = asyncio.create_task(trying.result().close())
        _closing.add(closing)
        closing.add_done_callback(_closing.discard)


#: Kept here, because the event loop holds its tasks weakly.
_closing: set[asyncio.Task[None]] = set()


class _Pauses:
    """Seconds to wait before the next try."""

    def __init__(self) -> None:
        self._next = FIRST_PAUSE

    @property
    def is_first(self) -> bool:
        return self._next == FIRST_PAUSE

    def next(self) -> float:
        pause = self._next * random.uniform(0.5, 1.0)
        self._next = min(self._next * 2, LAST_PAUSE)
        return pause


def _url(text: str, settings: Settings, name: str) -> URL:
    try:
        url = URL(text.strip())
    except ValueError as error:
        raise SettingsError(f"broker_url is not a URL: {error}") from error
    if url.scheme not in {"amqp", "amqps"} or not url.host:
        raise SettingsError(
            f"broker_url {masked(text)!r} should look like amqp://user:password@host:5672/vhost"
        )
    return url.update_query(heartbeat=str(settings.heartbeat), name=name)


def _tls(settings: Settings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.tls_ca)
        if settings.tls_certificate:
            context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"TLS files (tls_ca, tls_certificate, tls_key) cannot be used: {error}"
        ) from error
    return context


def _refusal(error: BaseException, url: URL) -> BrokerRefused | None:
    """What waiting will not mend."""
    place = masked(str(url.with_query(None)))
    if isinstance(error, ProbableAuthenticationError | AuthenticationError):
        return BrokerRefused(f"{place}: the broker refused user or password")
    if isinstance(error, InvalidFrameError) and "OpenOk" in str(error):
        # aiormq has no better word for a broker that closes when asked for a virtual host.
        return BrokerRefused(
            f"{place}: no virtual host {url.path.removeprefix('/') or '/'!r} for this user"
        )
    if isinstance(error, ConnectionClosed):
        if error.args and error.args[0] in NOT_NOW:
            return None
        return BrokerRefused(f"{place}: the broker refused: {_words(error)}")
    cause = error if isinstance(error, ssl.SSLError) else error.__cause__
    if isinstance(cause, ssl.SSLError):
        return BrokerRefused(f"{place}: TLS failed: {cause}; see tls_ca, tls_certificate")
    return None


def _words(error: BaseException | None) -> str:
    if isinstance(error, ConnectionClosed) and len(error.args) > 1:
        return str(error.args[1])
    return str(error) or type(error).__name__


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
        self._keeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException as error:
            if not is_gone(error):
                raise
            raise BrokerUnavailable(f"{self.settings.broker} went away: {_words(error)}") from error
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
            raise BrokerUnavailable(
                f"{self.settings.broker} did not answer within {limit:g} s"
            ) from error

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

        def on_close(*_: Any) -> None:
            if self._connection is connection:  # not one that was given up before
                self._channel = None
                self._up.clear()
                self._lost.set()

        try:
            channel = await connection.channel(on_return_raises=True)
            connection.close_callbacks.add(on_close)
            channel.close_callbacks.add(on_close)
            # A consumer that the broker cancels, because its queue was deleted or moved to
            # another node, would never hear of anything again.
            (await channel.get_underlay_channel()).on_consumer_cancel_callbacks.add(on_close)
            if self._prepare:
                await self._prepare(channel)
        except BaseException:
            await self._close()
            raise
        if not (channel.is_closed or self._lost.is_set()):
            self._channel = channel
            self._up.set()

    async def _keep(self) -> None:
        """Ends only with an error that coming back would not mend."""
        while True:
            await self._lost.wait()
            log.warning("connection lost", extra={"action": "connection_lost", "link": self.name})
            pauses = _Pauses()
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
                    log.warning("%s", error, extra={"action": "connect_failed", "link": self.name})
            log.warning("connection back", extra={"action": "connection_back", "link": self.name})

    async def _close(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        self._up.clear()
        if connection is not None:
            with harmless_when_gone("close"):
                async with asyncio.timeout(HANDSHAKE_TIMEOUT):
                    await connection.close()


class Publisher(Session):
    """A session to publish with: confirmed, mandatory, and published again after a loss."""

    async def publish(
        self, exchange: str, key: str, message: aio_pika.Message, *, timeout: float | None = None
    ) -> None:
        """Returns when the broker has confirmed; `timeout` seconds bound all of it.

        A message whose confirm was lost with the connection is published again, so the
        receiver may see it twice. Raises Unroutable when no queue takes it, BrokerUnavailable
        when the time is up, Busy when the broker refuses it (a queue is full).
        """
        limit = timeout or self.settings.publish_timeout
        try:
            async with asyncio.timeout(limit):
                while not await self._try(exchange, key, message):
                    pass
        except TimeoutError as error:
            raise BrokerUnavailable(
                f"{self.settings.broker} did not confirm within {limit:g} s"
            ) from error

    async def _try(self, exchange: str, key: str, message: aio_pika.Message) -> bool:
        channel = await self.channel()
        target = await channel.get_exchange(exchange, ensure=False)
        sending = asyncio.create_task(_send(target, key, message))
        # A task that `wait` does not cancel: aiormq's channel breaks when a publish is given up
        # and its message comes back afterwards.
        await asyncio.wait([sending])
        match sending.result():
            case None:
                return True
            case PublishError() as error:
                raise Unroutable(f"no queue takes {key!r} from {exchange!r}") from error
            case DeliveryError() as error:
                raise Busy(f"the broker refused a message for {key!r}: queue full") from error
            case _:
                await self._left(channel)
                return False


async def _send(
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
