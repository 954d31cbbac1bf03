"""`GET /v1/usage`: what has been asked for with a key, by day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Final

import msgspec
from aiohttp import web

from lmaas.producer.gateway.access import caller_of
from lmaas.producer.gateway.api_keys import ANY
from lmaas.producer.gateway.app_keys import CALLERS, STATE
from lmaas.producer.gateway.failures import HttpError
from lmaas.producer.gateway.routes import Route, json_response
from lmaas.producer.gateway.state.usage import Day, since


class Usage(msgspec.Struct):
    """The newest day first; of one's own key, or with the scope `admin` of every key."""

    usage: list[Day]


class _Query(msgspec.Struct, forbid_unknown_fields=True):
    #: Today is one of them.
    days: Annotated[int, msgspec.Meta(ge=1, le=3660)] = 30


async def usage(request: web.Request) -> web.Response:
    caller = caller_of(request)
    try:
        query = msgspec.convert(dict(request.query), _Query, strict=False)
    except msgspec.ValidationError as error:
        raise HttpError(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", f"query: {error}") from error
    first = (datetime.now(UTC) - timedelta(days=query.days - 1)).date().isoformat()
    await request.app[CALLERS].flush()
    async with request.app[STATE].reading() as connection:
        days = await since(connection, first, None if caller.is_admin else caller.owner)
    return json_response(Usage(days))


ROUTES: Final = (
    Route(
        "GET",
        "/v1/usage",
        usage,
        "What has been asked for with a key, by day",
        scope=ANY,
        gives=Usage,
        query=_Query,
        others={422: "`days` is no number of days"},
        notes="Of the last 30 days (UTC), or of as many as the query `days` says. Items are those "
        "of calls and jobs; bytes those of bodies, decompressed; errors the requests that were "
        "answered with a status of 400 or more.",
    ),
)
