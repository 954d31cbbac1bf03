"""The cards of models, kept for a moment: who needs one for each request asks no worker for it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from lmaas.broker_config.codes import Code
from lmaas.broker_config.messages import ModelCard
from lmaas.producer.client import Client
from lmaas.producer.gateway.failures import HttpError

#: Seconds for which a card is good; after that a new version may be served.
FRESH: Final = 5.0


class KnownCards:
    """Of the models that somebody has asked for."""

    def __init__(self, client: Client, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        #: With the moment at which each is to be asked for again.
        self._known: dict[str, tuple[ModelCard, float]] = {}
        self._asking: dict[str, asyncio.Task[ModelCard | None]] = {}

    async def card(self, model: str) -> ModelCard:
        """What a worker says of a model, or has said as long as no worker answers.

        Raises HttpError 404 when none has ever said anything to us, BrokerUnavailable.
        """
        known = self._known.get(model)
        if known is not None and self._clock() < known[1]:
            return known[0]
        found = await asyncio.shield(self._asked(model))
        if found is not None:
            return found
        if known is not None:
            return known[0]
        raise HttpError(
            HTTPStatus.NOT_FOUND,
            Code.UNKNOWN_MODEL,
            f"no worker serves model {model!r} now; see GET /v1/models",
        )

    async def check(self, model: str, version: str | None) -> None:
        """Raises HttpError 404 when workers serve a model, and none of them has this version of it.

        Else the request would be published, and a worker would keep it as a dead letter, which
        nobody needs who hears of it at once. Without a worker that answers it is published: one
        that is just starting may have the version.
        """
        if version is None:
            return
        with contextlib.suppress(HttpError):
            if version in (await self.card(model)).versions:
                return
        # It may be new, or another worker's.
        cards = await self._client.models(model)
        known = list(dict.fromkeys(one for card in cards for one in card.versions))
        if known and version not in known:
            raise HttpError(
                HTTPStatus.NOT_FOUND,
                Code.UNKNOWN_VERSION,
                f"model {model!r} has no version {version!r}; it has {', '.join(known)}",
            )

    def _asked(self, model: str) -> asyncio.Task[ModelCard | None]:
        """One question for all who ask at the same time, which none of them cancels."""
        asking = self._asking.get(model)
        if asking is None:
            asking = self._asking[model] = asyncio.create_task(self._ask(model))
            asking.add_done_callback(lambda _: self._asking.pop(model))
        return asking

    async def _ask(self, model: str) -> ModelCard | None:
        found = await self._client.card(model)
        if found is not None:
            self._known[model] = (found, self._clock() + FRESH)
        return found
