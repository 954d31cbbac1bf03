"""Reading what callers send: its type, its size, its structure."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from http import HTTPStatus
from typing import Final, Protocol, TypeVar

import msgspec
from aiohttp import StreamReader, hdrs, web
from aiohttp.base_protocol import BaseProtocol

from lmaas.broker_config.decoding import SMALL, TOKENS_AN_ITEM, has_more_tokens
from lmaas.producer.gateway.app_keys import SETTINGS
from lmaas.producer.gateway.decompression import Decompressor
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

_BODY: Final = web.RequestKey("body", bytes)
_CONTENT: Final = web.RequestKey("content", StreamReader)
#: A line of a form may have twice as many bytes, as in aiohttp's own streams.
_BUFFER: Final = 256 * 1024


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
    """The whole body, decompressed, up to the limit of the application; the same at each call.

    Raises HttpError: 400, 413 or 415.
    """
    if (body := request.get(_BODY)) is None:
        body = request[_BODY] = await _read(request, request.app[SETTINGS].max_body_bytes)
    return body


async def _read(request: web.Request, limit: int) -> bytes:
    stream, body = content(request), bytearray()
    with whole():
        while piece := await stream.readany():
            body += piece
            if len(body) > limit:
                raise too_large(limit)
    return bytes(body)


def too_large(limit: int) -> HttpError:
    """413 for a body with more bytes than that."""
    return HttpError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "too_large",
        f"the body is larger than {limit:,} bytes (setting gateway.max_body_bytes); send a job "
        "(POST /v1/jobs), which has no limit",
    )


def content(request: web.Request) -> StreamReader:
    """The body as it was before it was compressed for its way: the same stream at each call.

    Its `total_bytes` are those that were decompressed so far. Reading raises HttpError 400 where it
    is damaged or cut, and `web.RequestPayloadError` as aiohttp does, see `whole`.
    Raises HttpError 415.
    """
    if (stream := request.get(_CONTENT)) is None:
        stream = request[_CONTENT] = _content(request)
    return stream


def _content(request: web.Request) -> StreamReader:
    codings = request.headers.getall(hdrs.CONTENT_ENCODING, ())
    if not codings or all(coding.strip().lower() == "identity" for coding in codings):
        return request.content
    decompressor = Decompressor(", ".join(codings))
    # aiohttp counts what it decompresses itself, and does not check that it is whole.
    if getattr(request.content, "total_compressed_bytes", None) is not None:
        raise HttpError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "the server decompresses bodies before the gateway can see whether they are whole; "
            "send this one without Content-Encoding, or have the server run with "
            "auto_decompress=False",
            headers=(("Accept-Encoding", "identity"),),
        )
    return _Decompressed(request.content, decompressor)


@contextlib.contextmanager
def whole() -> Iterator[None]:
    """Raises HttpError 400 for a body that is not as its head says, or has a chunk that is none."""
    try:
        yield
    except web.RequestPayloadError as error:
        raise HttpError(
            HTTPStatus.BAD_REQUEST, "malformed", f"the body cannot be read to its end: {error}"
        ) from error


class _Still(BaseProtocol):
    """The connection of a stream that gets more only when its reader asks for it."""

    def pause_reading(self) -> None:
        pass

    def resume_reading(self, resume_parser: bool = True) -> None:
        pass


class _Decompressed(StreamReader):
    """What another stream becomes, for all that reads aiohttp's streams, as its forms do."""

    def __init__(self, source: StreamReader, decompressor: Decompressor) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(_Still(loop), _BUFFER, loop=loop)
        self._decompressor = decompressor
        self._pieces = _pieces(source, decompressor)

    async def _wait(self, func_name: str) -> None:
        """aiohttp calls this whenever there is nothing more to be read, and no end."""
        try:
            if piece := await anext(self._pieces, b""):
                self.feed_data(piece)
            else:
                self._decompressor.check_end()
                self.feed_eof()
        except Exception as error:
            self.set_exception(error)  # so that whoever reads on does not find an end
            raise


async def _pieces(source: StreamReader, decompressor: Decompressor) -> AsyncIterator[bytes]:
    while data := await source.readany():
        for piece in decompressor.steps(data):
            if piece:
                yield piece
            await asyncio.sleep(0)  # however much a body becomes, others go on


def unsupported(request: web.Request, *known: str) -> HttpError:
    """415 with what would be understood."""
    given = request.content_type
    return HttpError(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        f"the body is {given}; send {' or '.join(known)}",
    )
