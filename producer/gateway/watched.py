"""What is counted, logged and traced of each request; never what is in its body."""

from __future__ import annotations

import functools
import logging
import time
from typing import Final

from aiohttp import web
from prometheus_client import Counter, Histogram

from lmaas.broker_config import tracing
from lmaas.broker_config.metrics import SECONDS
from lmaas.producer.gateway.routes import Handler

log = logging.getLogger(__name__)

#: Of a caller that has gone before its answer, as nginx logs it.
GONE: Final = 499

_requests: Final = Counter(
    "lmaas_http_requests", "Requests by route and status; 499: the caller hung up.",
    ["method", "route", "status"],
)  # fmt: skip
_seconds: Final = Histogram(
    "lmaas_http_request_seconds", "From a request's head to its answer.", ["method", "route"],
    buckets=SECONDS,
)  # fmt: skip
_count = functools.cache(_requests.labels)
_observe = functools.cache(_seconds.labels)


def watched(method: str, route: str, handler: Handler, *, logs: bool) -> Handler:
    """The handler of a route; `logs` tells each request in the log."""

    async def answer(request: web.Request) -> web.StreamResponse:
        began, status = time.perf_counter(), GONE
        try:
            with tracing.serving(method, route, request.headers):
                response = await handler(request)
            status = response.status
            return response
        finally:
            seconds = time.perf_counter() - began
            _count(method, route, status).inc()
            _observe(method, route).observe(seconds)
            if logs:
                _tell(request, status, seconds)

    return answer


def _tell(request: web.Request, status: int, seconds: float) -> None:
    log.info(
        "%s %s %d",
        request.method,
        request.path,
        status,
        extra={
            "action": "http_request",
            "method": request.method,
            "path": request.path,
            "status": status,
            "seconds": round(seconds, 6),
            "remote": request.remote,
            "trace": tracing.trace_id(request.headers.get(tracing.HEADER)),
        },
    )
