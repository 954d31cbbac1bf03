"""`/v1/files`: what batches read, and what they have written."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from aiohttp import BodyPartReader, hdrs, web

from lmaas.producer.gateway.access import JOBS, owner_of
from lmaas.producer.gateway.app_keys import SETTINGS, STATE
from lmaas.producer.gateway.at_rest.keeping import sync
from lmaas.producer.gateway.bodies import UNNAMED, unsupported
from lmaas.producer.gateway.failures import HttpError
from lmaas.producer.gateway.forms import FIELDS, MULTIPART, Spool, name_of, parts, text_of
from lmaas.producer.gateway.openai_batches.protocol import PROTOCOL, bad, query_of
from lmaas.producer.gateway.openai_batches.work import name_of_body, remove
from lmaas.producer.gateway.routes import Route, json_response
from lmaas.producer.gateway.sending import send_file
from lmaas.producer.gateway.state import batches as batches_table
from lmaas.producer.gateway.state import files as table
from lmaas.producer.gateway.state.files import File

_MOST: Final = 10_000
_PURPOSE: Final = "batch"


class ExpiresAfter(msgspec.Struct):
    """When something is deleted, in seconds after it was made."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, msgspec.Meta(ge=3_600, le=2_592_000)]


class FileView(msgspec.Struct):
    """A file as callers see it. Times are Unix seconds."""

    id: str
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    #: "batch": sent up; "batch_output": of a batch.
    purpose: str
    object: str = "file"
    status: str = "processed"


class FileList(msgspec.Struct):
    """A page of files; `last_id` as `after` gives the one behind it."""

    data: list[FileView]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: str = "list"


class Deleted(msgspec.Struct):
    """What was deleted."""

    id: str
    object: str = "file"
    deleted: bool = True


class _Query(msgspec.Struct):
    limit: Annotated[int, msgspec.Meta(ge=1, le=_MOST)] = _MOST
    order: Literal["asc", "desc"] = "desc"
    purpose: str | None = None
    after: str | None = None


def view(file: File) -> FileView:
    """A file as callers see it."""
    return FileView(
        id=file.id,
        bytes=file.bytes,
        created_at=int(file.created),
        expires_at=int(file.expires),
        filename=file.filename,
        purpose=file.purpose,
    )


async def upload(request: web.Request) -> web.Response:
    """It is there when the answer comes; one that breaks off is not kept."""
    if request.content_type != MULTIPART:
        raise unsupported(request, MULTIPART)
    state = request.app[STATE]
    await asyncio.to_thread(state.uploads.mkdir, mode=0o700, parents=True, exist_ok=True)
    name = f"file-{secrets.token_hex(12)}"
    path = state.uploads / name
    try:
        limit = request.app[SETTINGS].max_job_bytes
        spool = Spool(state.at_rest, path, name_of_body(name), limit)
        said, filename = await _form(request, spool)
        now = time.time()
        file = File(
            id=name,
            owner=owner_of(request),
            purpose=_PURPOSE,
            filename=filename,
            bytes=spool.size,
            created=now,
            expires=now + (_seconds(said) or request.app[SETTINGS].keep_files),
        )
        await asyncio.to_thread(_keep, path, state.files / file.id)
        async with state.writing() as connection:
            await table.add(connection, file)
    finally:
        await asyncio.shield(asyncio.to_thread(path.unlink, missing_ok=True))
    return json_response(view(file))


async def _form(request: web.Request, spool: Spool) -> tuple[dict[str, str], str]:
    """The fields, which may come before or after the file; and the name of the file."""
    said: dict[str, str] = {}
    file: BodyPartReader | None = None
    async for part in parts(request):
        if part.name == "file" or part.filename is not None:
            if file is not None:
                raise bad("file", "the form has two files; send one")
            file = part
            await spool.write_all(part)
            continue
        said[name_of(part.name)] = await text_of(part)
        if len(said) > FIELDS:
            raise bad("file", "the form has too many fields")
    if file is None:
        raise bad("file", "the form has no field `file`", "missing_required_parameter")
    if said.get("purpose") != _PURPOSE:
        told = f"purpose must be {_PURPOSE!r}, not {said.get('purpose')!r}"
        raise bad("purpose", told)
    return said, name_of(file.filename) or "file"


def _seconds(said: Mapping[str, str]) -> int | None:
    """Of `expires_after[anchor]` and `expires_after[seconds]`."""
    given: dict[str, Any] = {
        field: said[name]
        for field in ("anchor", "seconds")
        if (name := f"expires_after[{field}]") in said
    }
    if not given:
        return None
    try:
        return msgspec.convert(given, ExpiresAfter, strict=False).seconds
    except msgspec.ValidationError as error:
        raise bad("expires_after", f"expires_after: {error}") from error


def _keep(path: Path, place: Path) -> None:
    """What was sent up is on disk, and in its place."""
    sync(path)
    path.replace(place)


async def every(request: web.Request) -> web.Response:
    query = query_of(request, _Query)
    async with request.app[STATE].reading() as connection:
        found = await table.page(
            connection,
            owner_of(request),
            limit=query.limit + 1,
            after=query.after,
            newest_first=query.order == "desc",
            purpose=query.purpose,
        )
    data = [view(file) for file in found[: query.limit]]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return json_response(FileList(data, first, last, len(found) > query.limit))


async def _found(request: web.Request) -> File:
    """The file that the path names. Raises HttpError 404 for what this caller does not have."""
    name = request.match_info["id"]
    async with request.app[STATE].reading() as connection:
        file = await table.one(connection, name, owner_of(request))
    if file is None:
        raise unknown(name)
    return file


def unknown(name: str, status: int = HTTPStatus.NOT_FOUND, param: str = "id") -> HttpError:
    """Of a file that this caller does not have."""
    return HttpError(status, "file_not_found", f"there is no file {name!r}", param=param)


async def one(request: web.Request) -> web.Response:
    return json_response(view(await _found(request)))


async def content(request: web.Request) -> web.StreamResponse:
    file = await _found(request)
    path = request.app[STATE].files / file.id
    if not await asyncio.to_thread(path.is_file):
        raise unknown(file.id)
    headers = {hdrs.CONTENT_TYPE: "application/octet-stream"}
    at_rest = request.app[STATE].at_rest
    return await send_file(request, at_rest, path, name_of_body(file.id), headers)


async def delete(request: web.Request) -> web.Response:
    file = await _found(request)
    state = request.app[STATE]
    async with state.writing() as connection:
        await table.one(connection, file.id, file.owner, lock=True)
        user = await batches_table.user_of(connection, file.id)
        if user is not None:
            raise bad("id", f"file {file.id!r} is being read by batch {user!r}", "file_in_use")
        await table.remove(connection, file.id)
    await asyncio.to_thread(remove, state.files, [file.id])
    return json_response(Deleted(file.id))


_UNKNOWN: Final = {404: "there is no such file, or it is somebody else's"}


def _route(method: str, path: str, handler: Any, summary: str, **options: Any) -> Route:
    return Route(method, path, handler, summary, scope=JOBS, protocol=PROTOCOL, **options)


ROUTES: Final = (
    _route(
        "POST",
        "/v1/files",
        upload,
        "Send up a file for a batch",
        gives=FileView,
        reads=(MULTIPART,),
        others={400: "a field of the form is wrong", 413: "too many bytes"},
        notes="A form (multipart/form-data) with `purpose` (batch) and `file`, of any size: JSON "
        "Lines, each with `custom_id`, `method`, `url` and `body`. `expires_after[anchor]` "
        "(created_at) and `expires_after[seconds]` say when it is deleted.",
    ),
    _route(
        "GET",
        "/v1/files",
        every,
        "Your files",
        gives=FileList,
        query=_Query,
        others={400: "a parameter of the query is wrong"},
        notes="`limit` (to 10,000), `order` (desc, asc), `purpose`, `after` (an id).",
    ),
    _route("GET", "/v1/files/{id}", one, "One file", gives=FileView, others=_UNKNOWN),
    _route(
        "GET",
        "/v1/files/{id}/content",
        content,
        "What is in a file",
        sends=(UNNAMED,),
        others=_UNKNOWN | {416: "the header Range asks for what there is not"},
    ),
    _route(
        "DELETE",
        "/v1/files/{id}",
        delete,
        "Delete a file",
        gives=Deleted,
        others=_UNKNOWN | {400: "a batch reads it"},
    ),
)
