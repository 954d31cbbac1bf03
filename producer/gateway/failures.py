"""What HTTP says of an error: one table from exceptions to a status, a code and words. Pure."""

from __future__ import annotations

import errno
import math
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from aiohttp import web
from sqlalchemy import exc

from lmaas.broker_config.codes import Code, meaning
from lmaas.broker_config.errors import (
    BrokerError,
    BrokerRefused,
    BrokerUnavailable,
    Busy,
    DataError,
    ItemFailed,
    JobError,
    LmaasError,
    MessageError,
    ModelDamaged,
    ModelNotFound,
    SealError,
    TimeLimitExceeded,
)

#: Seconds after which a caller may try again where nobody knows better.
RETRY_AFTER: Final = 1.0

#: Names and values.
Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request was not done."""

    status: int
    #: One of `Code`, or a word of the gateway's own, for programs.
    code: str
    #: What was wrong, where, and what to do, for people.
    message: str
    #: Seconds, where it may be worth to try again.
    retry_after: float | None = None
    #: Headers that the answer needs besides.
    others: Headers = ()
    #: The part of the request that was wrong, for protocols that tell it.
    param: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """With `Retry-After` in whole seconds, at least one (RFC 9110, 10.2.3)."""
        headers = dict(self.others)
        if self.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after)))
        return headers


class HttpError(LmaasError):
    """A request that is refused; each protocol tells it in its own shape."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        retry_after: float | None = None,
        headers: Headers = (),
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.failure = Failure(status, code, message, retry_after, headers, param)


#: Exception -> status and code, the more special ones first.
_KINDS: Final[tuple[tuple[type[Exception], int, str], ...]] = (
    (ModelNotFound, HTTPStatus.NOT_FOUND, Code.UNKNOWN_MODEL),
    (ModelDamaged, HTTPStatus.SERVICE_UNAVAILABLE, Code.MODEL_DAMAGED),
    (TimeLimitExceeded, HTTPStatus.GATEWAY_TIMEOUT, Code.TIME_LIMIT),
    (BrokerUnavailable, HTTPStatus.SERVICE_UNAVAILABLE, "broker_unavailable"),
    (BrokerRefused, HTTPStatus.SERVICE_UNAVAILABLE, "broker_refused"),
    (BrokerError, HTTPStatus.SERVICE_UNAVAILABLE, "broker_error"),
    (JobError, HTTPStatus.CONFLICT, "job_error"),
    (DataError, HTTPStatus.BAD_REQUEST, "unreadable"),
    (MessageError, HTTPStatus.BAD_REQUEST, "bad_request"),
)

#: How the codes of PostgreSQL begin that say nothing of a statement: connections, a server that
#: only reads, access, no such database, transactions in each other's way, locks, resources,
#: operators, the system.
_AWAY: Final = ("08", "25006", "28", "3D", "40", "55", "53", "57", "58")
#: What an operating system lacks, or a disk.
_EXHAUSTED: Final = {
    errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EROFS,
    errno.ESTALE,
}  # fmt: skip
#: How PostgreSQL's codes begin of a value that it cannot have: a text with NUL, or too long.
_DATA: Final = "22"


def failure(error: Exception) -> Failure | None:
    """Of any exception that a handler may raise; None of a bug, which is for the log."""
    match error:
        case HttpError():
            return error.failure
        case Busy():
            return Failure(
                HTTPStatus.TOO_MANY_REQUESTS, "busy", str(error), retry_after=error.retry_after
            )
        case ItemFailed() | SealError():
            return Failure(meaning(error.code).status, error.code, str(error))
        case web.HTTPException():
            return Failure(error.status, _slug(error.reason), _words(error))
        case LmaasError():
            return _of_table(error)
        case exc.TimeoutError():
            return _without_state(f"the gateway's database cannot be used: {error}")
        case exc.DBAPIError():
            return _of_database(error)
        case OSError() if error.errno in _EXHAUSTED:
            return _without_state(f"the gateway cannot use its state folder: {error.strerror}")
        case _:
            return None


def _words(error: web.HTTPException) -> str:
    """What aiohttp found, with what to do."""
    match error:
        case web.HTTPNotFound():
            return "there is no such path; openapi.json has those that there are"
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(error.allowed_methods))
            return f"{error.method} is not possible here; {allowed} is"
        case _:
            return error.text or error.reason


def _of_database(error: exc.DBAPIError) -> Failure | None:
    if _is_away(error):
        return _without_state(f"the gateway's database cannot be used: {error.orig}")
    if (getattr(error.orig, "sqlstate", None) or "").startswith(_DATA):
        told = f"a part of the request cannot be kept in the gateway's database: {error.orig}"
        return Failure(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", told)
    return None


def _is_away(error: exc.DBAPIError) -> bool:
    """Whether the database cannot be used now; if not, what it was asked for is wrong."""
    if error.connection_invalidated or isinstance(error, exc.OperationalError | exc.InterfaceError):
        return True
    return (getattr(error.orig, "sqlstate", None) or "").startswith(_AWAY)


def _without_state(message: str) -> Failure:
    return Failure(HTTPStatus.SERVICE_UNAVAILABLE, "state_unavailable", message, RETRY_AFTER)


def _of_table(error: LmaasError) -> Failure:
    for kind, status, code in _KINDS:
        if isinstance(error, kind):
            # Waiting does not give a user more rights.
            may_pass = status == HTTPStatus.SERVICE_UNAVAILABLE and kind is not BrokerRefused
            again = RETRY_AFTER if may_pass else None
            return Failure(status, code, str(error), again)
    return Failure(HTTPStatus.INTERNAL_SERVER_ERROR, Code.INTERNAL, str(error))


def _slug(reason: str) -> str:
    return reason.lower().replace(" ", "_").replace("-", "_")
