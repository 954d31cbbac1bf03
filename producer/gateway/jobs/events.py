"""`GET /v1/jobs/{id}/events`: how far a job is, told whenever that has changed."""

from __future__ import annotations

import time
from typing import Final

import msgspec
from aiohttp import hdrs, web

from lmaas.producer.gateway.access import FOLLOW
from lmaas.producer.gateway.jobs.results import pause
from lmaas.producer.gateway.jobs.views import JobView, found, view
from lmaas.producer.gateway.routes import Route
from lmaas.producer.gateway.sending import streaming

#: Seconds between two looks; and after which something is sent in any case, so that nobody between
#: takes the connection for dead.
PAUSE: Final = 0.5
SILENCE: Final = 15.0

_encode: Final = msgspec.json.Encoder().encode


async def events(request: web.Request) -> web.StreamResponse:
    job = await found(request)
    response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: "text/event-stream"})
    async with streaming(request, response):
        told, last = None, time.monotonic()
        while True:
            news = (job.state, job.done, job.failed)
            if news != told:
                kind = "end" if job.is_ended else "progress"
                await response.write(_event(kind, view(request, job)))
                told, last = news, time.monotonic()
            elif time.monotonic() - last > SILENCE:
                await response.write(b": still there\n\n")
                last = time.monotonic()
            if job.is_ended:
                break
            await pause(request, PAUSE)
            job = await found(request)
        await response.write_eof()
    return response


def _event(kind: str, job: JobView) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), _encode(job))


ROUTES: Final = (
    Route(
        "GET",
        "/v1/jobs/{id}/events",
        events,
        "The progress of a job, as server-sent events",
        scope=FOLLOW,
        sends=("text/event-stream",),
        others={404: "there is no such job, or it is somebody else's"},
        notes="text/event-stream: `progress` now and whenever the counts have changed, and `end` "
        "when the job has ended, which ends the answer; `data` is the job as `GET /v1/jobs/{id}` "
        "gives it. A client that connects again after `end` gets it again, and should not.",
    ),
)
