"""`GET /v1/jobs/{id}/results`: as they come, from any offset; or as one file in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import uuid
from collections.abc import AsyncGenerator
from http import HTTPStatus
from io import BufferedReader
from pathlib import Path
from typing import Annotated, Final

import msgspec
from aiohttp import hdrs, web

from lmaas.broker_config.errors import DataError
from lmaas.producer.collect import write_results
from lmaas.producer.gateway.access import FOLLOW
from lmaas.producer.gateway.app_keys import STOPPING
from lmaas.producer.gateway.failures import RETRY_AFTER, HttpError
from lmaas.producer.gateway.jobs.collecting import COLLECTING
from lmaas.producer.gateway.jobs.result_file import end_of, in_order, index_path, lines_path
from lmaas.producer.gateway.jobs.views import found
from lmaas.producer.gateway.routes import Route
from lmaas.producer.gateway.state.jobs import Job
from lmaas.producer.tables import Place
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
    folder = request.app[COLLECTING].folder
    offset, end = query.offset, await asyncio.to_thread(_end, folder, job)
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
    async with streaming(request, response):
        async with _opened(lines_path(folder, job.id)) as reader:
            offset = await reader.send(response, offset, end)
            while query.follow:
                # The state first: when it says that the job has ended, so has the file.
                is_ended = (await found(request)).is_ended
                end = await asyncio.to_thread(end_of, folder, job.id)
                offset = await reader.send(response, offset, end)
                if is_ended:
                    break
                await pause(request, PAUSE)
        await response.write_eof()
    return response


def _end(folder: Path, job: Job) -> int:
    """As `end_of`. Raises HttpError 410 when files are not there that were."""
    files = (lines_path(folder, job.id), index_path(folder, job.id))
    if job.done and not all(file.exists() for file in files):
        raise HttpError(
            HTTPStatus.GONE,
            "results_lost",
            f"the results of job {job.id} are not there any more: somebody has deleted their files "
            "from the gateway's state folder; submit the job again",
        )
    return end_of(folder, job.id)


class _Reader:
    """A file of results that is still written; it is not there before the first of them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.file: BufferedReader | None = None

    async def send(self, response: web.StreamResponse, offset: int, end: int) -> int:
        """What is between; returns the end."""
        if self.file is None and offset < end:
            self.file = await opened(lambda: self._path.open("rb"), BufferedReader.close)
        while self.file is not None and offset < end:
            size = min(_PIECE, end - offset)
            piece = await asyncio.to_thread(os.pread, self.file.fileno(), size, offset)
            if not piece:
                raise OSError(f"{self._path} was cut")
            await response.write(piece)
            offset += len(piece)
        return offset


@contextlib.asynccontextmanager
async def _opened(path: Path) -> AsyncGenerator[_Reader, None]:
    reader = _Reader(path)
    try:
        yield reader
    finally:
        if reader.file is not None:
            reader.file.close()


@contextlib.asynccontextmanager
async def streaming(
    request: web.Request, response: web.StreamResponse
) -> AsyncGenerator[None, None]:
    """An answer that has begun: what fails now can only be seen from its missing end."""
    await response.prepare(request)
    try:
        yield
    except ConnectionError:
        """The caller has left."""
    except Exception as error:
        if not isinstance(error, HttpError):  # the job was deleted meanwhile, or we are stopped
            log.error(
                "%s %s", request.method, request.path, exc_info=error, extra={"action": "bug"}
            )
        if request.transport is not None:
            request.transport.abort()


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
    path = await asyncio.to_thread(_converted, request.app[COLLECTING].folder, job, form)
    headers = {
        hdrs.CONTENT_TYPE: FORMATS[form],
        hdrs.CONTENT_DISPOSITION: f'attachment; filename="{job.id}.{form}"',
    }
    return web.FileResponse(path, headers=headers)


def _converted(folder: Path, job: Job, form: str) -> Path:
    """The results in their order, which is made once. Raises HttpError 410 or 503, and OSError."""
    path = folder / f"{job.id}.{form}"
    if not path.exists():
        _end(folder, job)
        mine = folder / f"{job.id}.{uuid.uuid4().hex}.{form}"
        try:
            write_results(in_order(folder, job.id), Place.to(str(mine)))
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
