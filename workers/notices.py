"""What a worker hears beside its lanes: a queue of its own, which ends with the connection."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from lmaas.broker_config.messages import CARDS
from lmaas.broker_config.topology import ALL_MODELS, Names

#: Takes a message, at once; what lasts is a task of its own.
Handler = Callable[[AbstractIncomingMessage], None]


class Notices:
    """Hands each message to who knows its type; one without a type is a question for cards."""

    def __init__(
        self, names: Names, models: Iterable[str], handlers: Mapping[str, Handler]
    ) -> None:
        """Those for these models, and those for all; `handlers` by the property `type`."""
        self._names = names
        self._models = models
        self._handlers = handlers

    async def listen(self, channel: AbstractChannel) -> None:
        queue = await channel.declare_queue(exclusive=True)
        for key in (ALL_MODELS, *self._models):
            await queue.bind(self._names.cards, key)
        await queue.consume(self._on_message, no_ack=True)

    async def _on_message(self, message: AbstractIncomingMessage) -> None:
        if handler := self._handlers.get(message.type or CARDS):
            handler(message)
