"""Asks the workers which models they serve, and what is to be known of them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import ChannelNotFoundEntity, DeliveryError

from lmaas.broker_config.connection import Session
from lmaas.broker_config.messages import CARDS, MSGPACK, ModelCard, decode_cards
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import ALL_MODELS

#: Seconds for the first answer: a worker gives it beside its work.
FIRST: Final = 2.0
#: Seconds after an answer in which those of other workers come.
OTHERS: Final = 0.1


async def cards(
    session: Session, settings: Settings, model: str | None = None, *, first: bool = False
) -> list[ModelCard]:
    """Of every version of a model, or of all models, that answers somewhere; none without a worker.

    Workers may differ while they switch to a new version; with `first` the first answer will do.
    Raises BrokerUnavailable.
    """
    exchange, key = settings.names.cards, model or ALL_MODELS

    async def asked(connection: AbstractConnection) -> list[ModelCard]:
        async with connection.channel(on_return_raises=True) as channel:
            return await _answers(channel, exchange, key, first=first)

    with contextlib.suppress(ChannelNotFoundEntity):  # no worker has ever made the exchange
        return await session.ask(asked)
    return []


async def _answers(
    channel: AbstractChannel, exchange: str, key: str, *, first: bool
) -> list[ModelCard]:
    answers: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
    direct = await channel.get_queue("amq.rabbitmq.reply-to", ensure=False)
    await direct.consume(answers.put, no_ack=True)
    # It expires where a policy diverts it to some queue.
    question = aio_pika.Message(
        b"", reply_to=direct.name, content_type=MSGPACK, type=CARDS, expiration=FIRST
    )
    asked = await channel.get_exchange(exchange, ensure=False)
    try:
        await asked.publish(question, key)
    except DeliveryError:  # nobody listens
        return []
    found: dict[tuple[str, str], ModelCard] = {}
    patience = FIRST
    with contextlib.suppress(TimeoutError):
        while True:
            async with asyncio.timeout(patience):
                answer = await answers.get()
            for card in decode_cards(answer.body):
                found.setdefault((card.model, card.version), card)
            if first:
                break
            patience = OTHERS
    # Versions are whole numbers, of which any answer may have made something else.
    return sorted(found.values(), key=lambda card: (card.model, len(card.version), card.version))
