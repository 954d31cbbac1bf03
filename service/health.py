"""Over HTTP: whether a process lives, whether it does its work, and what it counts.

=================  ===============================================================================
`/health/live`     200 while the event loop turns and nothing hangs, else 503
`/health/ready`    200 while it does its work, else 503; the JSON says why
`/metrics`         for Prometheus
=================  ===============================================================================
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Final, Protocol

import prometheus_client
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.registry import Collector

from lmaas.broker_config.errors import SettingsError
from lmaas.service.lag import follow_loop_lag

#: Seconds for requests that are being answered when the process ends.
SHUTDOWN_TIMEOUT: Final = 1.0


class Status(Protocol):
    """How a process is, as far as it knows."""

    @property
    def identity(self) -> Mapping[str, object]:
        """What it is, as a part of the JSON."""
        ...

    @property
    def not_alive(self) -> str | None:
        """Why only its end would help; None when it lives."""
        ...

    @property
    def not_ready(self) -> str | None:
        """Why it does not do its work; None when it does."""
        ...


_STATUS: Final = web.AppKey("status", Status)
_STATE: Final = web.AppKey("state", CollectorRegistry)


@contextlib.asynccontextmanager
async def serving(status: Status, state: Collector, host: str, port: int) -> AsyncIterator[None]:
    """At `host` and `port`; `state` is what is true at a scrape, besides what was counted.

    Raises SettingsError when nobody can listen there.
    """
    app = create_app(status, state)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT)
    await runner.setup()
    following = asyncio.create_task(follow_loop_lag(), name="loop lag")
    try:
        await _listen(runner, host, port)
        yield
    finally:
        following.cancel()
        await runner.cleanup()


async def _listen(runner: web.AppRunner, host: str, port: int) -> None:
    try:
        await web.TCPSite(runner, host, port).start()
    except (OSError, OverflowError) as error:
        raise SettingsError(
            f"the health of this process cannot be told at {host}:{port}: {error}; "
            "see the settings health_host and health_port"
        ) from error


def create_app(status: Status, state: Collector) -> web.Application:
    app = web.Application()
    app.add_routes(routes(app, status, state))
    return app


def routes(app: web.Application, status: Status, state: Collector) -> list[web.RouteDef]:
    """For an application, which then tells `status` and counts together with `state`."""
    app[_STATUS] = status
    app[_STATE] = CollectorRegistry()
    app[_STATE].register(state)
    return [
        web.get("/health/live", live),
        web.get("/health/ready", ready),
        web.get("/metrics", metrics),
    ]


async def live(request: web.Request) -> web.Response:
    status = request.app[_STATUS]
    return _told(status, status.not_alive)


async def ready(request: web.Request) -> web.Response:
    status = request.app[_STATUS]
    return _told(status, status.not_ready)


def _told(status: Status, problem: str | None) -> web.Response:
    body = {**status.identity, "problem": problem}
    return web.json_response(body, status=503 if problem else 200)


async def metrics(request: web.Request) -> web.Response:
    """What the process has counted, and what is true of it now."""
    content = generate_latest(prometheus_client.REGISTRY) + generate_latest(request.app[_STATE])
    headers = {"Content-Type": prometheus_client.CONTENT_TYPE_LATEST}
    return web.Response(body=content, headers=headers)
