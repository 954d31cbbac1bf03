"""`Idempotency-Key`: a request that is sent again is answered as the first time, and done once."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from http import HTTPStatus
from typing import Final

from aiohttp import hdrs, web
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from lmaas.producer.gateway.access import owner_of
from lmaas.producer.gateway.app_keys import STATE
from lmaas.producer.gateway.failures import HttpError
from lmaas.producer.gateway.routes import JSON
from lmaas.producer.gateway.state import State
from lmaas.producer.gateway.state import idempotency as table

HEADER: Final = "Idempotency-Key"
#: Characters of a key.
LONGEST: Final = 255
#: Seconds without a renewal after which whoever worked on a request is taken for dead.
LEASE: Final = 15.0

#: Notes an answer in a transaction: what else is in that is done if and only if this is noted.
Note = Callable[[AsyncConnection, web.Response], Awaitable[None]]


async def once(
    request: web.Request, digest: bytes, do: Callable[[Note | None], Awaitable[web.Response]]
) -> web.Response:
    """The answer of `do`, or the one that it gave to the same key of the same caller before.

    `digest` is of everything that was asked besides the path. `do` calls what it is given, if
    anything, once, when the answer is known. Raises HttpError: 400, 409 while the first request is
    still worked on, 422 when the key was used for something else; and what `do` raises, which
    leaves the key free.
    """
    key = request.headers.get(HEADER)
    if key is None:
        return await do(None)
    # What is no UTF-8 comes as surrogates, which are not printable.
    if not key or len(key) > LONGEST or not key.isprintable():
        raise HttpError(
            HTTPStatus.BAD_REQUEST,
            "bad_request",
            f"{HEADER} must have 1 to {LONGEST} printable characters, in UTF-8",
        )
    holder = uuid.uuid4().hex
    digest = hashlib.sha256(request.path.encode() + b"\0" + digest).digest()
    if (earlier := await _claimed(request, key, digest, holder)) is not None:
        return _again(earlier, digest)
    async with _held(request.app[STATE], holder):
        return await do(_noting(request, key, holder))


async def _claimed(
    request: web.Request, key: str, digest: bytes, holder: str
) -> table.Request | None:
    """What had the key before; None: it is the holder's now."""
    now = time.time()
    async with request.app[STATE].writing() as connection:
        return await table.claim(
            connection,
            owner_of(request),
            key,
            digest,
            holder=holder,
            now=now,
            until=now + LEASE,
        )


def _noting(request: web.Request, key: str, holder: str) -> Note:
    async def note(connection: AsyncConnection, answer: web.Response) -> None:
        await table.answer(
            connection,
            owner_of(request),
            key,
            holder=holder,
            status=answer.status,
            location=answer.headers.get(hdrs.LOCATION),
            body=answer.body if isinstance(answer.body, bytes) else b"",
        )

    return note


def _again(earlier: table.Request, digest: bytes) -> web.Response:
    if earlier.request != digest:
        raise HttpError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "idempotency_key_reused",
            f"this {HEADER} was sent with another request; make a new one for each",
        )
    if earlier.status is None:
        raise HttpError(
            HTTPStatus.CONFLICT,
            "in_progress",
            f"the first request with this {HEADER} is still being worked on; ask again",
            retry_after=1.0,
        )
    headers = {hdrs.LOCATION: earlier.location} if earlier.location else {}
    return web.Response(
        body=earlier.body, status=earlier.status, content_type=JSON, headers=headers
    )


@contextlib.asynccontextmanager
async def _held(state: State, holder: str) -> AsyncGenerator[None, None]:
    """Others see that somebody works on it; if that fails, the key is free."""

    async def renew() -> None:
        while True:
            await asyncio.sleep(LEASE / 3)
            with contextlib.suppress(SQLAlchemyError):
                async with state.writing() as connection:
                    await table.renew(connection, holder, time.time() + LEASE)

    renewing = asyncio.create_task(renew())
    try:
        yield
    except BaseException:
        # After an answer was noted there is nothing to abandon.
        with contextlib.suppress(SQLAlchemyError):
            async with state.writing() as connection:
                await table.abandon(connection, holder)
        raise
    finally:
        renewing.cancel()
