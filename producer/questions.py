"""Asks the workers something about themselves, and hears each of them."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from typing import Final

import aio_pika
from aio_pika.abc import (
    AbstractChannel,
    AbstractConnection,
    AbstractIncomingMessage,
    AbstractQueue,
)
from aio_pika.exceptions import ChannelNotFoundEntity, DeliveryError

from lmaas.broker_config.connection import Session
from lmaas.broker_config.messages import MSGPACK
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import ALL_MODELS, Names, is_model_name

#: Seconds for the first answer: a worker gives it beside its work.
FIRST: Final = 2.0
#: Seconds after an answer in which those of other workers come.
OTHERS: Final = 0.1


async def answers(
    session: Session,
    settings: Settings,
    kind: str,
    model: str | None = None,
    *,
    first: bool = False,
) -> list[bytes]:
    """The bodies, in MessagePack, of those that serve a model, or of all; none without a worker.

    `kind` is the type of the message. With `first` one answer will do. Raises BrokerUnavailable.
    """
    if model is not None and not is_model_name(model):
        return []

    async def asked(connection: AbstractConnection) -> list[bytes]:
        async with connection.channel(on_return_raises=True) as channel:
            return await _answers(channel, settings, kind, model or ALL_MODELS, first=first)

    with contextlib.suppress(ChannelNotFoundEntity):  # no worker has ever made the exchange
        return await session.ask(asked)
    return []


async def _answers(
    channel: AbstractChannel, settings: Settings, kind: str, key: str, *, first: bool
) -> list[bytes]:
    names = settings.names
    arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
    own = await _own_queue(channel, names)
    await own.consume(arrived.put, no_ack=True)
    # It expires where a policy diverts it to some queue.
    question = aio_pika.Message(
        b"",
        reply_to=own.name,
        content_type=MSGPACK,
        type=kind,
        expiration=FIRST,
        user_id=settings.user,
    )
    asked = await channel.get_exchange(names.cards, ensure=False)
    try:
        await asked.publish(question, key)
    except DeliveryError:  # nobody listens
        return []
    found: list[bytes] = []
    patience = FIRST
    with contextlib.suppress(TimeoutError):
        while True:
            async with asyncio.timeout(patience):
                found.append((await arrived.get()).body)
            if first:
                break
            patience = OTHERS
    return found


async def _own_queue(channel: AbstractChannel, names: Names) -> AbstractQueue:
    """One that ends with the channel. RabbitMQ's direct reply-to would ask more of workers: who
    answers to that must have the right to write into every queue.
    """
    name = names.client_results(uuid.uuid4().hex)
    address = names.address(name)
    assert address is not None
    queue = await channel.declare_queue(
        name, exclusive=True, auto_delete=True, arguments={"x-queue-type": "classic"}
    )
    await queue.bind(*address)
    return queue
