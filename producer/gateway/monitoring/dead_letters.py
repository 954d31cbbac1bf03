"""Dead letters as callers see them: one reads or changes them at a time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import web

from lmaas.broker_config.settings import Settings
from lmaas.producer.dead_letter import Filter, Summary
from lmaas.producer.dead_letters import Outcome, read
from lmaas.producer.gateway.failures import HttpError

Change = Callable[[Settings, Filter], Awaitable[Outcome]]


class Found(msgspec.Struct):
    """Dead letters, the oldest first."""

    dead_letters: list[Summary]
    #: Whether there are others behind them.
    more: bool


class Done(msgspec.Struct):
    """What has left the dead letter queue."""

    done: int


class DeadLetters:
    """The broker lets one read at a time, and so do we."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = asyncio.Lock()

    async def list(self, wanted: Filter, limit: int) -> Found:
        """Raises BrokerUnavailable, also while others read."""
        found: list[Summary] = []
        async with self._lock, contextlib.aclosing(read(self._settings, wanted)) as pages:
            async for page in pages:
                found += [one.summary for one in page]
                if len(found) > limit:
                    break
        return Found(found[:limit], len(found) > limit)

    async def change(self, change: Change, name: str) -> Done:
        """`replay` or `purge` what has this id. Raises HttpError 404 or 409, and what they do."""
        async with self._lock:
            outcome = await change(self._settings, Filter(ids=frozenset({name})))
        if outcome.unroutable:
            raise HttpError(
                HTTPStatus.CONFLICT,
                "unroutable",
                f"it stays: no worker has ever served {', '.join(outcome.unroutable)}",
            )
        if outcome.redacted:
            raise HttpError(
                HTTPStatus.CONFLICT,
                "redacted",
                "it stays: its texts were redacted (setting redact), so that there is nothing to "
                "send again",
            )
        if not outcome.done:
            raise HttpError(
                HTTPStatus.NOT_FOUND, "not_found", f"there is no dead letter {name!r} (any more)"
            )
        return Done(outcome.done)


DEAD_LETTERS: Final = web.AppKey("dead_letters", DeadLetters)
