"""`POST /hooks/{name}`: verified, then read, then classified; once, however often it comes."""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from typing import Final

from aiohttp import hdrs, web
from sqlalchemy.ext.asyncio import AsyncConnection

from lmaas.broker_config.messages import Item, Result
from lmaas.producer.gateway.access import check_names
from lmaas.producer.gateway.app_keys import SETTINGS, STATE
from lmaas.producer.gateway.bodies import FORM, read
from lmaas.producer.gateway.calls import answered, check_count
from lmaas.producer.gateway.classify import Answers
from lmaas.producer.gateway.failures import HttpError
from lmaas.producer.gateway.hooks.configured import HOOKS, Ready
from lmaas.producer.gateway.hooks.mapping import parsed
from lmaas.producer.gateway.idempotency import Note
from lmaas.producer.gateway.jobs.accepting import Asked
from lmaas.producer.gateway.jobs.submitted import submitted
from lmaas.producer.gateway.jobs.views import JobView
from lmaas.producer.gateway.routes import JSON, Route, json_response
from lmaas.producer.gateway.state import received
from lmaas.producer.gateway.state.received import Answered

#: Seconds beyond the time limit of a call after which who works on a delivery is taken for dead.
_MARGIN: Final = 15.0
#: Bytes of a body from which on it is read beside the event loop.
_LARGE: Final = 64 * 1024


async def receive(request: web.Request) -> web.Response:
    hook = request.app[HOOKS].get(request.match_info["name"])
    if hook is None:
        raise HttpError(HTTPStatus.NOT_FOUND, "not_found", "there is no such hook")
    if hook.settings.scheme == "none":
        check_names(request)
    body = await read(request)
    signed = hook.scheme.verify(request.headers, body, time.time())
    if signed is None:
        # Nothing that helps to find out which part was right.
        raise HttpError(HTTPStatus.UNAUTHORIZED, "unauthorized", "the request is not authentic")
    if signed.id is None:
        return await _done(request, hook, body, None)
    return await _once(request, hook, received.key(signed.id), body)


async def _once(request: web.Request, hook: Ready, delivery: str, body: bytes) -> web.Response:
    """What comes again is answered as it was the first time."""
    state, held = request.app[STATE], request.app[SETTINGS].wait + _MARGIN
    async with state.writing() as connection:
        begun = await received.begin(
            connection, hook.name, delivery, time.time(), held, hook.settings.remember
        )
    if isinstance(begun, Answered):
        headers = {hdrs.LOCATION: begun.location} if begun.location else None
        return web.Response(
            body=begun.body, status=begun.status, content_type=JSON, headers=headers
        )
    if not begun:
        raise HttpError(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "in_progress",
            "this delivery came before and is being worked on; send it again",
            retry_after=1.0,
        )

    async def note(connection: AsyncConnection, answer: web.Response) -> None:
        await received.finish(connection, hook.name, delivery, _kept(answer))

    try:
        return await _done(request, hook, body, note)
    except BaseException:
        # What was noted stays.
        async with state.writing() as connection:
            await received.give_up(connection, hook.name, delivery)
        raise


def _kept(answer: web.Response) -> Answered:
    body = answer.body if isinstance(answer.body, bytes) else b""
    return Answered(answer.status, answer.headers.get(hdrs.LOCATION), body)


async def _done(request: web.Request, hook: Ready, body: bytes, note: Note | None) -> web.Response:
    """What the hook asks for; `note` is called with the answer, for a job when it is accepted."""
    if len(body) < _LARGE:
        items = _items(hook, body, request.content_type)
    else:
        items = await asyncio.to_thread(_items, hook, body, request.content_type)
    if items and hook.settings.reply == "job":
        return await _job(request, hook, items, note)
    answer = json_response(Answers(hook.settings.model, await _results(request, hook, items)))
    if note is not None:
        async with request.app[STATE].writing() as connection:
            await note(connection, answer)
    return answer


async def _results(request: web.Request, hook: Ready, items: list[Item]) -> list[Result]:
    settings = request.app[SETTINGS]
    check_count(len(items), settings)
    if not items:
        return []
    return await answered(
        request.app,
        hook.settings.model,
        items,
        version=hook.settings.version,
        top_k=hook.settings.top_k,
        min_score=hook.settings.min_score,
        timeout=settings.wait,
        owner=hook.settings.owner,
    )


async def _job(
    request: web.Request, hook: Ready, items: list[Item], note: Note | None
) -> web.Response:
    callback = hook.settings.callback
    asked = Asked(
        model=hook.settings.model,
        version=hook.settings.version,
        top_k=hook.settings.top_k,
        min_score=hook.settings.min_score,
        callback_url=callback.url if callback else None,
        callback_secret=hook.callback_secret,
    )
    return await submitted(request, asked, items, note, owner=hook.settings.owner)


def _items(hook: Ready, body: bytes, content_type: str) -> list[Item]:
    return hook.items(parsed(body, content_type))


ROUTES: Final = (
    Route(
        "POST",
        "/hooks/{name}",
        receive,
        "Receive a webhook",
        scope=None,
        gives=Answers,
        others={
            202: "its items are a job, which the answer describes",
            400: "the body is neither JSON nor a form",
            401: "the request is not authentic",
            404: "there is no such hook",
            413: "too many bytes or items",
            422: "the items cannot be found in the body",
            429: "too much work waits; see Retry-After",
            503: "the broker is away, or the same delivery is being worked on; see Retry-After",
            504: "no answer in time",
        },
        bodies={202: JobView},
        reads=(JSON, FORM),
        notes="Hooks are sections of the settings, [gateway.hooks.NAME], that say how a sender "
        "shows who it is and how what it sends becomes items. The body is JSON, or a form. What "
        "comes again is answered as the first time, and not done again.",
    ),
)
