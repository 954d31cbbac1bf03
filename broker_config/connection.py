"""Connections to RabbitMQ that wait for it, come back, and say what is wrong.

aio-pika's plain connections are used, and the coming back is done here: a robust connection
replays no failed publish, forgets its return callbacks and can wait for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import (
    AMQPChannelError,
    AMQPError,
    ChannelAccessRefused,
    ChannelNotFoundEntity,
)

from lmaas.broker_config import metrics, server, upstream
from lmaas.broker_config.errors import (
    BrokerRefused,
    BrokerSilent,
    BrokerUnavailable,
    LimitReached,
    SettingsError,
)
from lmaas.broker_config.hosts import (
    GROWTH_AWAY,
    HANDSHAKE_TIMEOUT,
    Pauses,
    connect,
    is_gone,
    said,
    words,
)
from lmaas.broker_config.limits import broker_sentence, limit_reached
from lmaas.broker_config.settings import Settings

T = TypeVar("T")

#: Seconds that a connection was up whose loss is most often its own: the next try is then made ...
STEADY: Final = 1.0
#: ... within these, and not after a pause.
AT_ONCE: Final = 0.02

log = logging.getLogger(__name__)


@contextlib.contextmanager
def harmless_when_gone(action: str) -> Iterator[None]:
    """For calls that the loss of their connection makes needless."""
    before = _cancellations()
    try:
        yield
    except BaseException as error:
        if not (is_gone(error) or isinstance(error, BrokerSilent)):
            raise
        end_if_cancelled(before)
        log.info("%s: connection lost: %s", action, error, extra={"action": action})


def end_if_cancelled(since: int = 0) -> None:
    """aiormq may turn the cancellation of its caller into an error of its own, or lose it.

    It is lost when an answer comes in the same turn of the event loop: Python 3.11's
    `asyncio.wait_for` then returns the answer. Who tidies up after a cancellation has one that is
    not meant: those before `since` do not count.
    """
    if _cancellations() > since:
        raise asyncio.CancelledError


def _cancellations() -> int:
    """How often the current task was cancelled."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


def check_process(process: int) -> None:
    """Raises BrokerUnavailable in a child of `os.fork`: the connection is that process's alone."""
    if process != os.getpid():
        raise BrokerUnavailable(
            f"the connection belongs to process {process}; this one, {os.getpid()}, was forked "
            "from it after it had connected. Make a client in each process, after the fork "
            "(gunicorn: without --preload, or in the post_fork hook)"
        )


def forbidden(settings: Settings, error: ChannelAccessRefused) -> BrokerRefused:
    """For who may not do something there."""
    return BrokerRefused(
        f'{settings.broker}: {broker_sentence(error)}; see docs/security.md, "Users and their '
        'rights", for who may do what'
    )


class Session:
    """One connection with one channel, which come back after a loss.

    `prepare` makes a new channel ready: it declares, sets the prefetch, consumes. It is run at
    every start and return, before anybody gets the channel. The last word of `name` says what it
    is for, and is its label in metrics: no id may stand there, of which there are ever more.
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
        #: When it came, on the event loop's clock.
        self._since = 0.0
        self._keeper: asyncio.Task[None] | None = None
        #: The process that it belongs to.
        self._process = os.getpid()

    async def __aenter__(self) -> Self:
        self._process = os.getpid()
        try:
            await self._open_patiently()
        except BaseException as error:
            if isinstance(error, ChannelAccessRefused):
                raise self._forbidden(error) from error
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
    def connection(self) -> AbstractConnection:
        """The connection whose channel `prepare` gets."""
        assert self._connection is not None, "it is open while `prepare` runs"
        return self._connection

    @property
    def is_up(self) -> bool:
        return self._up.is_set() and self._process == os.getpid()

    @property
    def trouble(self) -> str | None:
        """Why the connection was lost, or has not come back; None while it is up."""
        return words(self._trouble) if self._trouble and not self.is_up else None

    async def channel(self) -> AbstractChannel:
        """The channel; waits while it is away. Raises what keeps it from coming back."""
        check_process(self._process)
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
        there is no answer within `connect_timeout`, LimitReached when a limit of the broker
        stands in the way for so long, BrokerRefused when the user has no right to ask.
        """
        limit = self.settings.connect_timeout
        before = _cancellations()
        pauses = Pauses()
        reached: LimitReached | None = None
        try:
            async with asyncio.timeout(limit):
                while True:
                    channel = await self.channel()
                    assert self._connection is not None
                    try:
                        answer = await question(self._connection)
                        end_if_cancelled(before)
                        return answer
                    except BaseException as error:
                        end_if_cancelled(before)
                        if isinstance(error, ChannelAccessRefused):
                            raise self._forbidden(error) from error
                        reached = limit_reached(error, self.settings.broker)
                        if not reached and (
                            isinstance(error, AMQPChannelError) or not is_gone(error)
                        ):
                            raise
                    if reached:
                        await asyncio.sleep(pauses.next())
                    else:
                        await self._left(channel)
        except TimeoutError as error:
            if reached:
                raise reached from error
            raise BrokerUnavailable(await self._told("answer", limit)) from error

    async def counts(self, queue: str) -> tuple[int, int] | None:
        """Ready messages and consumers of a queue; None without one. Raises as `ask` does."""

        async def found(connection: AbstractConnection) -> tuple[int, int]:
            async with connection.channel() as channel:
                result = (await channel.get_queue(queue)).declaration_result
                return result.message_count or 0, result.consumer_count or 0

        try:
            return await self.ask(found)
        except ChannelNotFoundEntity:
            return None

    def _forbidden(self, error: ChannelAccessRefused) -> BrokerRefused:
        return forbidden(self.settings, error)

    async def _told(self, what: str, limit: float, reason: BaseException | None = None) -> str:
        """That the broker did not do it in time, and why, as far as we know."""
        broker = self.settings.broker
        transport = self._connection.transport if self._connection else None
        if transport and server.is_blocked(transport.connection):
            return (
                f"{broker} blocks publishers ({upstream.alarm(transport.connection)}) and did not "
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

    async def _open_patiently(self) -> None:
        """At a limit of the broker it is tried again, for `connect_timeout` seconds in all."""
        pauses = Pauses(GROWTH_AWAY)
        patience = asyncio.get_running_loop().time() + self.settings.connect_timeout
        while True:
            try:
                return await self._open()
            except LimitReached as error:
                if asyncio.get_running_loop().time() >= patience:
                    raise
                if pauses.is_first:
                    log.warning("%s; waiting", error, extra={"action": "limit_reached"})
                await asyncio.sleep(pauses.next())

    async def _open(self) -> None:
        before = _cancellations()
        connection = self._connection = await connect(
            self.settings, name=self.name, on_failure=self._note
        )
        self._lost.clear()

        connection.close_callbacks.add(functools.partial(self._on_close, connection, None))
        try:
            channel = await self._watched_channel(connection)
            if self._prepare:
                await self._prepare(channel)
            end_if_cancelled(before)
        except BaseException as error:
            await self._close()
            if reached := limit_reached(error, self.settings.broker):
                raise reached from error
            raise
        if not (channel.is_closed or self._lost.is_set()):
            self._trouble = None
            self._since = asyncio.get_running_loop().time()
            self._channel = channel
            self._up.set()

    def _note(self, error: BaseException) -> None:
        self._trouble = error

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
            if isinstance(reason, AMQPError | OSError | BrokerSilent):
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
            lost = asyncio.get_running_loop().time()
            pauses = Pauses(GROWTH_AWAY)
            patience = lost + self.settings.connect_timeout
            pause = random.uniform(0, AT_ONCE) if lost - self._since >= STEADY else pauses.next()
            while not self.is_up:
                await self._close()
                await asyncio.sleep(pause)
                pause = pauses.next()
                try:
                    await self._open()
                except BaseException as error:
                    end_if_cancelled()
                    refused = isinstance(error, BrokerRefused | SettingsError)
                    mends = isinstance(error, BrokerUnavailable) or refused or is_gone(error)
                    # A refusal is believed when it lasts: who goes down or comes up refuses too.
                    # So are TLS files that do not fit: somebody may be replacing them.
                    lasts = asyncio.get_running_loop().time() > patience
                    if not mends or (refused and lasts):
                        raise
                    self._trouble = error
                    if said.is_due(str(error)):
                        log.warning(
                            "%s", error, extra={"action": "connect_failed", "link": self.name}
                        )
            log.warning("connection back", extra={"action": "connection_back", "link": self.name})
            metrics.reconnected(self.name)

    async def _close(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        self._up.clear()
        if connection is not None:
            with harmless_when_gone("close"):
                async with asyncio.timeout(HANDSHAKE_TIMEOUT):
                    await connection.close()
