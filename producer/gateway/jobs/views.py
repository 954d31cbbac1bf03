"""`GET /v1/jobs`, `GET /v1/jobs/{id}`, `DELETE /v1/jobs/{id}`: how far jobs are, and no further."""

from __future__ import annotations

import asyncio
import re
import time
from http import HTTPStatus
from typing import Annotated, Final

import msgspec
from aiohttp import web

from lmaas.producer.gateway.access import FOLLOW, owner_of
from lmaas.producer.gateway.app_keys import STATE
from lmaas.producer.gateway.failures import HttpError
from lmaas.producer.gateway.jobs.collecting import COLLECTING
from lmaas.producer.gateway.routes import Route, json_response
from lmaas.producer.gateway.state import jobs as table
from lmaas.producer.gateway.state.jobs import Failed, Job, JobState
from lmaas.producer.tables.taking import PassedOver

#: Seconds that a caller who cancels waits to hear that it is done.
PATIENCE: Final = 5.0
_PAUSE: Final = 0.05


class Links(msgspec.Struct):
    """Paths."""

    self: str
    results: str
    events: str


class JobView(msgspec.Struct):
    """How far a job is. Times are Unix seconds."""

    id: str
    #: submitting, running, cancelling, finished, cancelled or failed.
    state: JobState
    model: str
    version: str | None
    created: float
    #: When it was accepted.
    submitted: float | None
    ended: float | None
    #: When it is forgotten, with its results.
    expires: float | None
    #: In all; those that have a result; and those whose result is an error.
    items: int | None
    done: int
    failed: int
    #: Items a second since it was accepted, and seconds until the last one at this rate.
    rate: float | None
    seconds_left: float | None
    #: The first items that failed.
    errors: list[Failed]
    #: Why the job as a whole has failed.
    reason: str | None
    callback_url: str | None
    links: Links
    #: In the answer to who submits an archive or a form: its files that are no items of the model.
    passed_over: PassedOver | None = None


class Page(msgspec.Struct):
    """Jobs, the newest first."""

    jobs: list[JobView]
    #: The path of the page after this one; null: there is none.
    next: str | None


class _Query(msgspec.Struct):
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 20
    after: str | None = None


def path_of(request: web.Request, job: str) -> str:
    """Where a job is, also where the gateway is mounted in another application."""
    mounted = re.split("/v1/|/hooks/", request.path, maxsplit=1)[0]
    return f"{mounted}/v1/jobs/{job}"


def view(request: web.Request, job: Job) -> JobView:
    """A job as callers see it."""
    rate = left = None
    if job.submitted is not None and job.done:
        rate = job.done / max(1e-3, (job.ended or time.time()) - job.submitted)
        if not job.is_ended and job.items is not None:
            left = round((job.items - job.done) / rate, 3)
    path = path_of(request, job.id)
    return JobView(
        id=job.id,
        state=job.state,
        model=job.model,
        version=job.version,
        created=job.created,
        submitted=job.submitted,
        ended=job.ended,
        expires=job.expires,
        items=job.items,
        done=job.done,
        failed=job.failed,
        rate=None if rate is None else round(rate, 3),
        seconds_left=left,
        errors=job.errors,
        reason=job.reason if job.sealed is None else str(job.sealed),
        callback_url=job.callback_url,
        links=Links(path, f"{path}/results", f"{path}/events"),
    )


async def found(request: web.Request) -> Job:
    """The job that the path names. Raises HttpError 404 for what this caller does not have."""
    name = request.match_info["id"]
    async with request.app[STATE].reading() as connection:
        job = await table.one(connection, name, owner_of(request))
    if job is None:
        raise HttpError(HTTPStatus.NOT_FOUND, "not_found", f"there is no job {name!r}")
    return job


async def every(request: web.Request) -> web.Response:
    try:
        query = msgspec.convert(dict(request.query), _Query, strict=False)
    except msgspec.ValidationError as error:
        raise HttpError(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", str(error)) from error
    async with request.app[STATE].reading() as connection:
        jobs = await table.page(
            connection, owner_of(request), limit=query.limit + 1, after=query.after
        )
    following = None
    if len(jobs) > query.limit:
        jobs.pop()
        following = f"{request.path}?limit={query.limit}&after={jobs[-1].id}"
    return json_response(Page([view(request, job) for job in jobs], following))


async def one(request: web.Request) -> web.Response:
    return json_response(view(request, await found(request)))


async def cancel(request: web.Request) -> web.Response:
    """Whoever holds the job does it; mostly that is this gateway, within a moment."""
    job = await found(request)
    if not job.is_ended:
        async with request.app[STATE].writing() as connection:
            await table.cancel(connection, job.id)
        give_up = time.monotonic() + PATIENCE
        while not job.is_ended and time.monotonic() < give_up:
            request.app[COLLECTING].wake()
            await asyncio.sleep(_PAUSE)
            job = await found(request)
    status = HTTPStatus.OK if job.is_ended else HTTPStatus.ACCEPTED
    return json_response(view(request, job), status)


_UNKNOWN: Final = {404: "there is no such job, or it is somebody else's"}

ROUTES: Final = (
    Route(
        "GET",
        "/v1/jobs",
        every,
        "Your jobs, the newest first",
        scope=FOLLOW,
        gives=Page,
        query=_Query,
        others={422: "`limit` is not 1 to 100"},
        notes="`limit` jobs a page; `next` of the answer is the path of the page after it.",
    ),
    Route(
        "GET",
        "/v1/jobs/{id}",
        one,
        "How far a job is",
        scope=FOLLOW,
        gives=JobView,
        others=_UNKNOWN,
    ),
    Route(
        "DELETE",
        "/v1/jobs/{id}",
        cancel,
        "Cancel a job",
        scope=FOLLOW,
        gives=JobView,
        others=_UNKNOWN | {202: "it is cancelled as soon as the broker can be told"},
        bodies={202: JobView},
        notes="What is not done is dropped; results that are there stay. A job that has ended is "
        "left as it is.",
    ),
)
