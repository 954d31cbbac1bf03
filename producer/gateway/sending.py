"""Files as answers, whole or a range of one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncGenerator
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO, Final

from aiohttp import hdrs, web
from aiohttp.typedefs import LooseHeaders

from lmaas.producer.gateway.at_rest.keeping import AtRest
from lmaas.producer.gateway.failures import HttpError
from lmaas.producer.threads import opened

log = logging.getLogger(__name__)

_PIECE: Final = 256 * 1024


@contextlib.asynccontextmanager
async def streaming(
    request: web.Request, response: web.StreamResponse
) -> AsyncGenerator[None, None]:
    """An answer that has begun: what fails now can only be seen from its missing end."""
    await response.prepare(request)
    try:
        yield
    except ConnectionError:
        """The caller has left."""
    except Exception as error:
        if not isinstance(error, HttpError):  # the job was deleted meanwhile, or we are stopped
            log.error(
                "%s %s", request.method, request.path, exc_info=error, extra={"action": "bug"}
            )
        if request.transport is not None:
            request.transport.abort()


async def send_file(
    request: web.Request, at_rest: AtRest, path: Path, name: str, headers: LooseHeaders
) -> web.StreamResponse:
    """A file that `at_rest` keeps by this name. Raises OSError, and SealError."""
    if not await asyncio.to_thread(at_rest.has_sealed, path, name):
        return web.FileResponse(path, headers=headers)
    file = await opened(lambda: at_rest.open(path, name), lambda file: file.close())
    with file:
        modified = (await asyncio.to_thread(path.stat)).st_mtime
        return await _sent(request, file, modified, headers)


async def _sent(
    request: web.Request, file: BinaryIO, modified: float, headers: LooseHeaders
) -> web.StreamResponse:
    size = file.seek(0, os.SEEK_END)
    response = web.StreamResponse(headers=headers)
    response.headers[hdrs.ACCEPT_RANGES] = "bytes"
    response.last_modified = modified
    wanted = _range(request, size, modified)
    if wanted is None:
        wanted = range(size)
    elif not wanted:
        told = {hdrs.CONTENT_RANGE: f"bytes */{size}"}
        return web.Response(status=HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers=told)
    else:
        response.set_status(HTTPStatus.PARTIAL_CONTENT)
        response.headers[hdrs.CONTENT_RANGE] = f"bytes {wanted[0]}-{wanted[-1]}/{size}"
    response.content_length = len(wanted)
    file.seek(wanted.start)
    # Before the answer has begun: it may not open.
    piece = await asyncio.to_thread(file.read, min(_PIECE, len(wanted)))
    async with streaming(request, response):
        left = len(wanted)
        while left:
            await response.write(piece)
            left -= len(piece)
            piece = await asyncio.to_thread(file.read, min(_PIECE, left))
        await response.write_eof()
    return response


def _range(request: web.Request, size: int, modified: float) -> range | None:
    """The bytes that are asked for: none, when there are not any of these; None: all."""
    unless = request.if_range
    if unless is not None and modified >= unless.timestamp() + 1:
        return None
    try:
        asked = request.http_range
    except ValueError:
        return range(0)
    if asked.start is None:
        return None
    start = max(0, size + asked.start) if asked.start < 0 else asked.start
    return range(start, size if asked.stop is None else min(size, asked.stop))
