"""`POST /v1/moderations` and `/v1/classifications`: one or several inputs, answered at once."""

from __future__ import annotations

import secrets
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web

from lmaas.producer.gateway.access import CLASSIFY, caller_of, owner_of
from lmaas.producer.gateway.app_keys import CLIENT, SETTINGS
from lmaas.producer.gateway.bodies import json_body
from lmaas.producer.gateway.calls import answered, check_count
from lmaas.producer.gateway.failures import HttpError
from lmaas.producer.gateway.openai_batches.answers import (
    CLASSIFICATIONS,
    ENDPOINTS,
    EVERY_LABEL,
    MODERATIONS,
    CallFailed,
    Classification,
    Moderation,
)
from lmaas.producer.gateway.openai_batches.lines import Given, items_of
from lmaas.producer.gateway.openai_batches.protocol import PROTOCOL, bad
from lmaas.producer.gateway.routes import Handler, Route, json_response


class EndpointCall(msgspec.Struct, kw_only=True):
    """The body of either endpoint."""

    #: May be left out where workers serve one model only.
    model: str | None = None
    #: One, or several.
    input: str | Given | Annotated[list[str | Given], msgspec.Meta(min_length=1)]


class _Call(msgspec.Struct, kw_only=True):
    """The same, with inputs to be looked at one by one."""

    model: str | None = None
    input: msgspec.Raw


_body: Final = msgspec.json.Decoder(_Call)


def _answering(endpoint: str) -> Handler:
    async def answer(request: web.Request) -> web.Response:
        """A caller that hangs up cancels this, and with it what has not been run."""
        call, settings = await json_body(request, _body), request.app[SETTINGS]
        items = items_of("0", call.input)
        check_count(len(items), settings)
        caller_of(request).charge(len(items))
        model = call.model or await _only_model(request)
        results = await answered(
            request.app,
            model,
            items,
            version=None,
            top_k=EVERY_LABEL,
            timeout=settings.wait,
            owner=owner_of(request),
        )
        harmless = {label.casefold() for label in settings.harmless_labels}
        try:
            told = ENDPOINTS[endpoint](secrets.token_hex(12), model, results, harmless)
        except CallFailed as error:
            raise HttpError(error.status, error.code, error.message, param="input") from error
        return json_response(told)

    return answer


async def _only_model(request: web.Request) -> str:
    names = {card.model for card in await request.app[CLIENT].models()}
    if len(names) == 1:
        return names.pop()
    served = ", ".join(sorted(names)) or "none"
    raise bad("model", f"say which model; workers serve: {served}", "missing_required_parameter")


def _route(path: str, summary: str, gives: Any, notes: str) -> Route:
    return Route(
        "POST",
        path,
        _answering(path),
        summary,
        scope=CLASSIFY,
        protocol=PROTOCOL,
        takes=EndpointCall,
        gives=gives,
        others={
            400: "the body, or what fails the call",
            404: "no worker has ever served the model",
            429: "too much work waits, or a limit of the key; see Retry-After",
            503: "the broker is away",
        },
        notes=notes,
    )


ROUTES: Final = (
    _route(
        CLASSIFICATIONS,
        "Classify, for clients of OpenAI's protocol",
        Classification,
        "An input that cannot be classified has an `error` beside the results of the others; when "
        "all cannot, the call fails.",
    ),
    _route(
        MODERATIONS,
        "Classify as OpenAI's moderations",
        Moderation,
        "Each label of the model is a category. That of the best label is true, and the input "
        "flagged, unless it is one of the setting `harmless_labels`. An input that cannot be "
        "classified fails the call.",
    ),
)
