"""Who may call: the names by which the gateway is called, and keys with their scopes."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from lmaas.producer.gateway.app_keys import SETTINGS
from lmaas.producer.gateway.failures import HttpError
from lmaas.producer.gateway.settings import LOOPBACK

#: What a key may allow.
CLASSIFY: Final = "classify"
JOBS: Final = "jobs"
ADMIN: Final = "admin"

#: What a request has when a key was asked for: the key's id.
OWNER: Final = web.RequestKey("owner", str)


def owner_of(request: web.Request) -> str:
    """Whose a job, file or batch is that this request makes; "" when access is open."""
    owner: str = request.get(OWNER, "")
    return owner


def admit(request: web.Request, scope: str) -> None:
    """Raises HttpError when the caller may not do what has this scope."""
    check_names(request)


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
