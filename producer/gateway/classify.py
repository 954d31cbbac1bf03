"""`POST /v1/classify`: one or many items, answered in the same request."""

from __future__ import annotations

import hashlib
import logging
from http import HTTPStatus
from typing import Annotated, Final

import msgspec
from aiohttp import web

from lmaas.broker_config.errors import TimeLimitExceeded
from lmaas.broker_config.messages import Item, MinScore, Result, TopK
from lmaas.producer.gateway import idempotency
from lmaas.producer.gateway.access import CLASSIFY, caller_of, owner_of
from lmaas.producer.gateway.app_keys import SETTINGS, STATE
from lmaas.producer.gateway.bodies import UNNAMED, json_body, read
from lmaas.producer.gateway.calls import answered, check_count
from lmaas.producer.gateway.failures import HttpError
from lmaas.producer.gateway.form_items import form_call
from lmaas.producer.gateway.forms import MULTIPART
from lmaas.producer.gateway.idempotency import Note, once
from lmaas.producer.gateway.items import Body, GivenItem
from lmaas.producer.gateway.jobs.accepting import Asked
from lmaas.producer.gateway.jobs.submitted import submitted
from lmaas.producer.gateway.jobs.views import JobView
from lmaas.producer.gateway.prefer import APPLIED, HEADER, Preferences
from lmaas.producer.gateway.routes import Route, json_response

log = logging.getLogger(__name__)


class CallOptions(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What is said of a call, besides its items."""

    model: str
    #: The one that is active when left out.
    version: str | None = None
    #: The scores of so many labels, best first.
    top_k: TopK = 0
    #: Below this score the label is `unsure`; where an item may have several labels it gets those
    #: that have this score. What the model says when left out.
    min_score: MinScore | None = None
    #: Seconds that the caller waits; at most what the gateway's setting `wait` says.
    timeout: Annotated[float, msgspec.Meta(gt=0)] | None = None


class Call(CallOptions, forbid_unknown_fields=True, kw_only=True):
    """The body of `POST /v1/classify`."""

    #: Texts, or items with an id and a kind.
    items: Annotated[list[str | GivenItem], msgspec.Meta(min_length=1)]


class _Loose(CallOptions, forbid_unknown_fields=True, kw_only=True):
    """A call of which some items are wrong: each is looked at by itself."""

    items: Annotated[list[msgspec.Raw], msgspec.Meta(min_length=1)]


class CallForm(CallOptions, kw_only=True):
    """The fields of a call as a form, of which `form_items` makes items: for the document."""

    #: Each names the item that follows.
    id: list[str] = []
    text: list[str] = []
    #: Each is the second one of the text before it.
    text_pair: list[str] = []
    file: list[Annotated[str, msgspec.Meta(extra_json_schema={"contentMediaType": UNNAMED})]] = []


class Answers(msgspec.Struct):
    """The answer to a call: a result for each item, in their order."""

    model: str
    results: list[Result]


_body: Final = Body(Call, _Loose)


async def classify(request: web.Request) -> web.Response:
    """A caller that hangs up cancels this, and with it what has not been run."""
    call, items = await _read(request)
    if idempotency.HEADER not in request.headers:
        return await _answer(request, call, items, None)

    async def do(note: Note | None) -> web.Response:
        return await _answer(request, call, items, note)

    return await once(request, await _digest(request, call, items), do)


async def _read(request: web.Request) -> tuple[CallOptions, list[Item]]:
    """Raises HttpError: 400, 413, 415 or 422."""
    if request.content_type == MULTIPART:
        form = await form_call(request)
        return _options(form.said), form.items
    settings = request.app[SETTINGS]
    call = await json_body(request, _body, settings.max_call_items, others=(MULTIPART,))
    check_count(len(call.items), settings)
    return call, _body.items(call)


def _options(said: dict[str, str]) -> CallOptions:
    try:
        return msgspec.convert(said, CallOptions, strict=False)
    except msgspec.ValidationError as error:
        told = f"{error} (in a form, items are fields `text`, and files)"
        raise HttpError(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", told) from error


async def _digest(request: web.Request, call: CallOptions, items: list[Item]) -> bytes:
    """Of everything that was asked. A form has other boundaries each time that it is sent."""
    if request.content_type == MULTIPART:
        return hashlib.sha256(msgspec.msgpack.encode((call, items))).digest()
    return hashlib.sha256(await read(request)).digest()


async def _answer(
    request: web.Request, call: CallOptions, items: list[Item], note: Note | None
) -> web.Response:
    """200 with the results; 202 with a job of all items when they take longer than one waits."""
    settings, prefer = request.app[SETTINGS], request.headers.get(HEADER)
    caller_of(request).charge(len(items))
    seconds = min(call.timeout or settings.wait, settings.wait)
    if prefer is not None:
        seconds = Preferences.of(prefer).patience(seconds)
    if seconds > 0:
        try:
            results = await answered(
                request.app,
                call.model,
                items,
                version=call.version,
                top_k=call.top_k,
                min_score=call.min_score,
                timeout=seconds,
                owner=owner_of(request),
            )
        except TimeLimitExceeded:
            log.debug("a call becomes a job after %g s", seconds, extra={"action": "call_to_job"})
        else:
            return await _noted(request, json_response(Answers(call.model, results)), note)
    asked = Asked(
        model=call.model, version=call.version, top_k=call.top_k, min_score=call.min_score
    )
    answer = await submitted(request, asked, items, note)
    if prefer is not None and Preferences.of(prefer).respond_async:
        answer.headers[APPLIED] = "respond-async"
    return answer


async def _noted(request: web.Request, answer: web.Response, note: Note | None) -> web.Response:
    if note is not None:
        async with request.app[STATE].writing() as connection:
            await note(connection, answer)
    return answer


ROUTES: Final = (
    Route(
        "POST",
        "/v1/classify",
        classify,
        "Classify one or many items",
        scope=CLASSIFY,
        takes=Call,
        gives=Answers,
        reads=(MULTIPART,),
        form=CallForm,
        others={
            202: "the answers take longer: `Location` names the job that has all items",
            404: "no worker has ever served the model, or none has this version of it",
            409: "the first request with this Idempotency-Key is still being worked on",
            413: "too many bytes or items",
            415: "bodies of this type are not read, or a part of the form is encoded",
            422: "the body has another structure, or the Idempotency-Key was used for another one",
            429: "too much work waits, or the key is at a limit; see Retry-After",
            503: "the broker is away",
        },
        bodies={202: JobView},
        headers=(HEADER, idempotency.HEADER),
        notes="An item that cannot be classified has an error as its result; the others go on. "
        "What takes longer than `timeout`, `Prefer: wait=SECONDS` or the gateway's own limit is "
        "made a job, as everything is with `Prefer: respond-async`. In a form "
        "(multipart/form-data) each field `text` and each file is an item, in the form's order. A "
        "file is a text when its Content-Type is text/plain, else bytes with that media type; its "
        "id is its name. A field `id` names the item that follows it; a field `text_pair` is the "
        "second text of the text before it.",
    ),
)
