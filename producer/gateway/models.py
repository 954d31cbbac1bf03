"""`GET /v1/models`: what workers serve at this moment, for our clients and for those of OpenAI."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final, Literal

import msgspec
from aiohttp import web

from lmaas.broker_config.codes import Code
from lmaas.broker_config.messages import ModelCard
from lmaas.producer.gateway.access import CLASSIFY
from lmaas.producer.gateway.app_keys import CLIENT
from lmaas.producer.gateway.failures import HttpError
from lmaas.producer.gateway.routes import Route, json_response


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """What OpenAI's clients read of a model."""

    id: str
    object: Literal["model"] = "model"
    #: Always 0: workers do not tell when a model was made.
    created: int = 0
    owned_by: str = "lmaas"


class Described(ModelCard, frozen=True, kw_only=True, omit_defaults=False):
    """The card of a model, with the fields of `Listed`."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "lmaas"


class Models(msgspec.Struct):
    """The cards of all models, and `object` and `data` for OpenAI's clients."""

    models: list[ModelCard]
    #: Each model once, whatever versions of it there are.
    data: list[Listed]
    object: Literal["list"] = "list"


async def every(request: web.Request) -> web.Response:
    cards = await request.app[CLIENT].models()
    names = dict.fromkeys(card.model for card in cards)
    return json_response(Models(cards, [Listed(id=name) for name in names]))


async def one(request: web.Request) -> web.Response:
    name = request.match_info["model"]
    cards = await request.app[CLIENT].models(name)
    if not cards:
        raise HttpError(
            HTTPStatus.NOT_FOUND,
            Code.UNKNOWN_MODEL,
            f"no worker serves model {name!r} now; see GET /v1/models",
        )
    return json_response(Described(id=name, **msgspec.structs.asdict(cards[0])))


ROUTES: Final = (
    Route(
        "GET",
        "/v1/models",
        every,
        "What workers serve at this moment",
        scope=CLASSIFY,
        gives=Models,
        notes="OpenAI's clients read `data`, which has the name of each model as its `id`.",
    ),
    Route(
        "GET",
        "/v1/models/{model}",
        one,
        "The card of one model",
        scope=CLASSIFY,
        gives=Described,
        others={404: "no worker serves it now"},
    ),
)
