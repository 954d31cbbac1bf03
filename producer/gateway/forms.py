"""What comes as a form (multipart/form-data), piece by piece: fields in memory, files on disk."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus
from io import BufferedWriter
from pathlib import Path
from typing import Any, Final

from aiohttp import BodyPartReader, http_exceptions, multipart, web

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


class Spool:
    """A file on disk that grows up to a limit."""

    def __init__(self, path: Path, limit: int) -> None:
        self._path = path
        self._limit = limit
        #: Bytes.
        self.size = 0
        self.digest = hashlib.sha256()

    async def write_all(self, source: Any) -> None:
        """Everything of a stream (`read`) or part (`read_chunk`), decompressed.

        Raises HttpError: 400 or 413.
        """
        read = source.read_chunk if isinstance(source, BodyPartReader) else source.read
        with _whole(), await opened(lambda: self._path.open("wb"), BufferedWriter.close) as file:
            while piece := await read(_PIECE):
                self.size += len(piece)
                if self.size > self._limit:
                    raise HttpError(
                        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                        "too_large",
                        f"the file is larger than {self._limit:,} bytes (setting "
                        "gateway.max_job_bytes); send several files",
                    )
                await asyncio.to_thread(self._keep, file, piece)

    def _keep(self, file: Any, piece: bytes) -> None:
        file.write(piece)
        self.digest.update(piece)


@contextlib.contextmanager
def _whole() -> Iterator[None]:
    try:
        yield
    except web.RequestPayloadError as error:
        raise HttpError(
            HTTPStatus.BAD_REQUEST, "malformed", f"the body cannot be read to its end: {error}"
        ) from error


async def parts(request: web.Request) -> AsyncIterator[BodyPartReader]:
    """Those of a form, in their order. Raises HttpError: 400."""
    try:
        reader = await request.multipart()
        while (part := await reader.next()) is not None:
            if not isinstance(part, BodyPartReader):
                raise HttpError(HTTPStatus.BAD_REQUEST, "bad_request", "a form inside of a form")
            yield part
    except _NO_FORM as error:
        raise HttpError(HTTPStatus.BAD_REQUEST, "malformed", f"no form: {error}") from error


def name_of(text: str | None) -> str:
    """Of a field or its file; "" without one. What is no UTF-8 in it is replaced."""
    return (text or "").encode("utf-8", "replace").decode()


async def text_of(part: BodyPartReader) -> str:
    """Of a field that is no file. Raises HttpError: 413."""
    content = bytearray()
    while piece := await part.read_chunk(FIELD_BYTES):
        content += piece
        if len(content) > FIELD_BYTES:
            raise HttpError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "too_large",
                f"field {part.name!r} is larger than {FIELD_BYTES:,} bytes",
            )
    return content.decode("utf-8", "replace")
