"""The outbox: events are written down in the transaction that they tell of, and sent later."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncConnection

from lmaas.producer.gateway.callbacks import events
from lmaas.producer.gateway.callbacks.receivers import Receivers, callback_name, host
from lmaas.producer.gateway.callbacks.schedule import delay
from lmaas.producer.gateway.secret import Secret
from lmaas.producer.gateway.settings.callbacks import Callbacks
from lmaas.producer.gateway.state import deliveries

#: Seconds in which a transaction with an event is committed, most of the time.
_SOON: Final = 0.02


class Outbox:
    """Where events go in."""

    def __init__(self, settings: Callbacks, receivers: Receivers) -> None:
        self.receivers = receivers
        #: Set when there may be something to send.
        self.filled = asyncio.Event()
        self._settings = settings

    async def enqueue(
        self,
        connection: AsyncConnection,
        owner: str,
        job: str,
        url: str | None,
        event: str,
        data: Mapping[str, Any],
        secret: Secret | None = None,
    ) -> None:
        """An event of a job, for the job's own callback, if it has one, and for all endpoints.

        It is sent if the connection's transaction is committed. `event`: a type like
        "job.completed"; `data`: values for JSON, below 20 kB, with the job's `id`; `secret`: the
        job's own.
        """
        now = time.time()
        for receiver in self._receivers(owner, url, event, secret):
            name = events.new_id()
            gone = await deliveries.is_disabled(connection, receiver["receiver"])
            wait = delay(self._settings.delays, 0, self._settings.jitter) or 0.0
            await deliveries.add(
                connection,
                {
                    **receiver,
                    "id": name,
                    "owner": owner,
                    "job": job,
                    "event": event,
                    "body": events.body(name, event, now, data),
                    "created": now,
                    "state": deliveries.DISABLED if gone else deliveries.PENDING,
                    "due": now + wait,
                    "ended": now if gone else None,
                },
            )
        # Whatever is committed later than this is found a moment later.
        asyncio.get_running_loop().call_later(_SOON, self.filled.set)

    def _receivers(
        self, owner: str, url: str | None, event: str, secret: Secret | None
    ) -> Iterator[dict[str, Any]]:
        """What a row says of each."""
        for name, receiver in self.receivers.wanting(event).items():
            yield {
                "endpoint": name,
                "url": receiver.url,
                "host": host(receiver.url),
                "receiver": receiver.name,
            }
        if url is not None:
            yield {
                "url": url,
                "host": host(url),
                "receiver": callback_name(owner, url),
                "secret": secret.reveal() if secret else None,
            }


OUTBOX: Final = web.AppKey("outbox", Outbox)
