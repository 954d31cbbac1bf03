"""`POST /v1/events`: CloudEvents in, their labels as CloudEvents out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec
from aiohttp import hdrs, web

from lmaas.broker_config.errors import TimeLimitExceeded
from lmaas.broker_config.messages import Item, MinScore, TopK
from lmaas.producer.gateway import cloud_events, prefer
from lmaas.producer.gateway.access import CLASSIFY, caller_of, owner_of
from lmaas.producer.gateway.app_keys import SETTINGS
from lmaas.producer.gateway.bodies import check_parts, read, unsupported
from lmaas.producer.gateway.calls import answered, check_count
from lmaas.producer.gateway.classify import Answers
from lmaas.producer.gateway.cloud_events import (
    ACCEPTED,
    BATCH,
    CLASSIFIED,
    FAILED,
    STRUCTURED,
    Event,
)
from lmaas.producer.gateway.failures import Failure, HttpError, failure
from lmaas.producer.gateway.items import Body, GivenItem
from lmaas.producer.gateway.jobs.accepting import Asked, accept
from lmaas.producer.gateway.jobs.views import JobView, path_of, view
from lmaas.producer.gateway.prefer import Preferences
from lmaas.producer.gateway.routes import JSON, Fault, Refusal, Route, json_response


class _Query(msgspec.Struct):
    """Holds for what the data does not say itself."""

    model: str | None = None
    version: str | None = None
    top_k: TopK = 0
    min_score: MinScore | None = None


class _Data(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body of `POST /v1/classify`, of which all but the items may be elsewhere."""

    items: Annotated[list[str | GivenItem], msgspec.Meta(min_length=1)]
    model: str | None = None
    version: str | None = None
    top_k: TopK | None = None
    min_score: MinScore | None = None


class _LooseData(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    items: Annotated[list[msgspec.Raw], msgspec.Meta(min_length=1)]
    model: str | None = None
    version: str | None = None
    top_k: TopK | None = None
    min_score: MinScore | None = None


class _Asked(msgspec.Struct):
    """What an event wants."""

    event: Event
    model: str
    items: list[Item]
    version: str | None
    top_k: int
    min_score: float | None


class _Sent(msgspec.Struct):
    """An event as it goes."""

    attributes: dict[str, str]
    data: Answers | Refusal | JobView
    #: The path of the job that the event has become.
    job: str | None = None

    @property
    def status(self) -> int:
        return HTTPStatus.ACCEPTED if self.job else HTTPStatus.OK

    @property
    def headers(self) -> dict[str, str]:
        return {str(hdrs.LOCATION): self.job} if self.job else {}


_body: Final = Body(_Data, _LooseData)
_text: Final = msgspec.json.Decoder(str)


async def receive(request: web.Request) -> web.Response:
    """The answer has the mode of what came."""
    query = _query(request)
    body = await read(request)
    check_parts(body, request.app[SETTINGS].max_call_items)
    match request.content_type:
        case "application/cloudevents-batch+json":
            return await _batch(request, query, body)
        case "application/cloudevents+json":
            sent = await _one(request, _asked(lambda: cloud_events.structured(body), query))
            return _structured(_flat(sent), STRUCTURED, sent.status, sent.headers)
        case kind if any(name.lower().startswith(cloud_events.PREFIX) for name in request.headers):
            event = _asked(lambda: cloud_events.binary(request.headers, kind, body), query)
            sent = await _one(request, event)
            headers = cloud_events.headers_of(sent.attributes) | sent.headers
            return json_response(sent.data, sent.status, headers)
    raise unsupported(request, STRUCTURED, BATCH, "headers ce-id, ce-source, ...")


async def _batch(request: web.Request, query: _Query, body: bytes) -> web.Response:
    """An event that fails has an event that says so; the others go on."""
    try:
        raws = cloud_events.batch(body)
    except (ValueError, RecursionError) as error:
        raise _malformed(f"no list of events: {error}") from error
    check_count(len(raws), request.app[SETTINGS])
    found: list[_Asked | _Sent] = []
    for place, raw in enumerate(raws):
        event = None
        try:
            event = _event(lambda raw=raw: cloud_events.structured(raw))  # type: ignore[misc]
            found.append(_wanted(event, query))
        except HttpError as error:
            found.append(_failed(request, event, error.failure, f"event {place} of the batch: "))
    check_count(
        sum(len(one.items) for one in found if isinstance(one, _Asked)), request.app[SETTINGS]
    )
    sent = await asyncio.gather(*(_settled(request, one) for one in found))
    return _structured([_flat(one) for one in sent], BATCH)


async def _settled(request: web.Request, one: _Asked | _Sent) -> _Sent:
    if isinstance(one, _Sent):
        return one
    try:
        return await _one(request, one)
    except Exception as error:
        failed = failure(error)
        if failed is None:
            raise
        return _failed(request, one.event, failed)


async def _one(request: web.Request, asked: _Asked) -> _Sent:
    """Its answer, or the job that it becomes when the answer takes longer than the caller waits."""
    settings = request.app[SETTINGS]
    check_count(len(asked.items), settings)
    caller_of(request).charge(len(asked.items))
    seconds = Preferences.of(request.headers.get(prefer.HEADER, "")).patience(settings.wait)
    if seconds > 0:
        with contextlib.suppress(TimeLimitExceeded):
            results = await answered(
                request.app,
                asked.model,
                asked.items,
                version=asked.version,
                top_k=asked.top_k,
                min_score=asked.min_score,
                timeout=seconds,
                owner=owner_of(request),
            )
            return _Sent(_attributes(request, asked, CLASSIFIED), Answers(asked.model, results))
    wanted = Asked(
        model=asked.model, version=asked.version, top_k=asked.top_k, min_score=asked.min_score
    )
    job = await accept(request.app, owner_of(request), wanted, asked.items)
    told = view(request, job)
    return _Sent(_attributes(request, asked, ACCEPTED), told, path_of(request, job.id))


def _attributes(request: web.Request, asked: _Asked, kind: str) -> dict[str, str]:
    return cloud_events.answer(asked.event, kind, request.path, asked.event.subject)


def _failed(request: web.Request, event: Event | None, failed: Failure, where: str = "") -> _Sent:
    attributes = cloud_events.answer(event, FAILED, request.path, event.subject if event else None)
    return _Sent(attributes, Refusal(Fault(failed.code, f"{where}{failed.message}")))


def _query(request: web.Request) -> _Query:
    try:
        return msgspec.convert(dict(request.query), _Query, strict=False)
    except msgspec.ValidationError as error:
        raise HttpError(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", str(error)) from error


def _asked(read_event: Callable[[], Event], query: _Query) -> _Asked:
    return _wanted(_event(read_event), query)


def _event(read_event: Callable[[], Event]) -> Event:
    """Raises HttpError 400 for what is no CloudEvent."""
    try:
        return read_event()
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise _malformed(f"no CloudEvent: {error}") from error


def _wanted(event: Event, query: _Query) -> _Asked:
    """Raises HttpError 422 for data that cannot be classified."""
    try:
        asked = _of_data(event, query)
    except (ValueError, RecursionError) as error:
        words = f"data of event {event.id!r}: {error}"
        raise HttpError(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", words) from error
    if not asked.model:
        raise HttpError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "invalid",
            f"event {event.id!r} names no model: in its data, by ?model=NAME, or as its subject",
        )
    return asked


def _of_data(event: Event, query: _Query) -> _Asked:
    model = query.model or event.subject or ""
    if event.data_base64 is not None:
        text = event.data_base64.decode()
        if not cloud_events.is_json(event):
            return _of_text(event, model, text, query)
        event.data = msgspec.Raw(event.data_base64)
    if bytes(event.data).strip() in {b"", b"null"}:
        raise ValueError("there is none")
    if bytes(event.data).lstrip()[:1] == b'"':
        text = _text.decode(event.data)
        return _of_text(event, model, text, query)
    data = _body.decode(bytes(event.data))
    return _Asked(
        event,
        data.model or model,
        _body.items(data),
        data.version or query.version,
        query.top_k if data.top_k is None else data.top_k,
        query.min_score if data.min_score is None else data.min_score,
    )


def _of_text(event: Event, model: str, text: str, query: _Query) -> _Asked:
    items = [Item(id=event.id, text=text)]
    return _Asked(event, model, items, query.version, query.top_k, query.min_score)


def _malformed(words: str) -> HttpError:
    return HttpError(HTTPStatus.BAD_REQUEST, "malformed", words)


def _flat(sent: _Sent) -> dict[str, Any]:
    return {**sent.attributes, "data": sent.data}


def _structured(
    value: object, kind: str, status: int = HTTPStatus.OK, headers: dict[str, str] | None = None
) -> web.Response:
    body = msgspec.json.encode(value)
    return web.Response(body=body, status=status, content_type=kind, headers=headers)


ROUTES: Final = (
    Route(
        "POST",
        "/v1/events",
        receive,
        "Classify CloudEvents",
        scope=CLASSIFY,
        query=_Query,
        reads=(STRUCTURED, BATCH, JSON, "text/plain"),
        gives=Answers,
        sends=(STRUCTURED, BATCH),
        others={
            202: "the answer takes longer: `Location` names the job that the event has become",
            400: "no CloudEvent",
            404: "no worker has ever served the model, or none has this version of it",
            413: "too many bytes or items",
            415: "neither a content type of CloudEvents nor headers ce-*",
            422: "the data cannot be classified, or no model is named",
            429: "too much work waits; see Retry-After",
            503: "the broker is away",
        },
        bodies={202: JobView},
        notes="CloudEvents 1.0 in binary mode (headers `ce-*`), structured "
        f"(`{STRUCTURED}`) or batched (`{BATCH}`). Data is a text, or the body of "
        "`POST /v1/classify`; its model may also be the query's `model` or the event's subject. "
        f"The answer is an event `{CLASSIFIED}` in the same mode, whose `causationid` is the id of "
        f"what it answers; in a batch what fails is answered by an event `{FAILED}`. What takes "
        "longer than `Prefer: wait=SECONDS` or the gateway's own limit becomes a job, as with "
        f"`Prefer: respond-async`: the answer is an event `{ACCEPTED}` with the job.",
    ),
)
