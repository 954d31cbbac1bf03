"""How this protocol tells an error; pure."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any, Final

import msgspec
from aiohttp import web

from lmaas.producer.gateway.failures import Failure, HttpError
from lmaas.producer.gateway.routes import Protocol

#: Where msgspec says what was wrong: "... - at `$.metadata`", "... missing required field `input`".
_PLACE: Final = re.compile(r"`\$\.(\w+)|required field `(\w+)`")


class OpenAIFault(msgspec.Struct):
    """Why a request was not done."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIRefusal(msgspec.Struct):
    """The body of an error."""

    error: OpenAIFault


def status_of(status: int) -> int:
    """A body of another structure is a bad request here, as every other one."""
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        return HTTPStatus.BAD_REQUEST
    return status


def refusal(status: int, code: str, message: str, param: str | None = None) -> OpenAIRefusal:
    """The body for a status."""
    return OpenAIRefusal(OpenAIFault(message, _kind(status), param, code))


def _kind(status: int) -> str:
    match status:
        case HTTPStatus.UNAUTHORIZED:
            return "authentication_error"
        case HTTPStatus.FORBIDDEN:
            return "permission_error"
        case HTTPStatus.TOO_MANY_REQUESTS:
            return "rate_limit_error"
        case _ if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return "server_error"
        case _:
            return "invalid_request_error"


def _error(failed: Failure) -> OpenAIRefusal:
    place = _PLACE.search(failed.message)
    found = next(filter(None, place.groups()), None) if place else None
    return refusal(status_of(failed.status), failed.code, failed.message, failed.param or found)


PROTOCOL: Final = Protocol("openai", _error, OpenAIRefusal, status_of)


def bad(param: str, message: str, code: str = "invalid_value") -> HttpError:
    """400 with the part of the request that is wrong."""
    return HttpError(HTTPStatus.BAD_REQUEST, code, message, param=param)


def query_of(request: web.Request, kind: Any) -> Any:
    """The query as a structure. Raises HttpError."""
    try:
        return msgspec.convert(dict(request.query), kind, strict=False)
    except msgspec.ValidationError as error:
        raise HttpError(HTTPStatus.BAD_REQUEST, "invalid_value", str(error)) from error
