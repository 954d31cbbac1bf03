"""The routes of the Open Inference Protocol, as Triton's, KServe's and MLServer's clients use them.

They ask for neither `Content-Type` nor `Accept`, because these clients send none.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any, Final

import msgspec
from aiohttp import web

from lmaas.broker_config.messages import ModelCard
from lmaas.producer.gateway.access import CLASSIFY, caller_of, owner_of
from lmaas.producer.gateway.app_keys import CARDS, CLIENT, SETTINGS
from lmaas.producer.gateway.bodies import FORM, UNNAMED, read
from lmaas.producer.gateway.calls import answered, check_count
from lmaas.producer.gateway.failures import Failure, HttpError
from lmaas.producer.gateway.inference_protocol import descriptions as told
from lmaas.producer.gateway.inference_protocol import mapping
from lmaas.producer.gateway.inference_protocol.codec import (
    LENGTH,
    Call,
    InferRequest,
    InferResponse,
    decode,
    encode,
    header_length,
)
from lmaas.producer.gateway.inference_protocol.statistics import STATISTICS, ModelsStats
from lmaas.producer.gateway.routes import JSON, Handler, Protocol, Route, json_response

#: Seconds after which tritonclient gives up a request; it has to be answered before.
_CLIENTS_WAIT: Final = 55.0
#: Bytes of a body that is read beside the event loop, because it takes more than a millisecond.
_LARGE: Final = 128 * 1024

#: Statuses of HTTP itself, and those that the protocol names.
_STATUSES: Final = {400, 401, 403, 404, 405, 408, 413, 415, 429, 500, 501, 503}


def _status(status: int) -> int:
    if status in _STATUSES:
        return status
    if status == HTTPStatus.GATEWAY_TIMEOUT:
        return HTTPStatus.SERVICE_UNAVAILABLE
    server_error = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return HTTPStatus.INTERNAL_SERVER_ERROR if server_error else HTTPStatus.BAD_REQUEST


class InferRefusal(msgspec.Struct):
    """The body of an error."""

    error: str


def _error(failed: Failure) -> InferRefusal:
    """tritonclient keeps these words only, so that they say when to try again."""
    again = failed.headers.get("Retry-After")
    return InferRefusal(failed.message + (f"; try again in {again} s" if again else ""))


PROTOCOL: Final = Protocol("inference", _error, InferRefusal, _status)


# ------------------------------------------------------------------- inference


async def infer(request: web.Request) -> web.Response:
    """A caller that hangs up cancels this, and with it what has not been sent."""
    began = time.perf_counter()
    statistics = request.app[STATISTICS]
    card, version = await _named(request)
    try:
        response = await _inferred(request, card)
    except BaseException:
        statistics.requested(card.model, version, time.perf_counter() - began, succeeded=False)
        raise
    statistics.requested(card.model, version, time.perf_counter() - began, succeeded=True)
    return response


async def _inferred(request: web.Request, card: ModelCard) -> web.Response:
    settings = request.app[SETTINGS]
    length = header_length(request.headers.get(LENGTH))
    body = await read(request)
    check = partial(check_count, settings=settings)
    if length == 0:
        call = mapping.raw_call(body, _media_type(request), card)
    else:
        call = await _beside(len(body), lambda: decode(body, length, check))
    wanted = mapping.wanted_of(call, card)
    items = mapping.items_of(call, card)
    caller_of(request).charge(len(items))
    version = request.match_info.get("version")
    results = await answered(
        request.app,
        card.model,
        items,
        version=version,
        top_k=mapping.top_k(wanted),
        min_score=mapping.least_of(call.parameters),
        timeout=mapping.seconds_of(call.parameters, min(settings.wait, _CLIENTS_WAIT)),
        owner=owner_of(request),
    )
    outputs = mapping.outputs(results, wanted, card)
    content, head = encode(card.model, version or card.version, call.id, outputs)
    if head is None:
        return web.Response(body=content, content_type=JSON)
    return web.Response(
        body=content, content_type="application/octet-stream", headers={LENGTH: str(head)}
    )


def _media_type(request: web.Request) -> str | None:
    """Of a raw body; None where the client has only said what clients say of themselves."""
    given = request.content_type
    return None if given in {FORM, UNNAMED} else given


async def _beside(size: int, work: Callable[[], Call]) -> Call:
    """A large body must not keep the event loop."""
    return await asyncio.to_thread(work) if size > _LARGE else work()


async def _named(request: web.Request) -> tuple[ModelCard, str]:
    """The card of the model in the path, and the version that is asked. Raises HttpError: 404."""
    card = await request.app[CARDS].card(request.match_info["model"])
    version = request.match_info.get("version")
    await request.app[CARDS].check(card.model, version)
    return card, version or card.version


# ------------------------------------------------------------------- what there is


async def server(_request: web.Request) -> web.Response:
    return json_response(told.server())


async def live(_request: web.Request) -> web.Response:
    return json_response(told.Live(live=True))


async def ready(request: web.Request) -> web.Response:
    """Clients look at the status alone: 400 when it is not."""
    is_ready = request.app[CLIENT].is_ready
    return json_response(told.Ready(ready=is_ready, live=True), _ok(is_ready))


async def model_ready(request: web.Request) -> web.Response:
    """Whether a worker serves it at this moment."""
    name, version = request.match_info["model"], request.match_info.get("version")
    card = await request.app[CLIENT].card(name)
    is_ready = card is not None and (version is None or version in card.versions)
    return json_response(told.ModelReady(name, is_ready), _ok(is_ready))


async def metadata(request: web.Request) -> web.Response:
    card, _ = await _named(request)
    return json_response(told.metadata(card, request.match_info.get("version")))


async def config(request: web.Request) -> web.Response:
    card, _ = await _named(request)
    return json_response(told.config(card, request.app[SETTINGS].max_call_items))


async def index(request: web.Request) -> web.Response:
    return json_response(told.index(await request.app[CLIENT].models()))


async def every_stats(request: web.Request) -> web.Response:
    cards = await request.app[CLIENT].models()
    return json_response(request.app[STATISTICS].told(cards))


async def stats(request: web.Request) -> web.Response:
    card, _ = await _named(request)
    found = request.app[STATISTICS].told([card], card.model)
    if version := request.match_info.get("version"):
        found = ModelsStats([one for one in found.model_stats if one.version == version])
    return json_response(found)


def _ok(is_ready: bool) -> int:
    return HTTPStatus.OK if is_ready else HTTPStatus.BAD_REQUEST


# ------------------------------------------------------------------- what there is not


def _missing(words: str) -> Handler:
    async def refuse(_request: web.Request) -> web.Response:
        raise HttpError(HTTPStatus.NOT_IMPLEMENTED, "not_implemented", words)

    return refuse


_MODELS: Final = _missing("workers load models by themselves; see `lmaas models activate`")
_TRACES: Final = _missing("traces are set where the gateway is started, by OpenTelemetry")
_LOGS: Final = _missing("logging is set where the gateway is started")
_MEMORY: Final = _missing("there is no shared memory here; send values in the body")

_NOT_THERE: Final = (
    *((f"/v2/repository/models/{{model}}/{verb}", _MODELS) for verb in ("load", "unload")),
    *((f"/v2/{where}trace/setting", _TRACES) for where in ("", "models/{model}/")),
    ("/v2/logging", _LOGS),
    *(
        (f"/v2/{kind}sharedmemory/{rest}", _MEMORY)
        for kind in ("system", "cuda")
        for rest in (
            "status",
            "unregister",
            "region/{region}/status",
            "region/{region}/register",
            "region/{region}/unregister",
        )
    ),
)

# ------------------------------------------------------------------- the table

_UNKNOWN: Final = {404: "no worker serves the model, or not this version"}
_INFER: Final[dict[int, str]] = {
    **_UNKNOWN,
    400: "the inputs are not what the model takes; an item cannot be classified",
    413: "too many bytes or items",
    429: "too much work waits, or the key is at a limit; see Retry-After",
    503: "the broker is away, or no answer in time",
}


def _routes(
    method: str, paths: str, handler: Handler, summary: str, scope: str | None, **options: Any
) -> tuple[Route, ...]:
    """Of a path, and of that with a version if it is of a model."""
    versioned = paths.replace("{model}", "{model}/versions/{version}")
    return tuple(
        Route(method, path, handler, summary, scope=scope, protocol=PROTOCOL, **options)
        for path in dict.fromkeys((paths, versioned))
    )


ROUTES: Final[tuple[Route, ...]] = (
    *_routes("GET", "/v2", server, "The server, for inference clients", None, gives=told.Server),
    *_routes("GET", "/v2/health/live", live, "Whether it lives", None, gives=told.Live),
    *_routes(
        "GET",
        "/v2/health/ready",
        ready,
        "Whether it reaches the broker",
        None,
        gives=told.Ready,
        others={400: "it does not"},
        bodies={400: told.Ready},
    ),
    *_routes(
        "GET",
        "/v2/models/stats",
        every_stats,
        "What has passed this gateway",
        CLASSIFY,
        gives=ModelsStats,
    ),
    *_routes(
        "GET",
        "/v2/models/{model}",
        metadata,
        "Inputs and outputs of a model",
        CLASSIFY,
        gives=told.ModelMetadata,
        others=_UNKNOWN,
    ),
    *_routes(
        "GET",
        "/v2/models/{model}/ready",
        model_ready,
        "Whether a worker serves it",
        CLASSIFY,
        gives=told.ModelReady,
        others={400: "no worker serves it now"},
        bodies={400: told.ModelReady},
    ),
    *_routes(
        "GET",
        "/v2/models/{model}/config",
        config,
        "A model as Triton's tools know it",
        CLASSIFY,
        gives=dict[str, Any],
        others=_UNKNOWN,
    ),
    *_routes(
        "GET",
        "/v2/models/{model}/stats",
        stats,
        "What has passed this gateway for a model",
        CLASSIFY,
        gives=ModelsStats,
        others=_UNKNOWN,
    ),
    *_routes(
        "POST",
        "/v2/repository/index",
        index,
        "Models and versions that are served",
        CLASSIFY,
        gives=list[told.Indexed],
    ),
    *_routes(
        "POST",
        "/v2/models/{model}/infer",
        infer,
        "Classify by the Open Inference Protocol",
        CLASSIFY,
        takes=InferRequest,
        gives=InferResponse,
        reads=(UNNAMED,),
        headers=(LENGTH,),
        sends=(UNNAMED,),
        others=_INFER,
        notes=(
            f"With the binary extension: values follow the JSON, whose length the header {LENGTH} "
            "tells. The protocol has no errors of items: one that is bad fails the request."
        ),
    ),
    *(
        Route(
            method,
            path,
            handler,
            "Not there",
            scope=CLASSIFY,
            protocol=PROTOCOL,
            status=HTTPStatus.NOT_IMPLEMENTED,
            documented=False,
        )
        for path, handler in _NOT_THERE
        for method in ("GET", "POST")
    ),
)
