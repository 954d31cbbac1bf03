"""Tells who asks which models a worker serves, and what is to be known of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from lmaas.broker_config.errors import LmaasError
from lmaas.broker_config.estimator import Estimator
from lmaas.broker_config.messages import CARDS, JSON, MSGPACK, ModelCard, encode_cards
from lmaas.broker_config.publisher import Publisher
from lmaas.broker_config.scheduling import Cost
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import ALL_MODELS
from lmaas.workers.models import Models

log = logging.getLogger(__name__)

#: Answers that are on their way at a time; who asks meanwhile has to ask again.
MOST: Final = 64


class Cards:
    """Of the models that one worker serves."""

    def __init__(
        self,
        settings: Settings,
        models: Models,
        estimators: Mapping[str, Estimator],
        publisher: Publisher,
    ) -> None:
        """`estimators` has the models that are served, with what their packs cost."""
        self._settings = settings
        self._models = models
        self._estimators = estimators
        self._publisher = publisher
        self._answering: set[asyncio.Task[None]] = set()

    def hear(self, message: AbstractIncomingMessage) -> None:
        """A question has come."""
        if (
            self._settings.names.take_replies(message.reply_to or "")
            and len(self._answering) < MOST
        ):
            answering = asyncio.create_task(self._answer(message))
            self._answering.add(answering)
            answering.add_done_callback(self._answering.discard)

    async def _answer(self, message: AbstractIncomingMessage) -> None:
        asked = message.routing_key or ALL_MODELS
        served = [model for model in self._estimators if asked in {ALL_MODELS, model}]
        # What lies in the folders is read from a disk.
        cards = [await asyncio.to_thread(self._card, model) for model in served]
        content_type = MSGPACK if message.content_type == MSGPACK else JSON
        answer = aio_pika.Message(
            encode_cards(cards, content_type),
            content_type=content_type,
            correlation_id=message.correlation_id,
            type=CARDS,
        )
        try:
            await self._publisher.publish("", message.reply_to or "", answer)
        except LmaasError as error:  # who asked has left, or asks again
            log.info("cards were not told: %s", error, extra={"action": "cards"})

    def _card(self, model: str) -> ModelCard:
        return card(self._settings, self._models, model, self._estimators[model].cost)


def card(settings: Settings, models: Models, model: str, cost: Cost) -> ModelCard:
    """Of the version that answers. Reads the folders of the models."""
    runtime = models.load(model)
    return ModelCard(
        model=model,
        version=runtime.manifest.version,
        versions=models.repository.versions(model),
        labels=runtime.labels,
        input=runtime.manifest.preprocessing["kind"],
        examples=list(runtime.preprocessor.examples),
        max_item_bytes=settings.max_item_bytes,
        max_pack_items=settings.max_pack_items,
        max_pack_bytes=settings.largest_pack,
        fixed_seconds=cost.fixed,
        seconds_per_byte=cost.per_byte,
        seconds_per_item=cost.per_item,
    )
