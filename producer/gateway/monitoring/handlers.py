"""`/v1/lanes`, `/v1/workers`, `/v1/failures` and `/v1/dead-letters`."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Final

import msgspec
from aiohttp import web

from lmaas.producer.dead_letter import Filter
from lmaas.producer.dead_letters import purge, replay
from lmaas.producer.gateway.access import ADMIN, CLASSIFY
from lmaas.producer.gateway.failures import HttpError
from lmaas.producer.gateway.monitoring.dead_letters import DEAD_LETTERS, Done, Found
from lmaas.producer.gateway.monitoring.looks import LOOKS, Lanes, Workers
from lmaas.producer.gateway.monitoring.recent import RECENT, Failures
from lmaas.producer.gateway.routes import Route, json_response


class _Query(msgspec.Struct):
    limit: Annotated[int, msgspec.Meta(ge=1, le=500)] = 100
    model: str | None = None
    error: str | None = None
    job: str | None = None


async def lanes(request: web.Request) -> web.Response:
    look = await request.app[LOOKS].now()
    return json_response(Lanes(look.lanes, look.dead_letters))


async def workers(request: web.Request) -> web.Response:
    return json_response(Workers((await request.app[LOOKS].now()).workers))


async def failures(request: web.Request) -> web.Response:
    return json_response(Failures(request.app[RECENT].failures))


async def dead_letters(request: web.Request) -> web.Response:
    try:
        query = msgspec.convert(dict(request.query), _Query, strict=False)
    except msgspec.ValidationError as error:
        raise HttpError(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", str(error)) from error
    wanted = Filter(model=query.model, error=query.error, job=query.job)
    return json_response(await request.app[DEAD_LETTERS].list(wanted, query.limit))


async def send_again(request: web.Request) -> web.Response:
    return json_response(await request.app[DEAD_LETTERS].change(replay, request.match_info["id"]))


async def drop(request: web.Request) -> web.Response:
    return json_response(await request.app[DEAD_LETTERS].change(purge, request.match_info["id"]))


_AWAY: Final = {
    503: "the broker is away, or somebody else reads dead letters at this moment; without "
    "`Retry-After`: the gateway's user of the broker may not read them"
}
_ONE: Final = {404: "there is no such dead letter", **_AWAY}

ROUTES: Final = (
    Route(
        "GET",
        "/v1/lanes",
        lanes,
        "What waits, by model and lane",
        scope=CLASSIFY,
        gives=Lanes,
        others={503: "the broker is away"},
    ),
    Route(
        "GET",
        "/v1/workers",
        workers,
        "The workers, and what each serves",
        scope=ADMIN,
        gives=Workers,
        others={503: "the broker is away"},
    ),
    Route(
        "GET",
        "/v1/failures",
        failures,
        "The items of calls that failed last",
        scope=ADMIN,
        gives=Failures,
        notes="Those that a worker answered with an error to this gateway, since it began. A job "
        "tells its own.",
    ),
    Route(
        "GET",
        "/v1/dead-letters",
        dead_letters,
        "What could not be done, and why",
        scope=ADMIN,
        gives=Found,
        query=_Query,
        others={422: "`limit` is not 1 to 500", **_AWAY},
        notes="`limit` at most, of one `model`, `error` or `job`. Bodies are not shown; "
        "`lmaas dead show` does.",
    ),
    Route(
        "POST",
        "/v1/dead-letters/{id}/replay",
        send_again,
        "Send a dead letter to its lane again",
        scope=ADMIN,
        gives=Done,
        others={409: "no queue takes it", 429: "its lane is full", **_ONE},
        notes="It begins anew, without a deadline. Where a job waits for it, its answer takes the "
        "place of the error.",
    ),
    Route(
        "DELETE",
        "/v1/dead-letters/{id}",
        drop,
        "Drop a dead letter for good",
        scope=ADMIN,
        gives=Done,
        others=_ONE,
    ),
)
