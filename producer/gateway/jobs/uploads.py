"""What callers send up as a job: JSON in memory; files, of any size, by way of the disk."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import msgspec
from aiohttp import web

from lmaas.broker_config.errors import DataError
from lmaas.broker_config.masked import Masked
from lmaas.broker_config.media_types import by_name, is_media
from lmaas.broker_config.messages import Item, MinScore, TopK
from lmaas.producer.gateway.app_keys import BROKER_JOBS, CARDS, SETTINGS, STATE
from lmaas.producer.gateway.bodies import FORM, UNNAMED, content, json_body, read, unsupported
from lmaas.producer.gateway.failures import HttpError
from lmaas.producer.gateway.forms import (
    FIELDS,
    MULTIPART,
    Spool,
    media_type_of,
    name_of,
    parts,
    text_of,
)
from lmaas.producer.gateway.items import Body, GivenItem
from lmaas.producer.gateway.jobs.accepting import Asked, Priority
from lmaas.producer.gateway.jobs.form_files import FormFiles
from lmaas.producer.gateway.routes import JSON
from lmaas.producer.packing import Entries
from lmaas.producer.table_items import table_items
from lmaas.producer.tables import Dialect, Place, Taking, Wanted, open_table
from lmaas.producer.tables.contents import FILE
from lmaas.producer.tables.places import FORMATS, suffixes_of
from lmaas.producer.tables.taking import PassedOver
from lmaas.producer.threads import opened

#: Media type -> format of a file.
MEDIA_TYPES: Final = {
    "application/x-ndjson": "jsonl",
    "application/json": "json",
    "application/jsonl": "jsonl",
    "application/jsonlines": "jsonl",
    "text/csv": "csv",
    "text/tab-separated-values": "tsv",
    "text/plain": "text",
    "application/vnd.apache.parquet": "parquet",
    "application/x-parquet": "parquet",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/zip": "zip",
    "application/x-zip-compressed": "zip",
    "application/x-tar": "tar",
    "application/gzip": "tar",
}
_TAR: Final = "application/x-tar"
#: Options of commands that are parameters here.
_OPTIONS: Final = (
    *("text-column", "pair-column", "bytes-column", "id-column"),
    *("format", "delimiter", "encoding"),
)
#: Items of a JSON body, which is held in memory.
JSON_ITEMS: Final = 100_000

_Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class _Options(Masked, msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What may be said of any job."""

    model: str
    #: The one that is current when the job is submitted, when left out.
    version: str | None = None
    #: The scores of so many labels, best first.
    top_k: TopK = 0
    #: Below this score the label is `unsure`; of a multi-label model each label needs it. What the
    #: model says when left out.
    min_score: MinScore | None = None
    #: A job of high priority is ordered as one a hundredth as long; low, a hundred times as long.
    priority: Priority = "normal"
    #: What has not run by then gets an error: a moment as 2030-01-31T12:00:00Z.
    deadline: _Moment | None = None
    #: Where the end of the job is told, and by which secret that is signed.
    callback_url: str | None = None
    callback_secret: str | None = None


class JobCall(_Options, kw_only=True):
    """A job in one JSON body."""

    #: Texts, or items with an id and a kind.
    items: Annotated[list[str | GivenItem], msgspec.Meta(min_length=1)]


class _LooseCall(_Options, kw_only=True):
    """The same, of which some items are wrong."""

    items: Annotated[list[msgspec.Raw], msgspec.Meta(min_length=1)]


class FileOptions(_Options, kw_only=True):
    """What is said of a file, in the query or in the fields of a form."""

    #: The column with the texts; `text`, or the only one, when left out.
    text_column: str | None = None
    #: The column with second texts, for models that judge two texts together.
    pair_column: str | None = None
    #: Of Parquet: the column with bytes, for models that take pictures or sounds.
    bytes_column: str | None = None
    #: The column that names the rows, which are called by their numbers, from 0, when left out;
    #: files of an archive are called by their names.
    id_column: str | None = None
    #: Of the file, where its name or media type does not say it.
    format: str | None = None
    #: Of CSV: one character; found, when left out.
    delimiter: str | None = None
    encoding: str | None = None


@dataclass(frozen=True)
class Upload:
    """A job that has come completely."""

    asked: Asked
    items: Entries
    #: SHA-256 of everything that was asked.
    digest: bytes
    #: Files that are no items, once all items were taken.
    passed_over: Callable[[], PassedOver | None] = lambda: None


_body: Final = Body(JobCall, _LooseCall)


@contextlib.asynccontextmanager
async def received(request: web.Request) -> AsyncGenerator[Upload, None]:
    """What is sent up; its file is there as long as the context.

    Raises HttpError: 400, 413, 415 or 422.
    """
    kind = request.content_type
    if kind in {JSON, FORM, UNNAMED} and "model" not in request.query:
        yield await _of_json(request)
        return
    folder = request.app[STATE].uploads
    await asyncio.to_thread(folder.mkdir, mode=0o700, parents=True, exist_ok=True)
    path = folder / uuid.uuid4().hex
    try:
        at_rest, limit = request.app[STATE].at_rest, request.app[SETTINGS].max_job_bytes
        spool = Spool(at_rest, path, f"uploads/{path.name}", limit)
        if kind == MULTIPART:
            file = await _of_form(request, path, spool)
        elif kind in MEDIA_TYPES or "format" in request.query:
            spool.digest.update(kind.encode())
            await spool.write_all(content(request))
            file = _File(dict(request.query), media_type=kind, charset=request.charset)
        else:
            raise unsupported(request, MULTIPART, *MEDIA_TYPES)
        async with _table_of(request, file, path, spool) as upload:
            yield upload
    finally:
        await asyncio.shield(asyncio.to_thread(path.unlink, missing_ok=True))


async def _of_json(request: web.Request) -> Upload:
    call = await json_body(request, _body, JSON_ITEMS)
    if len(call.items) > JSON_ITEMS:
        raise HttpError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "too_many_items",
            f"{len(call.items):,} items; a JSON body may have {JSON_ITEMS:,}: send NDJSON, CSV or "
            "Parquet, which may have any number",
        )
    items = _body.items(call)
    asked = msgspec.convert(call, Asked, from_attributes=True)
    return Upload(asked, items, hashlib.sha256(await read(request)).digest())


@dataclass(frozen=True)
class _File:
    """A file that was sent up, and what was said of it."""

    said: Mapping[str, str]
    media_type: str
    charset: str | None = None
    #: As its sender calls it; "" when it has no name.
    name: str = ""

    @property
    def format(self) -> str | None:
        """As its sender says, or by its name, or by its media type."""
        named = FORMATS.get(suffixes_of(self.name)[0])
        return self.said.get("format") or named or MEDIA_TYPES.get(self.media_type)


async def _of_form(request: web.Request, path: Path, spool: Spool) -> _File:
    """The fields may come before or after the files."""
    said = dict(request.query)
    files = FormFiles(path, spool)
    try:
        async for part in parts(request):
            if part.filename is not None or part.name == "file":
                await files.add(part)
                continue
            said[name_of(part.name)] = await text_of(part)
            if len(said) > FIELDS:
                raise HttpError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", "too many fields")
        first = files.first
        if first is None:
            raise HttpError(HTTPStatus.BAD_REQUEST, "bad_request", "the form has no field `file`")
        found = _File(
            said, media_type_of(first) or UNNAMED, first.get_charset("") or None,
            name_of(first.filename),
        )  # fmt: skip
        if found.format is None and is_media(by_name(found.name) or found.media_type):
            await files.become_items()
        if await files.end():
            return _File(said, _TAR)
    finally:
        await asyncio.shield(asyncio.to_thread(files.close))
    return found


@contextlib.asynccontextmanager
async def _table_of(
    request: web.Request, file: _File, path: Path, spool: Spool
) -> AsyncGenerator[Upload, None]:
    said = _options(file.said)
    spool.digest.update(msgspec.json.encode([sorted(file.said.items()), file.name]))
    with _told(path, file.name):
        place = replace(_place(path, file, said), opening=_opening(request, spool))
        wanted = await _wanted(request, place, said)
        table = await opened(lambda: open_table(place, wanted), lambda table: table.close())
    try:
        items = _counted(
            table_items(table, request.app[BROKER_JOBS].settings.max_item_bytes),
            request.app[SETTINGS].max_job_items,
        )
        asked = msgspec.convert(said, Asked, from_attributes=True)
        with _told(path, file.name):
            yield Upload(asked, items, spool.digest.digest(), table.passed_over)
    finally:
        table.close()


async def _wanted(request: web.Request, place: Place, said: FileOptions) -> Wanted:
    ids = said.id_column or (FILE if place.has_files else None)
    keep = (ids,) if ids else ()
    wanted = Wanted(said.text_column, keep, pair=said.pair_column, data=said.bytes_column)
    if not wanted.has_contents(place.has_files):
        return wanted
    card = None
    with contextlib.suppress(HttpError):  # no worker serves it now
        card = await request.app[CARDS].card(said.model)
    most = request.app[BROKER_JOBS].settings.largest_data
    return replace(wanted, taking=Taking.of(card, most))


def _opening(request: web.Request, spool: Spool) -> Callable[[], BinaryIO] | None:
    return spool.open if request.app[STATE].at_rest.is_sealed else None


def _options(said: Mapping[str, str]) -> FileOptions:
    try:
        return msgspec.convert(dict(said), FileOptions, strict=False)
    except msgspec.ValidationError as error:
        raise HttpError(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", str(error)) from error


def _place(path: Path, file: _File, said: FileOptions) -> Place:
    """Raises DataError, HttpError."""
    compression, form = suffixes_of(file.name)[1], file.format
    if form is None or form not in FORMATS.values():
        raise HttpError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            f"{file.name or 'the file'} has no format that is known; say format, one of "
            f"{', '.join(sorted(set(FORMATS.values())))}",
        )
    encoding = said.encoding or (file.charset if form in {"csv", "tsv", "text"} else None)
    dialect = Dialect(delimiter=said.delimiter, encoding=encoding)
    dialect.check(file.name or "the body", form)
    return Place(str(path), form, compression, dialect)


@contextlib.contextmanager
def _told(path: Path, named: str) -> Iterator[None]:
    """Errors name the file as its sender does, and options as they are called over HTTP."""
    name = named or "the body"
    try:
        yield
    except DataError as error:
        words = str(error).replace(str(path), name)
        if not named:
            in_form = "send it in a form, with a name that ends in"
            words = words.replace("let its name end in", in_form)
        for option in _OPTIONS:
            words = words.replace(f"--{option}", option.replace("-", "_"))
        raise HttpError(HTTPStatus.BAD_REQUEST, "unreadable", words) from error


async def _counted(items: AsyncIterator[Item], most: int) -> AsyncIterator[Item]:
    count = 0
    async for item in items:
        count += 1
        if count > most:
            raise HttpError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "too_many_items",
                f"more than {most:,} rows (setting gateway.max_job_items); send several jobs",
            )
        yield item


def check_deadline(asked: Asked) -> None:
    """Raises HttpError 422 for a deadline that has passed."""
    if asked.deadline is not None and asked.deadline <= datetime.now(UTC):
        raise HttpError(
            HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", f"deadline {asked.deadline} has passed"
        )
