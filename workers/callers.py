"""Where a worker may answer: what a sender may name, and what the worker's own user may write to.

A worker writes where its senders may not, so that it must not do so for whoever asks. A queue of a
user of the broker is answered to when that user has sent the message, which the broker has checked
(the property `user_id`), or when a worker or an operator has put it back, which the broker tells,
too: nobody else may write to the exchange `copies.MODEL`.

By the same two facts a worker knows the *tenant*: the user that asks, or, where that is one who
asks for others, as a gateway does, whom it names beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Iterable
from typing import Final

import aio_pika
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage
from aiormq.exceptions import AMQPError, ChannelAccessRefused, PublishError

from lmaas.broker_config.errors import BrokerError
from lmaas.broker_config.headers import MAX_NAME, shortened
from lmaas.broker_config.publisher import Publisher
from lmaas.broker_config.topology import Names

#: Seconds that the start waits to hear of the worker's rights: in alarm a broker says nothing.
PATIENCE: Final = 1.0


class Callers:
    """Those of one worker."""

    def __init__(self, names: Names, gateways: Iterable[str] = ()) -> None:
        """`gateways` are users of the broker who say for whom they ask."""
        self._names = names
        self._gateways = frozenset(gateways)
        #: Whether its user may write to the default exchange; what is not known is tried.
        self._directly = True
        self._asking: asyncio.Task[None] | None = None

    async def learn_rights(self, publisher: Publisher) -> None:
        """Find out what the worker's user may do; if the broker is slow to say, beside the work."""
        self._asking = asyncio.create_task(self._learn(publisher), name="ask for rights")
        await asyncio.wait([self._asking], timeout=PATIENCE)

    async def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    async def _learn(self, publisher: Publisher) -> None:
        with contextlib.suppress(BrokerError, AMQPError):
            self._directly = await publisher.ask(_writes_anywhere)

    def why_not(self, message: AbstractIncomingMessage, model: str | None = None) -> str | None:
        """Why `reply_to` is not answered to; None when it is, or names nothing.

        `model` is the one whose lane the message came by.
        """
        queue = message.reply_to
        if not queue:
            return None
        address = self._names.address(queue)
        if address is None:
            return "is no queue for results (see docs/asyncapi.yaml)"
        if not address[0] and not self._directly:
            return "has no name of a user, and workers may answer to no other (docs/security.md)"
        if not self._is_copy(message, model) and not self._names.is_of(queue, message.user_id):
            return f"is not a queue of the sender (the property user_id: {message.user_id!r})"
        return None

    def tenant(self, message: AbstractIncomingMessage, told: str | None, model: str) -> str | None:
        """Who asks: `USER`, or `USER/TOLD` for a gateway that has told for whom; None: not known.

        `told` is of the message's headers, `model` the one whose lane it came by.
        """
        if self._is_copy(message, model):  # as a worker knew it that had it before
            return told
        user = message.user_id
        if user in self._gateways and told:
            return shortened(f"{user}/{told}", MAX_NAME)
        return user

    def _is_copy(self, message: AbstractIncomingMessage, model: str | None) -> bool:
        """Whether a worker or an operator has put it back into a lane of the model."""
        return model is not None and message.exchange == self._names.copies(model)

    def address(self, queue: str) -> tuple[str, str]:
        """Exchange and routing key for a queue that may be answered to."""
        address = self._names.address(queue)
        assert address is not None, "it was checked when the message came"
        return address


async def _writes_anywhere(connection: AbstractConnection) -> bool:
    """Whether a user may write to the default exchange, and so into every queue."""
    # It is left to its connection: to be closed, it would wait for a broker that is in alarm.
    channel = await connection.channel(on_return_raises=True)
    nowhere = f"trial-{uuid.uuid4().hex}"
    try:
        await channel.default_exchange.publish(aio_pika.Message(b""), nowhere, mandatory=True)
    except ChannelAccessRefused:
        return False
    except PublishError:  # it comes back
        return True
    return True
