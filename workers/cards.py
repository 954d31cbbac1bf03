"""The cards of the models that a worker serves: what is to be known of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from lmaas.broker_config.estimator import Estimator
from lmaas.broker_config.messages import ModelCard, encode_cards
from lmaas.broker_config.scheduling import Cost
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import ALL_MODELS
from lmaas.workers.models import Models
from lmaas.workers.preprocess import media_types


class Cards:
    """Of the models that one worker serves."""

    def __init__(
        self, settings: Settings, models: Models, estimators: Mapping[str, Estimator]
    ) -> None:
        """`estimators` has the models that are served, with what their packs cost."""
        self._settings = settings
        self._models = models
        self._estimators = estimators

    async def answer(self, asked: str, content_type: str) -> bytes:
        """See `questions.Answer`."""
        served = [model for model in self._estimators if asked in {ALL_MODELS, model}]
        # What lies in the folders is read from a disk.
        cards = [await asyncio.to_thread(self._card, model) for model in served]
        return encode_cards(cards, content_type)

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
        max_data_bytes=settings.largest_data,
        max_pack_items=settings.max_pack_items,
        max_pack_bytes=settings.largest_pack,
        fixed_seconds=cost.fixed,
        seconds_per_byte=cost.per_byte,
        seconds_per_item=cost.per_item,
        media_types=media_types(runtime.preprocessor),
        multi_label=runtime.manifest.multi_label,
    )
