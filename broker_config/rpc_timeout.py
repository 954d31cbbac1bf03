"""A connection on which no method waits for ever: without an answer its channel counts as lost.

A queue's process in the broker can hang while its connection lives and sends heartbeats (RabbitMQ
3.10 has done so after restarts). Declaring, consuming or cancelling there then never returns, and
neither does anything else on the same channel. aio-pika takes a time limit with each call and has
none by default; here every call has one, and ends with its connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

import aio_pika
import aiormq
from aiormq.abc import AbstractConnection
from aiormq.exceptions import ChannelInvalidStateError
from pamqp.base import Frame

from lmaas.broker_config import metrics
from lmaas.broker_config.errors import BrokerSilent
from lmaas.broker_config.sockets import Sockets

#: Seconds for the broker's answer to one method. A busy broker takes seconds for a durable queue.
RPC_TIMEOUT: Final = 15.0

_Rpc = Callable[..., Awaitable[Any]]


class _Channel(aio_pika.Channel):
    """Raises BrokerSilent, and counts as lost, when the broker does not answer a method."""

    async def _on_open(self) -> None:
        await super()._on_open()
        underlay = cast(aiormq.Channel, await self.get_underlay_channel())
        underlay.rpc = functools.partial(  # type: ignore[method-assign]
            self._answered, underlay.connection, underlay.rpc
        )

    async def _answered(
        self,
        connection: AbstractConnection,
        rpc: _Rpc,
        frame: Frame,
        timeout: float | None = None,
    ) -> Any:
        limit = RPC_TIMEOUT if timeout is None else timeout
        try:
            return await _while_connected(connection, rpc(frame, timeout=limit))
        except TimeoutError as error:
            named = getattr(frame, "queue", "") or getattr(frame, "exchange", "")
            about = f"{frame.name} {named!r}" if named else frame.name
            silent = BrokerSilent(
                f"the broker did not answer {about} within {limit:g} s, while its connection "
                "lives: a queue hangs there; restart that node of the broker"
            )
            metrics.unanswered(frame.name)
            await self.close_callbacks(silent)
            raise silent from error


async def _while_connected(connection: AbstractConnection, answer: Awaitable[Any]) -> Any:
    """The answer, or the error that the connection ends with.

    What is asked in the moment in which the broker closes the connection gets neither from aiormq:
    the last answer and the close came together, and it hands on the answer first.
    """
    closing = connection.closing
    try:
        async with asyncio.timeout(None) as limit:
            closing.add_done_callback(functools.partial(_at_once, limit))
            return await answer
    except TimeoutError:
        if not closing.done():  # it was the limit of the method
            raise
        closing.result()  # raises why, if there is a reason
        raise ChannelInvalidStateError("the connection was closed") from None
    finally:
        closing.cancel()


def _at_once(limit: asyncio.Timeout, _: object) -> None:
    with contextlib.suppress(RuntimeError):  # what it limits has ended
        limit.reschedule(asyncio.get_running_loop().time())


class Connection(aio_pika.Connection):
    """aio-pika's, with a time limit for each method on its channels, and with our sockets."""

    CHANNEL_CLASS = _Channel

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.kwargs["transport_factory"] = Sockets()

    def __del__(self) -> None:
        """Leaves out aio-pika's own, which begins to close a connection that never came about: in
        any thread, where nothing awaits it and Python warns. Whoever connects closes.
        """
