"""Answers who asks a worker about itself, beside its work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from lmaas.broker_config.errors import LmaasError
from lmaas.broker_config.messages import CARDS, JSON, MSGPACK
from lmaas.broker_config.publisher import Publisher
from lmaas.broker_config.topology import ALL_MODELS
from lmaas.workers.callers import Callers

log = logging.getLogger(__name__)

#: Answers that are on their way at a time; who asks meanwhile has to ask again.
MOST: Final = 64

#: Gets the model that was asked for (ALL_MODELS: all) and the content type; the body.
Answer = Callable[[str, str], Awaitable[bytes]]


class Questions:
    """Those that one worker can answer."""

    def __init__(
        self, callers: Callers, publisher: Publisher, answers: Mapping[str, Answer]
    ) -> None:
        """`answers` by the property `type`."""
        self._callers = callers
        self._publisher = publisher
        self._answers = answers
        self._answering: set[asyncio.Task[None]] = set()

    def hear(self, message: AbstractIncomingMessage) -> None:
        """A question has come; one without a type is for cards."""
        refused = not message.reply_to or self._callers.why_not(message)
        if not refused and len(self._answering) < MOST:
            answering = asyncio.create_task(self._answer(message))
            self._answering.add(answering)
            answering.add_done_callback(self._answering.discard)

    async def _answer(self, message: AbstractIncomingMessage) -> None:
        kind = message.type or CARDS
        content_type = MSGPACK if message.content_type == MSGPACK else JSON
        answer = aio_pika.Message(
            await self._answers[kind](message.routing_key or ALL_MODELS, content_type),
            content_type=content_type,
            correlation_id=message.correlation_id,
            type=kind,
        )
        try:
            exchange, key = self._callers.address(message.reply_to or "")
            await self._publisher.publish(exchange, key, answer)
        except LmaasError as error:  # who asked has left, or asks again
            log.debug("a question was not answered: %s", error, extra={"action": "question"})
