"""The table of files for batches: those that were sent up, and those that batches have made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from lmaas.broker_config.errors import SealError
from lmaas.producer.gateway.at_rest.values import Values
from lmaas.producer.gateway.state.database import METADATA, values_of

Purpose = Literal["batch", "batch_output"]

files = sa.Table(
    "files",
    METADATA,
    # The name of its body in the folder of files, too.
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("owner", sa.String(64), nullable=False),
    sa.Column("purpose", sa.String(32), nullable=False),
    # Sealed.
    sa.Column("filename", sa.Text, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("created", sa.Double, nullable=False),
    sa.Column("expires", sa.Double, nullable=False),
)
sa.Index(None, files.c.owner, files.c.created, files.c.id)
sa.Index(None, files.c.expires)

#: Names in one statement; SQLite takes so many variables at least.
_MOST: Final = 500


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A row."""

    id: str
    owner: str
    purpose: Purpose
    filename: str
    bytes: int
    created: float
    expires: float


_FILENAME: Final = "files.filename"


def _file(values: Values, row: sa.RowMapping) -> File:
    try:
        named = values.opened_text(row["filename"], _FILENAME, row["id"])
    except SealError:  # who asks for what is in it is told; others go on
        named = row["id"]
    return File(**{**row, "filename": named})


async def add(connection: AsyncConnection, file: File) -> None:
    row = msgspec.structs.asdict(file)
    row["filename"] = values_of(connection).sealed_text(file.filename, _FILENAME, file.id)
    await connection.execute(sa.insert(files).values(row))


async def one(
    connection: AsyncConnection, name: str, owner: str, *, lock: bool = False
) -> File | None:
    """A file that this caller has; with `lock` it stays as it is until the transaction ends."""
    query = sa.select(files).where(files.c.id == name, files.c.owner == owner)
    if lock:
        query = query.with_for_update()
    row = (await connection.execute(query)).mappings().one_or_none()
    return None if row is None else _file(values_of(connection), row)


async def page(
    connection: AsyncConnection,
    owner: str,
    *,
    limit: int,
    after: str | None,
    newest_first: bool,
    purpose: str | None,
) -> list[File]:
    """Files of this caller in the order in which they were made, behind the file `after`."""
    query = sa.select(files).where(files.c.owner == owner)
    if purpose is not None:
        query = query.where(files.c.purpose == purpose)
    place = (files.c.created, files.c.id)
    if after is not None:
        there = sa.select(*place).where(files.c.id == after, files.c.owner == owner)
        row = (await connection.execute(there)).one_or_none()
        if row is None:
            return []
        here, then = sa.tuple_(*place), sa.tuple_(*(sa.literal(value) for value in row))
        query = query.where(here < then if newest_first else here > then)
    order = [column.desc() if newest_first else column for column in place]
    rows = (await connection.execute(query.order_by(*order).limit(limit))).mappings()
    return [_file(values_of(connection), row) for row in rows]


async def remove(connection: AsyncConnection, name: str) -> None:
    await connection.execute(sa.delete(files).where(files.c.id == name))


async def expire(connection: AsyncConnection, now: float, in_use: Any) -> list[str]:
    """Forgets files whose time is over, but those that a query says are in use; their ids."""
    query = sa.delete(files).where(files.c.expires < now, files.c.id.not_in(in_use))
    return list(await connection.scalars(query.returning(files.c.id)))


async def known(connection: AsyncConnection, names: Sequence[str]) -> set[str]:
    """Which of these there are."""
    found: set[str] = set()
    for start in range(0, len(names), _MOST):
        query = sa.select(files.c.id).where(files.c.id.in_(names[start : start + _MOST]))
        found.update(await connection.scalars(query))
    return found
