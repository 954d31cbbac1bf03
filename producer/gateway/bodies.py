"""Reading what callers send: its type, its size, its structure."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final, Protocol, TypeVar

import msgspec
from aiohttp import hdrs, web

from lmaas.broker_config.decoding import SMALL, TOKENS_AN_ITEM, has_more_tokens
from lmaas.producer.gateway.failures import HttpError
from lmaas.producer.gateway.routes import JSON

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Decoder(Protocol[T_co]):
    """A decoder of msgspec, or what raises the same errors."""

    def decode(self, body: bytes, /) -> T_co: ...


#: What `curl -d` sends, unless it is told otherwise.
FORM: Final = "application/x-www-form-urlencoded"
UNNAMED: Final = "application/octet-stream"

#: What aiohttp decompresses everywhere.
_ENCODINGS: Final = {"identity", "gzip", "deflate"}


async def json_body(
    request: web.Request,
    decoder: Decoder[T],
    max_items: int | None = None,
    others: Sequence[str] = (),
) -> T:
    """The body as a structure. Raises HttpError: 400, 413, 415 or 422.

    `others` are the media types of which the words of a 415 tell besides. A body with more parts
    than so many items have is not decoded: a few bytes of JSON may take a hundred of memory.
    """
    if request.content_type not in {JSON, FORM, UNNAMED}:
        raise unsupported(request, JSON, *others)
    body = await read(request)
    if max_items is not None:
        check_parts(body, max_items)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise HttpError(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HttpError(HTTPStatus.BAD_REQUEST, "malformed", f"no JSON: {error}") from error


def check_parts(body: bytes, max_items: int) -> None:
    """Raises HttpError 413 for JSON with more parts than so many items have."""
    if len(body) > SMALL and has_more_tokens(body, TOKENS_AN_ITEM * max_items):
        raise HttpError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "too_many_items",
            f"the body has more parts than {max_items:,} items have, which are the most",
        )


async def read(request: web.Request) -> bytes:
    """The whole body, decompressed, up to the limit of the application.

    aiohttp's parser decompresses (`aiohttp.http_parser.DeflateBuffer`). At the end of a body it
    does not check that a gzip stream is whole; of a deflate stream that is not it tells the
    connection, and no reader of the body.

    Raises HttpError: 400, 413 or 415.
    """
    encoding = check_encoding(request)
    try:
        return await request.read()
    except web.RequestPayloadError as error:
        raise HttpError(
            HTTPStatus.BAD_REQUEST, "malformed", f"the body is not {encoding}, or is incomplete"
        ) from error
    except web.HTTPRequestEntityTooLarge as error:
        raise too_large(request.app._client_max_size) from error


def check_encoding(request: web.Request) -> str:
    """How the body is compressed. Raises HttpError 415 for what is not decompressed."""
    encoding = request.headers.get(hdrs.CONTENT_ENCODING, "identity")
    if encoding.lower() not in _ENCODINGS:
        raise HttpError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            f"the body's Content-Encoding is {encoding!r}; send gzip or deflate, or none",
        )
    return encoding


def too_large(limit: int) -> HttpError:
    """413 for a body with more bytes than that."""
    return HttpError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "too_large",
        f"the body is larger than {limit:,} bytes (setting gateway.max_body_bytes); send a job "
        "(POST /v1/jobs), which has no limit",
    )


def unsupported(request: web.Request, *known: str) -> HttpError:
    """415 with what would be understood."""
    given = request.content_type
    return HttpError(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        f"the body is {given}; send {' or '.join(known)}",
    )
