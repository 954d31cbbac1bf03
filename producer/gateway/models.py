"""`GET /v1/models`: what workers serve at this moment."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import web

from lmaas.broker_config.codes import Code
from lmaas.broker_config.messages import ModelCard
from lmaas.producer.gateway.access import CLASSIFY
from lmaas.producer.gateway.app_keys import CLIENT
from lmaas.producer.gateway.failures import HttpError
from lmaas.producer.gateway.routes import Route, json_response


class Models(msgspec.Struct):
    """The cards of all models."""

    models: list[ModelCard]


async def every(request: web.Request) -> web.Response:
    return json_response(Models(await request.app[CLIENT].models()))


async def one(request: web.Request) -> web.Response:
    name = request.match_info["model"]
    cards = await request.app[CLIENT].models(name)
    if not cards:
        raise HttpError(
            HTTPStatus.NOT_FOUND,
            Code.UNKNOWN_MODEL,
            f"no worker serves model {name!r} now; see GET /v1/models",
        )
    return json_response(cards[0])


ROUTES: Final = (
    Route(
        "GET",
        "/v1/models",
        every,
        "What workers serve at this moment",
        scope=CLASSIFY,
        gives=Models,
    ),
    Route(
        "GET",
        "/v1/models/{model}",
        one,
        "The card of one model",
        scope=CLASSIFY,
        gives=ModelCard,
        others={404: "no worker serves it now"},
    ),
)
