"""A call: a few items, answered while the caller waits. Every protocol has them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from lmaas.broker_config.errors import TimeLimitExceeded
from lmaas.broker_config.messages import Item, Result
from lmaas.producer.client import Client
from lmaas.producer.gateway.app_keys import CARDS, CLIENT, CONGESTION
from lmaas.producer.gateway.failures import HttpError
from lmaas.producer.gateway.settings import GatewaySettings

#: So many items at most share messages with those of other callers; more have messages of their
#: own, which are ordered by what remains of the call.
SHARED: Final = 32


def check_count(items: int, settings: GatewaySettings) -> None:
    """Raises HttpError when one call may not have so many items."""
    if items > settings.max_call_items:
        raise HttpError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "too_many_items",
            f"{items:,} items; one call may have {settings.max_call_items:,} (setting "
            "gateway.max_call_items): send a job (POST /v1/jobs)",
        )


async def answered(
    app: web.Application,
    model: str,
    items: Sequence[Item],
    *,
    version: str | None,
    top_k: int,
    min_score: float | None = None,
    timeout: float,
    owner: str = "",
) -> list[Result]:
    """A result for each item, in their order; that of an item which failed has its error.

    `owner` is the id of the key by which it is asked for, which workers are told; messages that
    calls of several keys share count for the gateway.
    Cancelling it cancels what has not been run. Raises TimeLimitExceeded after `timeout` seconds,
    Busy when it would wait longer than the setting `busy_after`, ModelNotFound, BrokerError,
    HttpError 404 for a version that there is not.
    """
    await app[CARDS].check(model, version)
    congestion = app[CONGESTION]
    call = congestion.enter(model, len(items))
    is_answered = False
    try:
        results = await _asked(
            app[CLIENT],
            model,
            items,
            version=version,
            top_k=top_k,
            min_score=min_score,
            timeout=timeout,
            owner=owner,
        )
        is_answered = True
    except TimeLimitExceeded:
        is_answered = True  # as late as that, at least
        raise
    finally:
        congestion.leave(call, answered=is_answered)
    return results


async def _asked(
    client: Client,
    model: str,
    items: Sequence[Item],
    *,
    timeout: float,
    owner: str,
    **options: Any,
) -> list[Result]:
    options |= {"timeout": timeout, "tenant": owner or None}
    if len(items) <= SHARED:
        calls = [client.classify(model, one, errors="return", **options) for one in items]
        return await asyncio.gather(*calls) if len(calls) > 1 else [await calls[0]]
    try:
        async with (
            asyncio.timeout(timeout),
            contextlib.aclosing(client.classify_many(model, items, **options)) as results,
        ):
            return [result async for result in results]
    except TimeoutError as error:
        raise TimeLimitExceeded(f"not answered within {timeout:g} s") from error
