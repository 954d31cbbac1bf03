"""What comes as a form (multipart/form-data), piece by piece: fields in memory, files on disk."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO, Final

from aiohttp import (
    BodyPartReader,
    MultipartReader,
    StreamReader,
    hdrs,
    http_exceptions,
    multipart,
    web,
)

from lmaas.producer.gateway.at_rest.keeping import AtRest
from lmaas.producer.gateway.bodies import content, whole
from lmaas.producer.gateway.failures import HttpError
from lmaas.producer.threads import opened

MULTIPART: Final = "multipart/form-data"
#: Bytes of a field that is no file, and how many fields there may be.
FIELD_BYTES: Final = 64 * 1024
FIELDS: Final = 64
#: What aiohttp raises of it.
_NO_FORM: Final = (
    ValueError,
    AssertionError,
    RuntimeError,
    multipart.BadContentDispositionHeader,
    http_exceptions.HttpProcessingError,
)
_PIECE: Final = 256 * 1024
#: Values of Content-Transfer-Encoding that change nothing; the others are not to be used in forms
#: (RFC 7578, 4.7), and no Content-Encoding either (4.8): aiohttp decodes none of them.
_PLAIN: Final = {"7bit", "8bit", "binary"}


class Spool:
    """A file on disk that grows up to a limit."""

    def __init__(self, at_rest: AtRest, path: Path, name: str, limit: int) -> None:
        """`name`: what the file will be called, wherever it is now."""
        self._at_rest = at_rest
        self._path = path
        self._name = name
        self._limit = limit
        #: Bytes.
        self.size = 0
        self.digest = hashlib.sha256()

    async def write_all(self, source: StreamReader | BodyPartReader) -> None:
        """Everything of a body or of a part of a form; what was there before is gone.

        Raises HttpError: 400 or 413.
        """
        with await opened(self._create, lambda file: file.close()) as file:
            async for piece in _pieces(source):
                self.size += len(piece)
                if self.size > self._limit:
                    raise HttpError(
                        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                        "too_large",
                        f"the file is larger than {self._limit:,} bytes (setting "
                        "gateway.max_job_bytes); send several files",
                    )
                await asyncio.to_thread(self._keep, file, piece)

    def _create(self) -> BinaryIO:
        return self._at_rest.create(self._path, self._name)

    def open(self) -> BinaryIO:
        """What was written last. Raises OSError, and SealError."""
        return self._at_rest.open(self._path, self._name)

    def collected(self, path: Path) -> BinaryIO:
        """Another file, which is to take the place of this one. Raises OSError."""
        return self._at_rest.create(path, self._name)

    def _keep(self, file: Any, piece: bytes) -> None:
        file.write(piece)
        self.digest.update(piece)


async def _pieces(source: StreamReader | BodyPartReader) -> AsyncIterator[bytes]:
    read = source.read_chunk if isinstance(source, BodyPartReader) else source.read
    with _told():
        while piece := await read(_PIECE):
            yield piece


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        with whole():
            yield
    except _NO_FORM as error:
        raise HttpError(HTTPStatus.BAD_REQUEST, "malformed", f"no form: {error}") from error


async def parts(request: web.Request) -> AsyncIterator[BodyPartReader]:
    """Those of a form, in their order. Raises HttpError: 400, or 415 for one that is encoded."""
    body = content(request)
    with _told():
        reader = MultipartReader(request.headers, body)
        while (part := await reader.next()) is not None:
            if not isinstance(part, BodyPartReader):
                raise HttpError(HTTPStatus.BAD_REQUEST, "bad_request", "a form inside of a form")
            _check_plain(part)
            await asyncio.sleep(0)  # aiohttp lets nobody else run while it has parts to read
            yield part
        await _end(body)


async def _end(body: StreamReader) -> None:
    """What was compressed is whole only when its own end has come, too. Raises HttpError: 400."""
    size = 0
    while piece := await body.readany():
        size += len(piece)
        if size > FIELD_BYTES:
            told = f"more than {FIELD_BYTES:,} bytes follow after the end of the form"
            raise HttpError(HTTPStatus.BAD_REQUEST, "malformed", told)


def _check_plain(part: BodyPartReader) -> None:
    for header, plain in (
        (hdrs.CONTENT_ENCODING, {"identity"}),
        (hdrs.CONTENT_TRANSFER_ENCODING, _PLAIN),
    ):
        encoding = part.headers.get(header)
        if encoding is not None and encoding.strip().lower() not in plain:
            raise HttpError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                f"part {name_of(part.filename or part.name)!r} of the form has {header} "
                f"{name_of(encoding)!r}, which parts of forms cannot have (RFC 7578); send the "
                "part as it is, or the whole body with Content-Encoding: gzip",
            )


def name_of(text: str | None) -> str:
    """Of a field or its file; "" without one. What is no UTF-8 in it is replaced."""
    return (text or "").encode("utf-8", "replace").decode()


def media_type_of(part: BodyPartReader) -> str | None:
    """As the part says, in small letters and without parameters; None when it does not say it."""
    given = part.headers.get(hdrs.CONTENT_TYPE)
    return None if given is None else name_of(given).partition(";")[0].strip().lower()


async def content_of(part: BodyPartReader, check: Callable[[int], None]) -> bytes:
    """All of it. `check` sees how many bytes there are each time that more have come.

    Raises HttpError 400, and what `check` raises.
    """
    found = bytearray()
    async for piece in _pieces(part):
        found += piece
        check(len(found))
    return bytes(found)


async def text_of(part: BodyPartReader) -> str:
    """Of a field that is no file. Raises HttpError: 400 or 413."""

    def check(size: int) -> None:
        if size > FIELD_BYTES:
            raise HttpError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "too_large",
                f"field {name_of(part.name)!r} is larger than {FIELD_BYTES:,} bytes",
            )

    return (await content_of(part, check)).decode("utf-8", "replace")
