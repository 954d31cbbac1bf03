"""The answer to who submits a job, by any route."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from aiohttp import hdrs, web
from sqlalchemy.ext.asyncio import AsyncConnection

from lmaas.producer.gateway.access import owner_of
from lmaas.producer.gateway.idempotency import Note
from lmaas.producer.gateway.jobs.accepting import Asked, accept
from lmaas.producer.gateway.jobs.views import path_of, view
from lmaas.producer.gateway.routes import json_response
from lmaas.producer.gateway.state.jobs import Job
from lmaas.producer.packing import Entries
from lmaas.producer.tables.taking import PassedOver


async def submitted(
    request: web.Request,
    asked: Asked,
    items: Entries,
    note: Note | None = None,
    count: Callable[[int], None] | None = None,
    *,
    owner: str | None = None,
    passed_over: Callable[[], PassedOver | None] = lambda: None,
) -> web.Response:
    """202 with the job, which is accepted when this returns. Raises as `accept`.

    `count` is told the number of its items. `owner`: whose it is, if not the caller's.
    `passed_over` tells the files that are none of its items, once all of these are published.
    """
    whose = owner_of(request) if owner is None else owner
    answers: list[web.Response] = []

    async def accepted(connection: AsyncConnection, job: Job) -> None:
        answers.append(_answer(request, job, passed_over()))
        if note is not None:
            await note(connection, answers[0])

    job = await accept(request.app, whose, asked, items, accepted)
    if count is not None:
        count(job.items or 0)
    return answers[0]


def _answer(request: web.Request, job: Job, passed_over: PassedOver | None) -> web.Response:
    headers = {str(hdrs.LOCATION): path_of(request, job.id)}
    told = view(request, job)
    told.passed_over = passed_over
    return json_response(told, HTTPStatus.ACCEPTED, headers)
