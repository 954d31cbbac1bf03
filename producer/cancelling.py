"""Tells workers which packs nobody waits for any more, so that they are not run."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from typing import Final

import aio_pika

from lmaas.broker_config.errors import LmaasError
from lmaas.broker_config.messages import CANCEL, MAX_CANCELLED, MSGPACK, encode_cancellation
from lmaas.broker_config.publisher import Publisher
from lmaas.broker_config.sealing import ENCODING, KEY_HEADER, Label
from lmaas.broker_config.seals import Seals

log = logging.getLogger(__name__)

#: Seconds for a cancellation: later there is little left to cancel.
TIMEOUT: Final = 2.0


class Cancelling:
    """Of one client. The packs that are given up in one turn of the event loop share a message."""

    def __init__(self, publisher: Publisher, reply_to: str) -> None:
        """`reply_to` is where the answers would go."""
        self._publisher = publisher
        self._seals = Seals(publisher.settings)
        self._reply_to = reply_to
        #: By model.
        self._packs: defaultdict[str, list[str]] = defaultdict(list)
        self._telling: asyncio.Task[None] | None = None

    def give_up(self, model: str, pack: str) -> None:
        """Nobody waits any more for the answer to the pack with this correlation id."""
        self._packs[model].append(pack)
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell(), name="cancel packs")

    async def _tell(self) -> None:
        while self._packs:
            model, packs = self._packs.popitem()
            for start in range(0, len(packs), MAX_CANCELLED):
                await self._cancel(model, packs[start : start + MAX_CANCELLED])

    async def _cancel(self, model: str, packs: list[str]) -> None:
        body, sealed = encode_cancellation(packs), None
        if self._seals.are_used:
            label = Label("notice", model, self._reply_to, content_type=MSGPACK)
            sealed = await self._seals.seal(body, label)
        message = aio_pika.Message(
            sealed.body if sealed else body,
            content_encoding=ENCODING if sealed else None,
            content_type=MSGPACK,
            headers={KEY_HEADER: sealed.key} if sealed else None,
            reply_to=self._reply_to,
            type=CANCEL,
            user_id=self._publisher.settings.user,
            expiration=TIMEOUT,
        )
        exchange = self._publisher.settings.names.cards
        try:
            await self._publisher.publish(exchange, model, message, timeout=TIMEOUT)
        except LmaasError as error:  # then they are run in vain, or there is no worker
            log.info("packs were not cancelled: %s", error, extra={"action": "cancel"})

    async def close(self) -> None:
        """What is not told yet need not be: the results queue goes."""
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)
