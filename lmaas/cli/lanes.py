"""Lanes on the broker of `lmaas up`, which workers may not make: its operator makes them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Self

from lmaas.broker_config.connection import harmless_when_gone
from lmaas.broker_config.declaring import ensure
from lmaas.broker_config.errors import BrokerUnavailable
from lmaas.broker_config.hosts import connect
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import topology
from lmaas.workers.repository import Repository

log = logging.getLogger(__name__)


class Lanes:
    """Of all that workers with these settings serve; `served` are the models that were named."""

    def __init__(self, settings: Settings, served: Sequence[str] = ()) -> None:
        """`settings` have the operator's login."""
        self._settings = settings
        self._served = tuple(served)
        self._made: frozenset[str] = frozenset()
        self._making = asyncio.Lock()

    @classmethod
    def for_worker(
        cls, settings: Settings, served: Sequence[str], arguments: dict[str, Any]
    ) -> Self | None:
        """None for a worker with a broker that was named, where it makes what it may by itself."""
        operator = Settings.load("operator", **arguments)
        is_named = operator.broker_url == settings.broker_url
        return None if is_named else cls(operator, served)

    async def make(self) -> None:
        """Those that are missing.

        Raises BrokerRefused and TopologyMismatch; BrokerUnavailable the first time only: later
        there are workers, which wait for the broker.
        """
        async with self._making:
            models = frozenset(self._served or await asyncio.to_thread(self._found))
            if models == self._made:
                return
            try:
                with harmless_when_gone("lanes"):
                    await self._declare(models)
                    self._made = models
            except BrokerUnavailable as error:
                if not self._made:
                    raise
                log.warning("%s", error, extra={"action": "lanes_not_made"})

    def _found(self) -> tuple[str, ...]:
        return tuple(Repository(*self._settings.model_folders).models())

    async def _declare(self, models: frozenset[str]) -> None:
        own = self._settings
        wanted = topology(own.names, own.queue_type, sorted(models), own.retry_delays)
        async with await connect(own, name="lmaas lanes") as connection:
            await ensure(connection, wanted)
