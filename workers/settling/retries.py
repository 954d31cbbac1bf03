"""Packs that are tried again later: a copy into a retry queue, from which it comes back."""

from __future__ import annotations

import logging
import random
import time

import msgspec

from lmaas.broker_config import tracing
from lmaas.broker_config.copies import copied
from lmaas.broker_config.errors import MessageError
from lmaas.broker_config.messages import ItemError
from lmaas.broker_config.retry import delay
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import routing_key
from lmaas.workers import metrics
from lmaas.workers.delivery import Delivery
from lmaas.workers.settling.outgoing import Outgoing
from lmaas.workers.settling.reasons import Reasons

log = logging.getLogger(__name__)


class Retries:
    """Of one worker."""

    def __init__(self, settings: Settings, outgoing: Outgoing, reasons: Reasons) -> None:
        self._settings = settings
        self._names = settings.names
        self._outgoing = outgoing
        self._reasons = reasons

    async def later(self, delivery: Delivery, error: ItemError) -> bool:
        """Whether it is tried again: `broker_config.retry` says if that has any use."""
        chosen = self._delay(delivery, error)
        if chosen is None:
            return False
        headers = delivery.headers
        changed = msgspec.structs.replace(
            headers,
            attempt=headers.attempt + 1,
            published_ms=int(delivery.published * 1000),
            **self._reasons.headers(delivery, error),
        )
        log.warning(
            "retry in %s after try %d: %s",
            chosen,
            headers.attempt,
            self._reasons.shown(delivery, error),
            extra={"action": "retry_later", "code": error.code, **tracing.context(headers)},
        )
        # The key of the lane that all share, also for one that came by a worker's own.
        key = routing_key(delivery.model, delivery.lane)
        copy = copied(delivery.message, changed)
        try:
            retry = self._names.retry(delivery.model, chosen)
            await self._outgoing.publish(delivery, retry, key, copy)
        except MessageError:  # then it is not dead-lettered by us either
            return False
        metrics.retried(chosen, error.code)
        return True

    def _delay(self, delivery: Delivery, error: ItemError) -> str | None:
        headers, now = delivery.headers, time.time()
        return delay(
            error.code,
            headers.attempt,
            delays=self._settings.retry_delays,
            most=self._settings.max_attempts,
            age=now - delivery.published,
            left=headers.deadline_ms / 1000 - now if headers.deadline_ms else None,
            roll=random.random(),
        )
