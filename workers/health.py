"""Over HTTP: whether a worker lives, whether it consumes, and what it counts.

=================  ===============================================================================
`/health/live`     200 while the event loop turns and no run has passed its time limit, else 503
`/health/ready`    200 while it consumes its lanes, else 503; the JSON says why
`/metrics`         for Prometheus
=================  ===============================================================================
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

import prometheus_client
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from lmaas.broker_config.errors import SettingsError
from lmaas.workers.metrics import State, follow_loop_lag
from lmaas.workers.worker import Worker

#: Seconds for requests that are being answered when the worker ends.
SHUTDOWN_TIMEOUT: Final = 1.0

_WORKER: Final = web.AppKey("worker", Worker)
_STATE: Final = web.AppKey("state", CollectorRegistry)


@contextlib.asynccontextmanager
async def serving(worker: Worker) -> AsyncIterator[None]:
    """At `health_host` and `health_port`. Raises SettingsError when nobody can listen there."""
    settings = worker.settings
    runner = web.AppRunner(create_app(worker), access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT)
    await runner.setup()
    following = asyncio.create_task(follow_loop_lag(), name="loop lag")
    try:
        await _listen(runner, settings.health_host, settings.health_port)
        yield
    finally:
        following.cancel()
        await runner.cleanup()


async def _listen(runner: web.AppRunner, host: str, port: int) -> None:
    try:
        await web.TCPSite(runner, host, port).start()
    except (OSError, OverflowError) as error:
        raise SettingsError(
            f"the health of this worker cannot be told at {host}:{port}: {error}; "
            "see the settings health_host and health_port"
        ) from error


def create_app(worker: Worker) -> web.Application:
    app = web.Application()
    app[_WORKER] = worker
    app[_STATE] = CollectorRegistry()
    app[_STATE].register(State(worker))
    app.add_routes(
        [
            web.get("/health/live", live),
            web.get("/health/ready", ready),
            web.get("/metrics", metrics),
        ]
    )
    return app


async def live(request: web.Request) -> web.Response:
    worker = request.app[_WORKER]
    limit = worker.settings.pack_timeout
    stuck = worker.execution.overdue.is_set()
    return _told(worker, f"a run takes longer than {limit:g} s" if stuck else None)


async def ready(request: web.Request) -> web.Response:
    worker = request.app[_WORKER]
    return _told(worker, worker.not_ready)


def _told(worker: Worker, problem: str | None) -> web.Response:
    body = {"worker": worker.name, "models": worker.models, "problem": problem}
    return web.json_response(body, status=503 if problem else 200)


async def metrics(request: web.Request) -> web.Response:
    """What the process has counted, and what is true of this worker now."""
    content = generate_latest(prometheus_client.REGISTRY) + generate_latest(request.app[_STATE])
    headers = {"Content-Type": prometheus_client.CONTENT_TYPE_LATEST}
    return web.Response(body=content, headers=headers)
