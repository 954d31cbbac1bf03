"""Who may call: the names by which the gateway is called, and keys with their scopes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from lmaas.producer.gateway.api_keys import ADMIN, CLASSIFY, FOLLOW, JOBS
from lmaas.producer.gateway.app_keys import CALLERS, SETTINGS
from lmaas.producer.gateway.callers import Caller
from lmaas.producer.gateway.failures import HttpError
from lmaas.producer.gateway.settings import LOOPBACK

__all__ = ["ADMIN", "CLASSIFY", "FOLLOW", "JOBS", "admit", "caller_of", "check_names", "owner_of"]

#: Who calls, from its admission on.
CALLER: Final = web.RequestKey("caller", Caller)
#: Where a key may be, besides `Authorization: Bearer KEY`.
X_API_KEY: Final = "X-API-Key"
_BEARER: Final = "bearer "
#: What a 401 has to say (RFC 9110, 11.6.1).
_CHALLENGE: Final = (("WWW-Authenticate", 'Bearer realm="lmaas"'),)


def owner_of(request: web.Request) -> str:
    """Whose a job, file or batch is that this request makes; "" when access is open."""
    caller = request.get(CALLER)
    return caller.owner if caller else ""


def caller_of(request: web.Request) -> Caller:
    """Who calls a route with a scope."""
    return request[CALLER]


async def admit(request: web.Request, scope: str) -> contextlib.AbstractContextManager[None]:
    """The context in which a request is answered.

    Raises HttpError: 401 without a key, 403 when it may not do what has this scope, and 503. The
    context raises 429 when it is one request too many.
    """
    if request.app[SETTINGS].access == "open":
        # Whoever has a key needs no such check: a page of somebody else does not know the key.
        check_names(request)
        caller: Caller | None = request.app[CALLERS].anybody
    else:
        caller = await request.app[CALLERS].of(_presented(request))
    if caller is None:
        raise HttpError(
            HTTPStatus.UNAUTHORIZED,
            "unauthorized",
            "no API key that may be used came with the request: send Authorization: Bearer KEY, "
            f"or {X_API_KEY}: KEY",
            headers=_CHALLENGE,
        )
    request[CALLER] = caller
    if not caller.allows(scope):
        raise HttpError(
            HTTPStatus.FORBIDDEN,
            "forbidden",
            f"this key does not have the scope {' or '.join(scope.split())}",
        )
    return _visit(request, caller)


@contextlib.contextmanager
def _visit(request: web.Request, caller: Caller) -> Iterator[None]:
    caller.begin()
    try:
        yield
    finally:
        caller.end(request.content.total_bytes)


def tell_limits(request: web.Request, response: web.StreamResponse) -> None:
    """To the caller what is left of its limits; to the usage that it has failed."""
    caller = request.get(CALLER)
    if caller is None:
        return
    response.headers.update(caller.headers)
    if response.status >= HTTPStatus.BAD_REQUEST:
        caller.count_error()


def _presented(request: web.Request) -> str:
    """The key that came with a request; empty without one."""
    headers = request.headers
    given = headers.get(hdrs.AUTHORIZATION, "")
    if given[: len(_BEARER)].lower() == _BEARER:
        return given[len(_BEARER) :].strip()
    return headers.get(X_API_KEY, "").strip()


def check_names(request: web.Request) -> None:
    """Raises HttpError when the gateway is called by a name that is not its own.

    A page in the user's browser reaches a loopback address by a name of its own (DNS rebinding).
    It is known by the name in Host, and by its Origin, which a browser adds and it cannot change.
    """
    settings = request.app[SETTINGS]
    allowed = settings.allowed_hosts
    if "*" in allowed:
        return
    host = _name(f"//{request.headers.get(hdrs.HOST, '')}")
    if host not in LOOPBACK and host != settings.host and host not in allowed:
        raise HttpError(
            HTTPStatus.FORBIDDEN,
            "host_not_allowed",
            f"the gateway is not called {host!r}; allow it by the setting gateway.allowed_hosts",
        )
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is not None and _name(origin) != host:
        raise HttpError(
            HTTPStatus.FORBIDDEN, "origin_not_allowed", f"pages of {origin!r} may not call"
        )


def _name(url: str) -> str:
    """The host of a URL in small letters; empty without one."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
