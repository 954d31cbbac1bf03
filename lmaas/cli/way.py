"""The way of `lmaas classify` to a model: this machine's processes, or the queue."""

from __future__ import annotations

import hashlib
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

import msgspec

from lmaas.broker_config.settings import Settings
from lmaas.cli import loop
from lmaas.producer.bulk import Classifier

if TYPE_CHECKING:
    from lmaas.broker_config.messages import ModelCard
    from lmaas.producer.client import Client
    from lmaas.workers.pool import Pool


class Way:
    """Opened as its `classifier`; `client` is the same, where it is the queue."""

    def __init__(
        self, settings: Settings, model: str, version: str | None, *, through_queue: bool
    ) -> None:
        """Raises ModelNotFound or ModelDamaged where the model is this machine's.

        Raises SettingsError where the broker's URL, or what belongs to it, is wrong.
        """
        self.classifier: AbstractAsyncContextManager[Classifier]
        self._model = model
        self._pool: Pool | None = None
        #: The same, where it is the queue.
        self.client: Client | None = None
        self.version = version
        self.manifest_sha256: str | None = None
        if through_queue:
            from lmaas.broker_config.hosts import check
            from lmaas.producer.client import Client

            check(settings)  # before anything is written
            self.classifier = self.client = Client(settings)
        else:
            from lmaas.workers.pool import Pool

            self._pool = pool = Pool(settings, model, version)
            self.classifier = pool
            self.version = pool.manifest.version
            content = msgspec.json.encode(pool.manifest, order="sorted")
            self.manifest_sha256 = hashlib.sha256(content).hexdigest()

    def media_types(self) -> tuple[str, ...] | None:
        """Of the bytes that the model takes; () for texts, None when no worker tells.

        Raises BrokerError.
        """
        if self._pool is not None:
            return tuple(self._pool.media_types())
        card = loop.run(self._card())
        return None if card is None else tuple(card.media_types)

    async def _card(self) -> ModelCard | None:
        assert self.client is not None
        async with self.client:
            return await self.client.card(self._model)
