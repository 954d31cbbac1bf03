"""`POST /v1/classify`: one or many items, answered in the same request."""

from __future__ import annotations

import contextlib
from typing import Annotated, Final

import msgspec
from aiohttp import web

from lmaas.broker_config.codes import Code
from lmaas.broker_config.messages import Item, ItemError, Result, Tensor
from lmaas.producer.gateway.access import CLASSIFY
from lmaas.producer.gateway.app_keys import CLIENT, SETTINGS
from lmaas.producer.gateway.bodies import json_body
from lmaas.producer.gateway.calls import answered, check_count
from lmaas.producer.gateway.routes import Route, json_response


class GivenItem(msgspec.Struct, forbid_unknown_fields=True):
    """One thing to classify, as callers write it: exactly one of `text`, `data` or `tensors`."""

    #: Without one, its place in the list, from 0.
    id: str | None = None
    text: str | None = None
    #: The second one of a pair of texts.
    text_pair: str | None = None
    #: Bytes in base64, as of a picture.
    data: bytes | None = None
    media_type: str | None = None
    #: Ready-made inputs of the model, by name.
    tensors: dict[str, Tensor] | None = None


class Call(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body of `POST /v1/classify`."""

    model: str
    #: Texts, or items with an id and a kind.
    items: Annotated[list[str | GivenItem], msgspec.Meta(min_length=1)]
    #: The one that is active when left out.
    version: str | None = None
    #: The scores of so many labels, best first.
    top_k: Annotated[int, msgspec.Meta(ge=0)] = 0
    #: Seconds that the caller waits; at most what the gateway's setting `wait` says.
    timeout: Annotated[float, msgspec.Meta(gt=0)] | None = None


class _Loose(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A call of which some items are wrong: each is looked at by itself."""

    model: str
    items: Annotated[list[msgspec.Raw], msgspec.Meta(min_length=1)]
    version: str | None = None
    top_k: Annotated[int, msgspec.Meta(ge=0)] = 0
    timeout: Annotated[float, msgspec.Meta(gt=0)] | None = None


class Answers(msgspec.Struct):
    """The answer to a call: a result for each item, in their order."""

    model: str
    results: list[Result]


class _Body:
    """Decodes a call at once; only if that fails, item by item."""

    def __init__(self) -> None:
        self._strict = msgspec.json.Decoder(Call)
        self._loose = msgspec.json.Decoder(_Loose)
        self._item = msgspec.json.Decoder(str | GivenItem)

    def decode(self, body: bytes) -> tuple[Call | _Loose, list[Item]]:
        try:
            call = self._strict.decode(body)
            return call, [_item(place, given) for place, given in enumerate(call.items)]
        except msgspec.ValidationError:
            loose = self._loose.decode(body)
            return loose, [self._one(place, raw) for place, raw in enumerate(loose.items)]

    def _one(self, place: int, raw: msgspec.Raw) -> Item:
        try:
            return _item(place, self._item.decode(raw))
        except msgspec.DecodeError as error:
            fault = ItemError(code=Code.INVALID_ITEM, message=str(error))
            return Item(id=_name(raw) or str(place), error=fault)


class _Named(msgspec.Struct):
    """What else an item has does not matter."""

    id: str | None = None


def _name(raw: msgspec.Raw) -> str | None:
    """The id of an item that is wrong, where that can be read."""
    with contextlib.suppress(msgspec.DecodeError):
        return msgspec.json.decode(raw, type=_Named).id
    return None


_body: Final = _Body()


def _item(place: int, given: str | GivenItem) -> Item:
    if isinstance(given, str):
        return Item(id=str(place), text=given)
    name = str(place) if given.id is None else given.id
    return Item(
        id=name,
        text=given.text,
        text_pair=given.text_pair,
        data=given.data,
        media_type=given.media_type,
        tensors=given.tensors,
    )


async def classify(request: web.Request) -> web.Response:
    """A caller that hangs up cancels this, and with it what has not been run."""
    settings = request.app[SETTINGS]
    call, items = await json_body(request, _body)
    check_count(len(items), settings)
    seconds = min(call.timeout or settings.wait, settings.wait)
    results = await answered(
        request.app[CLIENT],
        call.model,
        items,
        version=call.version,
        top_k=call.top_k,
        timeout=seconds,
    )
    return json_response(Answers(call.model, results))


ROUTES: Final = (
    Route(
        "POST",
        "/v1/classify",
        classify,
        "Classify one or many items",
        scope=CLASSIFY,
        takes=Call,
        gives=Answers,
        others={
            404: "no worker has ever served the model",
            413: "too many bytes or items",
            422: "the body has another structure",
            429: "too much work waits; see Retry-After",
            503: "the broker is away",
            504: "no answer in time",
        },
        notes="An item that cannot be classified has an error as its result; the others go on.",
    ),
)
