"""The HTTP gateway as one aiohttp application, to be run by `lmaas gateway` or mounted in another.

app = web.Application()
app.add_subapp("/ai", create_app(GatewaySettings(access="open")))
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lmaas.broker_config.settings import Settings
from lmaas.producer.batch import Jobs
from lmaas.producer.client import Client
from lmaas.producer.gateway import classify, models, openapi, usage
from lmaas.producer.gateway import events as cloud_events
from lmaas.producer.gateway.access import admit, tell_limits
from lmaas.producer.gateway.app_keys import (
    BROKER_JOBS,
    CALLERS,
    CARDS,
    CLIENT,
    CONGESTION,
    SETTINGS,
    STATE,
    STOPPING,
)
from lmaas.producer.gateway.callbacks.dispatcher import Dispatcher
from lmaas.producer.gateway.callbacks.outbox import OUTBOX, Outbox
from lmaas.producer.gateway.callbacks.receivers import Receivers
from lmaas.producer.gateway.callers import Callers
from lmaas.producer.gateway.congestion import Congestion
from lmaas.producer.gateway.hooks import receive
from lmaas.producer.gateway.hooks.configured import HOOKS, ready
from lmaas.producer.gateway.inference_protocol import handlers as inference_protocol
from lmaas.producer.gateway.inference_protocol.statistics import STATISTICS, Statistics
from lmaas.producer.gateway.jobs import deliveries, events, results, submit, views
from lmaas.producer.gateway.jobs.collecting import COLLECTING, FINISHED, Collecting, Finished
from lmaas.producer.gateway.jobs.telling import telling
from lmaas.producer.gateway.known_cards import KnownCards
from lmaas.producer.gateway.monitoring import handlers as monitoring
from lmaas.producer.gateway.monitoring.dead_letters import DEAD_LETTERS, DeadLetters
from lmaas.producer.gateway.monitoring.looks import LOOKS, Looks
from lmaas.producer.gateway.monitoring.recent import RECENT, Recent
from lmaas.producer.gateway.openai_batches import batches, calls, files
from lmaas.producer.gateway.openai_batches.work import BATCHES, BatchWork
from lmaas.producer.gateway.pages import serving as pages
from lmaas.producer.gateway.routes import (
    Handler,
    Protocol,
    Route,
    answering,
    nearest,
    refused,
    tagged,
)
from lmaas.producer.gateway.settings import GatewaySettings
from lmaas.producer.gateway.state import State
from lmaas.producer.gateway.watched import watched
from lmaas.service import health

#: All that the gateway answers, besides health and metrics.
ROUTES: Final[tuple[Route, ...]] = (
    *tagged("Calls", classify.ROUTES, models.ROUTES, usage.ROUTES),
    *tagged("Jobs", submit.ROUTES, views.ROUTES, results.ROUTES, events.ROUTES),
    *tagged("Webhooks", receive.ROUTES, deliveries.ROUTES),
    *tagged("CloudEvents", cloud_events.ROUTES),
    *tagged("OpenAI", calls.ROUTES, files.ROUTES, batches.ROUTES),
    *tagged("Open Inference Protocol", inference_protocol.ROUTES),
    *tagged("Operation", monitoring.ROUTES),
    *pages.ROUTES,
)

#: For every answer: what a browser should not do with it.
HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; base-uri 'none'; "
    "form-action 'none'; object-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

#: Names of requests, for answers: of this process, and the number.
_PROCESS: Final = secrets.token_hex(8)
_requests: Final = itertools.count(1)


def create_app(
    settings: GatewaySettings | None = None,
    engine: Settings | None = None,
    operator: Settings | None = None,
) -> web.Application:
    """`settings` of HTTP, `engine` of the broker; None: from the environment and `lmaas.toml`.

    `operator` is who looks at dead letters; None: who `engine` says, if that is given.
    Run it with `handler_cancellation=True`, or callers that hang up are answered all the same; and
    with `auto_decompress=False`, or compressed bodies are refused.
    Raises SettingsError.
    """
    settings = settings or GatewaySettings.load()
    settings.check()
    app = web.Application()
    app[SETTINGS] = settings
    operator = operator or engine or Settings.load("operator")
    engine = engine or Settings.load("gateway")
    app[CLIENT] = client = Client(engine)
    app[CONGESTION] = Congestion(settings.busy_after)
    app[CARDS] = KnownCards(client)
    app[STATISTICS] = statistics = Statistics()
    app[RECENT] = recent = Recent()
    client.observers += [statistics.replied, recent.replied]
    app[LOOKS] = Looks(client.settings)
    app[DEAD_LETTERS] = DeadLetters(operator)
    app[STATE] = State(settings, engine)
    app[CALLERS] = Callers(app[STATE], with_keys=settings.access == "keys")
    receivers = Receivers(settings)
    app[OUTBOX] = Outbox(settings.callbacks, receivers)
    app[HOOKS] = ready(settings.hooks, receivers)
    app[BROKER_JOBS] = Jobs(engine)
    finished: list[Finished] = []
    app[FINISHED] = finished
    app[COLLECTING] = Collecting(app[STATE], app[BROKER_JOBS], finished, settings.keep_results)
    finished.append(telling(app[OUTBOX], app[STATE]))
    app[BATCHES] = BatchWork(app)
    finished.append(app[BATCHES].finished())
    app[STOPPING] = asyncio.Event()
    app.cleanup_ctx.append(_connected)
    app.on_shutdown.append(_stop)
    app.on_response_prepare.append(_secure)
    added = [
        (app.router.add_route(route.method, route.path, _handler(route, settings)), route.protocol)
        for route in (*ROUTES, *openapi.routes(ROUTES))
    ]
    app.middlewares.append(_unmatched(added))
    status = _Status(client)
    app.add_routes(health.routes(app, status, _State(status)))
    return app


def _handler(route: Route, settings: GatewaySettings) -> Handler:
    answer = answering(route, admit, settings.body_timeout)
    return watched(route.method, route.path, answer, logs=settings.access_log)


async def _connected(app: web.Application) -> AsyncIterator[None]:
    async with contextlib.AsyncExitStack() as stack:
        state, client, callers = app[STATE], app[CLIENT], app[CALLERS]
        jobs, collecting = app[BROKER_JOBS], app[COLLECTING]
        looks, batch_work = app[LOOKS], app[BATCHES]
        await stack.enter_async_context(state)
        await stack.enter_async_context(callers)
        await stack.enter_async_context(client)
        await stack.enter_async_context(looks)
        await stack.enter_async_context(Dispatcher(state, app[OUTBOX], app[SETTINGS].callbacks))
        await stack.enter_async_context(jobs)
        await stack.enter_async_context(collecting)
        await stack.enter_async_context(batch_work)
        yield


async def _stop(app: web.Application) -> None:
    app[STOPPING].set()


def _unmatched(added: Sequence[tuple[web.AbstractRoute, Protocol]]) -> Middleware:
    """A path or method that there is not is told as every other error."""

    @web.middleware
    async def tell(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.match_info.http_exception is None:
            return await handler(request)
        try:
            return await handler(request)
        except web.HTTPException as error:
            # Where it is mounted, paths are longer than in the table.
            known = [
                (route.resource.canonical, protocol) for route, protocol in added if route.resource
            ]
            return refused(request, nearest(request.path, known), error)

    return tell


async def _secure(request: web.Request, response: web.StreamResponse) -> None:
    headers = response.headers
    for name, value in HEADERS.items():
        headers.setdefault(name, value)
    headers["X-Request-Id"] = f"req_{_PROCESS}{next(_requests):x}"
    headers.pop(hdrs.SERVER, None)
    tell_limits(request, response)


class _Status:
    """For health: the gateway does its work while its connections are up."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @property
    def identity(self) -> Mapping[str, object]:
        return {"gateway": self._client.id}

    @property
    def not_alive(self) -> str | None:
        return None

    @property
    def not_ready(self) -> str | None:
        return None if self._client.is_ready else "the connection to the broker is lost"


class _State(Collector):
    def __init__(self, status: health.Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        ready = self._status.not_ready is None
        yield GaugeMetricFamily("lmaas_ready", "1 while its connections are up, else 0.", ready)
