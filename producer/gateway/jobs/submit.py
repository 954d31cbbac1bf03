"""`POST /v1/jobs`: items of any number, to be answered later."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from aiohttp import web

from lmaas.producer.gateway.access import JOBS, caller_of, owner_of
from lmaas.producer.gateway.callbacks.outbox import OUTBOX
from lmaas.producer.gateway.failures import HttpError
from lmaas.producer.gateway.forms import MULTIPART
from lmaas.producer.gateway.idempotency import HEADER, Note, once
from lmaas.producer.gateway.jobs.accepting import Asked
from lmaas.producer.gateway.jobs.submitted import submitted
from lmaas.producer.gateway.jobs.uploads import (
    MEDIA_TYPES,
    FileOptions,
    JobCall,
    check_deadline,
    received,
)
from lmaas.producer.gateway.jobs.views import JobView
from lmaas.producer.gateway.routes import Route
from lmaas.producer.gateway.secret import Secret


async def submit(request: web.Request) -> web.Response:
    """A caller that hangs up before the answer has no job."""
    async with received(request) as upload:

        async def do(note: Note | None) -> web.Response:
            check_deadline(upload.asked)
            _check_callback(request, upload.asked)
            count = caller_of(request).count_items
            return await submitted(
                request, upload.asked, upload.items, note, count, passed_over=upload.passed_over
            )

        return await once(request, upload.digest, do)


def _check_callback(request: web.Request, asked: Asked) -> None:
    """Raises HttpError (422) when the end of the job could not be told."""
    if asked.callback_url is None:
        return
    try:
        secret = Secret(asked.callback_secret) if asked.callback_secret else None
        request.app[OUTBOX].receivers.callback(owner_of(request), asked.callback_url, secret)
    except ValueError as error:
        raise HttpError(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", str(error)) from error


ROUTES: Final = (
    Route(
        "POST",
        "/v1/jobs",
        submit,
        "Submit a job",
        scope=JOBS,
        takes=JobCall,
        gives=JobView,
        query=FileOptions,
        headers=(HEADER,),
        reads=(*MEDIA_TYPES, MULTIPART),
        status=HTTPStatus.ACCEPTED,
        others={
            400: "the body cannot be read, or has no such column",
            404: "no worker has ever served the model, or none has this version of it",
            409: "the first request with this Idempotency-Key is still being worked on",
            413: "too many bytes or rows",
            415: "files of this type are not read",
            422: "the body has another structure, or the Idempotency-Key was used for another one",
            429: "too much work waits; see Retry-After",
            503: "the broker is away",
        },
        notes="It is accepted when the answer comes: the broker has all of it then. Besides JSON "
        "the body may be NDJSON (application/x-ndjson), a list of rows (application/json), CSV, "
        "TSV, Parquet, .xlsx, plain text, or a .zip or .tar(.gz) whose files are the items; "
        "then the query has `model`, and may have `version`, `top_k`, `min_score`, `priority`, "
        "`deadline`, `callback_url`, `text_column`, `pair_column` (second texts, for models that "
        "judge two together), `bytes_column` (of Parquet, for pictures or sounds), "
        "`id_column`, `format`, `delimiter`, `encoding`. Or it is a "
        "form (multipart/form-data) with a file and fields of these names; of several files, and "
        "of a picture or a sound, each is an item. A row that cannot be "
        "read gets an error as its result. With `Idempotency-Key` a request that is sent again is "
        "answered as the first time.",
    ),
)
