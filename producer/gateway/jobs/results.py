"""`GET /v1/jobs/{id}/results`: as they come, from any offset; or as one file in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Final

import msgspec
from aiohttp import hdrs, web

from lmaas.broker_config.errors import DataError
from lmaas.producer.gateway.access import FOLLOW
from lmaas.producer.gateway.app_keys import STATE, STOPPING
from lmaas.producer.gateway.failures import RETRY_AFTER, HttpError
from lmaas.producer.gateway.jobs.converting import convert
from lmaas.producer.gateway.jobs.result_format import index_path, lines_path
from lmaas.producer.gateway.jobs.result_reader import ResultReader, end_of
from lmaas.producer.gateway.jobs.views import found
from lmaas.producer.gateway.routes import Route
from lmaas.producer.gateway.sending import send_file, streaming
from lmaas.producer.gateway.state import State
from lmaas.producer.gateway.state.jobs import Job
from lmaas.producer.threads import opened

log = logging.getLogger(__name__)

NDJSON: Final = "application/x-ndjson"
#: Format -> media type; the first one is for who asks for nothing.
FORMATS: Final = {"ndjson": NDJSON, "csv": "text/csv", "parquet": "application/vnd.apache.parquet"}
#: Where the next request for more begins.
NEXT: Final = "Lmaas-Next-Offset"
#: Seconds between two looks for more.
PAUSE: Final = 0.2
_PIECE: Final = 256 * 1024


class _Query(msgspec.Struct):
    offset: Annotated[int, msgspec.Meta(ge=0)] = 0
    follow: bool = False
    format: str | None = None


async def results(request: web.Request) -> web.StreamResponse:
    try:
        query = msgspec.convert(dict(request.query), _Query, strict=False)
    except msgspec.ValidationError as error:
        raise HttpError(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", str(error)) from error
    form = _format(request, query.format)
    job = await found(request)
    if form == "ndjson":
        return await _lines(request, job, query)
    return await _file(request, job, form)


def _format(request: web.Request, named: str | None) -> str:
    """Raises HttpError 406."""
    if named in FORMATS:
        return named
    accepted = request.headers.get(hdrs.ACCEPT, "*/*").lower()
    for form, media_type in FORMATS.items():
        if named is None and media_type in accepted:
            return form
    if named is None and any(one in accepted for one in ("*/*", "application/*", "json")):
        return "ndjson"
    raise HttpError(
        HTTPStatus.NOT_ACCEPTABLE,
        "not_acceptable",
        f"results are {', '.join(FORMATS.values())}; say which in Accept, or as format",
    )


async def _lines(request: web.Request, job: Job, query: _Query) -> web.StreamResponse:
    state = request.app[STATE]
    offset, end = query.offset, await asyncio.to_thread(_end, state, job)
    if offset > end:
        raise HttpError(
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            "no_such_offset",
            f"offset {offset:,} is behind the end of the results so far, {end:,}",
        )
    response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: NDJSON})
    if not query.follow:
        response.content_length = end - offset
        response.headers[NEXT] = str(end)
    with contextlib.closing(_Reader(state, job.id)) as reader:
        await reader.begin(offset, end)
        async with streaming(request, response):
            offset = await reader.send(response, offset, end)
            while query.follow:
                # The state first: when it says that the job has ended, so has the file.
                is_ended = (await found(request)).is_ended
                end = await asyncio.to_thread(end_of, state.results, job.id)
                offset = await reader.send(response, offset, end)
                if is_ended:
                    break
                await pause(request, PAUSE)
            await response.write_eof()
    return response


def _end(state: State, job: Job) -> int:
    """As `end_of`. Raises HttpError 410 when files are not there that were, and SealError."""
    folder = state.results
    files = (lines_path(folder, job.id), index_path(folder, job.id))
    if job.done and not all(file.exists() for file in files):
        raise HttpError(
            HTTPStatus.GONE,
            "results_lost",
            f"the results of job {job.id} are not there any more: somebody has deleted their files "
            "from the gateway's state folder; submit the job again",
        )
    if job.done and job.is_ended:
        with ResultReader(folder, job.id, state.at_rest) as reader:
            reader.check_end()
    return end_of(folder, job.id)


class _Reader:
    """Results that still come; their file is not there before the first of them."""

    def __init__(self, state: State, job: str) -> None:
        self._state = state
        self._job = job
        self._file: ResultReader | None = None

    def _open(self, offset: int) -> ResultReader:
        reader = ResultReader(self._state.results, self._job, self._state.at_rest)
        try:
            reader.read(offset, 1)
        except BaseException:
            reader.close()
            raise
        return reader

    async def begin(self, offset: int, end: int) -> None:
        """What cannot be opened is told before the answer has begun. Raises OSError, SealError."""
        if self._file is None and offset < end:
            self._file = await opened(lambda: self._open(offset), ResultReader.close)

    async def send(self, response: web.StreamResponse, offset: int, end: int) -> int:
        """What is between; returns the end."""
        await self.begin(offset, end)
        while self._file is not None and offset < end:
            piece = await asyncio.to_thread(self._file.read, offset, min(_PIECE, end - offset))
            if not piece:
                raise OSError(f"the file of the results of job {self._job} was cut")
            await response.write(piece)
            offset += len(piece)
        return offset

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


async def pause(request: web.Request, seconds: float) -> None:
    """Raises HttpError when the gateway is stopped."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await request.app[STOPPING].wait()
    if request.app[STOPPING].is_set():
        raise HttpError(HTTPStatus.SERVICE_UNAVAILABLE, "stopping", "the gateway is stopped")


async def _file(request: web.Request, job: Job, form: str) -> web.StreamResponse:
    if not job.is_ended:
        raise HttpError(
            HTTPStatus.CONFLICT,
            "not_finished",
            f"job {job.id} is {job.state}; {FORMATS[form]} is there when it has ended, "
            f"{NDJSON} as results come",
            retry_after=1.0,
        )
    state = request.app[STATE]
    path = await asyncio.to_thread(_converted, state, job, form)
    headers = {
        hdrs.CONTENT_TYPE: FORMATS[form],
        hdrs.CONTENT_DISPOSITION: f'attachment; filename="{job.id}.{form}"',
    }
    return await send_file(request, state.at_rest, path, f"results/{path.name}", headers)


def _converted(state: State, job: Job, form: str) -> Path:
    """The results in their order, which is made once.

    Raises HttpError 410 or 503, OSError, and SealError.
    """
    path = state.results / f"{job.id}.{form}"
    if not path.exists():
        _end(state, job)
        mine = state.results / f"{job.id}.{uuid.uuid4().hex}.{form}"
        try:
            convert(state, job.id, mine, f"results/{path.name}")
            mine.replace(path)
        except DataError as error:  # of the file that is written: it is not the caller's fault
            why = getattr(error.__cause__, "strerror", None) or error
            raise HttpError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "state_unavailable",
                f"the file of the results cannot be written in the gateway's state folder: {why}; "
                f"{NDJSON} needs none",
                RETRY_AFTER,
            ) from error
        finally:
            mine.unlink(missing_ok=True)
    return path


ROUTES: Final = (
    Route(
        "GET",
        "/v1/jobs/{id}/results",
        results,
        "The results of a job",
        scope=FOLLOW,
        query=_Query,
        sends=tuple(FORMATS.values()),
        others={
            404: "there is no such job, or it is somebody else's",
            406: "there are no results of this media type",
            409: "the job has not ended, and so there is no file yet",
            410: "somebody has deleted the results from the gateway's state folder",
            416: "there are not so many bytes",
            422: "a parameter of the query is wrong",
            503: "the file cannot be written, because the gateway's disk is full or only read",
        },
        notes="NDJSON (application/x-ndjson): a line for each result, in the order in which they "
        "come. `offset` leaves out so many bytes, which never change any more: the header "
        f"{NEXT} says where to go on. With `follow=true` the answer ends with the job. Of an id "
        "that is there twice because a dead letter was replayed, the last line counts. When the "
        "job has ended, Accept (or `format`) may ask for text/csv or "
        "application/vnd.apache.parquet, in the order of the job.",
    ),
)
