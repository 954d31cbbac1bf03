"""`/v1/batches`: the lines of a file as one job, answered by two files."""

from __future__ import annotations

import re
import secrets
import time
from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web

from lmaas.broker_config.masked import Masked
from lmaas.producer.gateway.access import JOBS, owner_of
from lmaas.producer.gateway.app_keys import STATE
from lmaas.producer.gateway.bodies import json_body
from lmaas.producer.gateway.callbacks.outbox import OUTBOX
from lmaas.producer.gateway.failures import HttpError
from lmaas.producer.gateway.jobs.collecting import COLLECTING
from lmaas.producer.gateway.openai_batches.answers import ENDPOINTS
from lmaas.producer.gateway.openai_batches.files import ExpiresAfter, unknown
from lmaas.producer.gateway.openai_batches.protocol import PROTOCOL, bad, query_of
from lmaas.producer.gateway.openai_batches.work import BATCHES
from lmaas.producer.gateway.routes import Route, json_response
from lmaas.producer.gateway.secret import Secret
from lmaas.producer.gateway.state import batches as table
from lmaas.producer.gateway.state import files as files_table
from lmaas.producer.gateway.state import jobs as jobs_table
from lmaas.producer.gateway.state.batches import Batch, Problem
from lmaas.producer.gateway.state.jobs import Counted

#: Seconds in which the same request is the same batch: clients repeat it without saying so.
REPEATS: Final = 60.0
_PAIRS: Final = 16
_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_WINDOW: Final = re.compile(r"([1-9]\d{0,5})([smhd])")

_Name = Annotated[str, msgspec.Meta(max_length=64)]
_Value = Annotated[str, msgspec.Meta(max_length=512)]


class BatchCall(Masked, msgspec.Struct, kw_only=True):
    """The body of `POST /v1/batches`."""

    input_file_id: str
    #: /v1/classifications or /v1/moderations.
    endpoint: str
    #: What is not done by then is given up: "24h", or another number of s, m, h or d.
    completion_window: str
    metadata: Annotated[dict[_Name, _Value], msgspec.Meta(max_length=_PAIRS)] | None = None
    output_expires_after: ExpiresAfter | None = None
    #: Where the end of the batch is told, and by which secret that is signed.
    callback_url: str | None = None
    callback_secret: str | None = None


class Problems(msgspec.Struct):
    """Why a batch has failed."""

    data: list[Problem]
    object: str = "list"


class Counts(msgspec.Struct):
    """Lines of a batch: in all, with an answer, and with an error."""

    total: int
    completed: int
    failed: int


class BatchView(msgspec.Struct, kw_only=True):
    """How far a batch is. Times are Unix seconds."""

    id: str
    object: str = "batch"
    endpoint: str
    model: str | None
    errors: Problems | None
    input_file_id: str
    completion_window: str
    status: str
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: Counts
    metadata: dict[str, str] | None


class BatchList(msgspec.Struct):
    """A page of batches, the newest first; `last_id` as `after` gives the one behind it."""

    data: list[BatchView]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: str = "list"


class _Query(msgspec.Struct):
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 20
    after: str | None = None


_body: Final = msgspec.json.Decoder(BatchCall)


def view(batch: Batch, job: Counted | None) -> BatchView:
    """A batch as callers see it, with the counts of its job."""

    def at(moment: float | None) -> int | None:
        return None if moment is None else int(moment)

    def ended(state: str) -> int | None:
        return at(batch.ended) if batch.state == state else None

    problems = batch.errors
    if batch.sealed is not None:
        problems = [Problem(batch.sealed.code, str(batch.sealed))]
    return BatchView(
        id=batch.id,
        endpoint=batch.endpoint,
        model=batch.model,
        errors=Problems(problems) if problems else None,
        input_file_id=batch.input_file,
        completion_window=batch.completion_window,
        status=batch.state,
        output_file_id=batch.output_file,
        error_file_id=batch.error_file,
        created_at=int(batch.created),
        in_progress_at=at(batch.begun),
        expires_at=int(batch.due),
        finalizing_at=at(batch.finalizing),
        completed_at=ended("completed"),
        failed_at=ended("failed"),
        expired_at=ended("expired"),
        cancelling_at=at(batch.cancelling),
        cancelled_at=ended("cancelled"),
        request_counts=_counts(batch, job),
        metadata=batch.metadata,
    )


def _counts(batch: Batch, job: Counted | None) -> Counts:
    """Until it has ended, lines with several inputs are counted by the share of their items."""
    total = batch.lines or 0
    if batch.done is not None and batch.failed is not None:
        return Counts(total, batch.done, batch.failed)
    if job is None or not job.items:
        return Counts(total, 0, 0)
    failed = job.failed * total // job.items
    return Counts(total, job.done * total // job.items - failed, failed)


async def create(request: web.Request) -> web.Response:
    """The lines are looked at later: what is wrong with them is told by the batch."""
    call, owner, now = await json_body(request, _body), owner_of(request), time.time()
    if call.endpoint not in ENDPOINTS:
        known = " or ".join(ENDPOINTS)
        raise bad("endpoint", f"endpoint {call.endpoint!r} must be {known}")
    _check_callback(request, call)
    batch = Batch(
        id=f"batch_{secrets.token_hex(12)}",
        owner=owner,
        state="validating",
        endpoint=call.endpoint,
        input_file=call.input_file_id,
        completion_window=call.completion_window,
        metadata=call.metadata,
        keep_output=None
        if call.output_expires_after is None
        else call.output_expires_after.seconds,
        callback_url=call.callback_url,
        callback_secret=call.callback_secret,
        created=now,
        due=now + _window(call.completion_window),
    )
    async with request.app[STATE].writing() as connection:
        file = await files_table.one(connection, batch.input_file, owner, lock=True)
        if file is None or file.purpose != "batch":
            raise unknown(batch.input_file, HTTPStatus.BAD_REQUEST, "input_file_id")
        same = await table.same(
            connection, owner, batch.input_file, batch.endpoint, since=now - REPEATS
        )
        if same is None:
            await table.add(connection, batch)
    if same is not None:
        return await _told(request, same)
    request.app[BATCHES].wake()
    return json_response(view(batch, None))


def _window(text: str) -> float:
    found = _WINDOW.fullmatch(text)
    if found is None:
        told = f"completion_window {text!r} must be a number of s, m, h or d, as 24h"
        raise bad("completion_window", told)
    return float(found[1]) * _UNITS[found[2]]


def _check_callback(request: web.Request, call: BatchCall) -> None:
    if call.callback_url is None:
        return
    try:
        secret = None if call.callback_secret is None else Secret(call.callback_secret)
        receivers = request.app[OUTBOX].receivers
        receiver = receivers.callback(owner_of(request), call.callback_url, secret)
        receiver.scheme.sign("check", 0, b"")
    except ValueError as error:
        raise bad("callback_url", str(error)) from error


async def _told(request: web.Request, batch: Batch) -> web.Response:
    async with request.app[STATE].reading() as connection:
        jobs = await jobs_table.counted(connection, [batch.job] if batch.job else [])
    return json_response(view(batch, jobs.get(batch.job or "")))


async def every(request: web.Request) -> web.Response:
    query = query_of(request, _Query)
    async with request.app[STATE].reading() as connection:
        found = await table.page(
            connection, owner_of(request), limit=query.limit + 1, after=query.after
        )
        shown = found[: query.limit]
        jobs = await jobs_table.counted(connection, [one.job for one in shown if one.job])
    data = [view(batch, jobs.get(batch.job or "")) for batch in shown]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return json_response(BatchList(data, first, last, len(found) > query.limit))


async def _found(request: web.Request) -> Batch:
    """The batch that the path names. Raises HttpError 404 for what this caller does not have."""
    name = request.match_info["id"]
    async with request.app[STATE].reading() as connection:
        batch = await table.one(connection, name, owner_of(request))
    if batch is None:
        raise HttpError(
            HTTPStatus.NOT_FOUND, "batch_not_found", f"there is no batch {name!r}", param="id"
        )
    return batch


async def one(request: web.Request) -> web.Response:
    return await _told(request, await _found(request))


async def cancel(request: web.Request) -> web.Response:
    """It is cancelled within moments; what was done by then is kept."""
    batch = await _found(request)
    while batch.state in {"validating", "in_progress"}:
        async with request.app[STATE].writing() as connection:
            if batch.job is not None:  # jobs first, as everywhere, so that nobody waits for ever
                await jobs_table.cancel(connection, batch.job)
            cancelled = await table.cancel(connection, batch, time.time())
        batch = cancelled or await _found(request)
    if batch.state in {"completed", "failed", "expired"}:
        raise HttpError(
            HTTPStatus.CONFLICT,
            "batch_has_ended",
            f"batch {batch.id!r} is {batch.state}, and cannot be cancelled any more",
            headers=(("x-should-retry", "false"),),
        )
    request.app[BATCHES].wake()
    request.app[COLLECTING].wake()
    return await _told(request, batch)


_UNKNOWN: Final = {404: "there is no such batch, or it is somebody else's"}


def _route(method: str, path: str, handler: Any, summary: str, **options: Any) -> Route:
    return Route(method, path, handler, summary, scope=JOBS, protocol=PROTOCOL, **options)


ROUTES: Final = (
    _route(
        "POST",
        "/v1/batches",
        create,
        "Make a batch of a file",
        takes=BatchCall,
        gives=BatchView,
        others={400: "a field is wrong, or there is no such file"},
        notes="The same file and endpoint again within a minute are the same batch. Lines that are "
        "wrong are told by the batch, whose status is `failed` then.",
    ),
    _route(
        "GET",
        "/v1/batches",
        every,
        "Your batches, the newest first",
        gives=BatchList,
        query=_Query,
        others={400: "a parameter of the query is wrong"},
        notes="`limit` (1 to 100), `after` (an id).",
    ),
    _route("GET", "/v1/batches/{id}", one, "How far a batch is", gives=BatchView, others=_UNKNOWN),
    _route(
        "POST",
        "/v1/batches/{id}/cancel",
        cancel,
        "Cancel a batch",
        gives=BatchView,
        others=_UNKNOWN | {409: "it has ended"},
    ),
)
