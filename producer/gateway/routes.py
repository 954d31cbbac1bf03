"""What a route is, and what surrounds each handler: access, and errors in the protocol's shape."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, Final

import msgspec
from aiohttp import ClientConnectionResetError, hdrs, web

from lmaas.broker_config.codes import Code
from lmaas.producer.gateway.failures import Failure, failure
from lmaas.producer.gateway.pace import watch

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Admit = Callable[[web.Request, str], Awaitable[AbstractContextManager[None]]]

JSON: Final = "application/json"
_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class Protocol:
    """How one family of routes tells an error."""

    name: str
    #: The JSON of an error.
    error: Callable[[Failure], Any]
    #: The structure of that.
    refusal: Any
    #: The status that it has for one of ours, where it knows fewer.
    status: Callable[[int], int] = int


class Fault(msgspec.Struct):
    """Why a request was not done."""

    code: str
    message: str


class Refusal(msgspec.Struct):
    """The body of an error."""

    error: Fault


OURS: Final = Protocol("lmaas", lambda failed: Refusal(Fault(failed.code, failed.message)), Refusal)


@dataclass(frozen=True)
class Route:
    """One line of the table; the OpenAPI document is made of them."""

    method: str
    path: str
    handler: Handler
    #: For people, one line.
    summary: str
    #: What a key must allow, or one of several with spaces between; "": any key will do; None:
    #: nothing is asked for.
    scope: str | None
    protocol: Protocol = OURS
    #: Structures of the JSON bodies: msgspec types. None: no body, or one that `notes` describes.
    takes: Any = None
    gives: Any = None
    #: That of the query.
    query: Any = None
    #: Headers that change what is done.
    headers: tuple[str, ...] = ()
    #: Media types that a body, and the answer, may have besides.
    reads: tuple[str, ...] = ()
    #: The structure of a form, when it is more than a file and fields.
    form: Any = None
    sends: tuple[str, ...] = ()
    status: int = HTTPStatus.OK
    #: Other statuses -> when; and the structures of those that are no errors.
    others: dict[int, str] = field(default_factory=dict)
    bodies: dict[int, Any] = field(default_factory=dict)
    notes: str = ""
    #: Whether it is in the OpenAPI document.
    documented: bool = True
    #: The group that it belongs to, by which the document is ordered for people.
    tag: str = ""


def tagged(tag: str, *groups: Sequence[Route]) -> tuple[Route, ...]:
    """The routes of some modules as one group."""
    return tuple(replace(route, tag=tag) for routes in groups for route in routes)


def json_response(
    value: object, status: int = HTTPStatus.OK, headers: dict[str, str] | None = None
) -> web.Response:
    """A structure or plain value as JSON."""
    return web.Response(body=_encode(value), status=status, content_type=JSON, headers=headers)


def answering(route: Route, admit: Admit, body_timeout: float) -> Handler:
    """The handler of a route, which raises nothing but what aiohttp itself wants to see.

    `admit` raises HttpError when the caller may not do what has this scope; what it returns is the
    context of the answer. A body must come at some pace: see `pace.watch`.
    """

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            if not request.content.is_eof():
                watch(request.content, body_timeout)
            if route.scope is None:
                return await route.handler(request)
            with await admit(request, route.scope):
                return await route.handler(request)
        except Exception as error:
            return refused(request, route.protocol, error)

    return answer


def nearest(path: str, protocols: Sequence[tuple[str, Protocol]]) -> Protocol:
    """Of the route that begins most like a path, in which to say that there is no such path.

    `protocols` has the path of each route and its protocol.
    """

    def alike(one: tuple[str, Protocol]) -> int:
        pairs = zip(one[0], path, strict=False)
        return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))

    return max(protocols, key=alike)[1]


def refused(request: web.Request, protocol: Protocol, error: Exception) -> web.Response:
    """The answer to a request that has failed."""
    failed = failure(error)
    if failed is None and _has_left(request, error):  # nobody reads this, but it is no bug
        failed = Failure(HTTPStatus.BAD_REQUEST, "incomplete", "the caller has left")
    if failed is None:
        log.error("%s %s", request.method, request.path, exc_info=error, extra={"action": "bug"})
        failed = Failure(
            HTTPStatus.INTERNAL_SERVER_ERROR, Code.INTERNAL, "a bug of the gateway; see its log"
        )
    headers = failed.headers
    if isinstance(error, web.HTTPMethodNotAllowed):
        headers[hdrs.ALLOW] = error.headers[hdrs.ALLOW]
    answer = json_response(protocol.error(failed), protocol.status(failed.status), headers)
    if request.content.exception() is not None:  # what follows on the connection is not known
        answer.force_close()
        # aiohttp reads on after the answer, and logs each error but this one as a bug of ours.
        request.content.set_exception(TimeoutError())
    return answer


def _has_left(request: web.Request, error: Exception) -> bool:
    """Whether an error says that the connection to the caller is gone, and not another one."""
    if isinstance(error, ClientConnectionResetError):
        return True
    return isinstance(error, ConnectionError) and request.transport is None
