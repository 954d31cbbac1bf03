"""The log of callbacks, a job at a time, and sending one of them again."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import Any, Final

import msgspec
from aiohttp import web

from lmaas.producer.gateway.access import FOLLOW, owner_of
from lmaas.producer.gateway.app_keys import STATE
from lmaas.producer.gateway.callbacks.outbox import OUTBOX
from lmaas.producer.gateway.failures import HttpError
from lmaas.producer.gateway.jobs.views import found
from lmaas.producer.gateway.routes import Route, json_response
from lmaas.producer.gateway.state import deliveries as table


class Try(msgspec.Struct):
    """One request to the receiver. Times are Unix seconds."""

    number: int
    at: float
    seconds: float
    #: Without an answer: null.
    status: int | None
    #: In words; null: it was received.
    error: str | None


class Delivery(msgspec.Struct):
    """An event on its way to one receiver. Times are Unix seconds."""

    #: The `webhook-id` of each try.
    id: str
    job: str
    event: str
    #: The endpoint of the settings; null: the job's own callback, at `url`.
    endpoint: str | None
    url: str | None
    #: "pending", "delivered", "failed" (all tries did) or "disabled" (the receiver said 410).
    state: str
    created: float
    #: When it is tried again.
    next_try: float | None
    ended: float | None
    tries: list[Try]


class Deliveries(msgspec.Struct):
    """Those of a job, the oldest first."""

    deliveries: list[Delivery]


async def of_job(request: web.Request) -> web.Response:
    job = await found(request)
    async with request.app[STATE].reading() as connection:
        rows = await table.of_job(connection, job.owner, job.id)
    return json_response(Deliveries([_told(row) for row in rows]))


async def redeliver(request: web.Request) -> web.Response:
    name, owner = request.match_info["id"], owner_of(request)
    async with request.app[STATE].writing() as connection:
        if not await table.again(connection, owner, name, time.time()):
            raise HttpError(HTTPStatus.NOT_FOUND, "not_found", f"there is no delivery {name!r}")
        row = await table.one(connection, owner, name)
    request.app[OUTBOX].filled.set()
    return json_response(_told(row or {}), HTTPStatus.ACCEPTED)


def _told(row: dict[str, Any]) -> Delivery:
    """The URL of an endpoint is of the operator's settings, and no caller's to know."""
    return msgspec.convert(
        {
            **row,
            "url": None if row["endpoint"] else row["url"],
            "next_try": row["due"] if row["state"] == table.PENDING else None,
        },
        Delivery,
    )


ROUTES: Final = (
    Route(
        "GET",
        "/v1/jobs/{id}/deliveries",
        of_job,
        "The callbacks of a job, with each try",
        scope=FOLLOW,
        gives=Deliveries,
        others={404: "there is no such job, or it is somebody else's"},
    ),
    Route(
        "POST",
        "/v1/deliveries/{id}/redeliver",
        redeliver,
        "Send a callback again",
        scope=FOLLOW,
        gives=Delivery,
        status=HTTPStatus.ACCEPTED,
        others={404: "there is no such delivery, or it is somebody else's"},
        notes="It is sent at once, with all tries of the schedule ahead, also to a receiver "
        "that has answered 410. One that is being sent at this moment goes on as it is.",
    ),
)
