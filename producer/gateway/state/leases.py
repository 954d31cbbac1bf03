"""Rows that one gateway works on: it holds them until a moment, and goes on with them before that.

A table of such rows has the columns `id`, `created`, `holder` and `held_until`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

#: Seconds between two looks at a table; what is noted there with a look may be so late.
BEAT: Final = 0.5
#: Seconds that a row is held without being renewed, and between two renewals.
LEASE: Final = 10.0
RENEWAL: Final = LEASE / 4
#: Seconds until what could not be done with a row is tried again.
RETRY: Final = 5.0


def unheld(table: sa.Table) -> sa.ColumnElement[bool]:
    """Whether nobody holds a row; `now` is to be given to the query."""
    return table.c.held_until.is_(None) | (table.c.held_until < sa.bindparam("now"))


async def are_there(connection: AsyncConnection, free: sa.ColumnElement[bool], now: float) -> bool:
    """Whether there is a row that is free."""
    return bool(await connection.scalar(sa.select(sa.exists().where(free)), {"now": now}))


async def take(
    connection: AsyncConnection,
    table: sa.Table,
    free: sa.ColumnElement[bool],
    holder: str,
    *,
    now: float,
    until: float,
    most: int,
) -> Sequence[sa.RowMapping]:
    """Free rows, at most so many, the oldest first, as they are when they are held."""
    chosen = (
        sa.select(table.c.id)
        .where(free)
        .order_by(table.c.created)
        .limit(most)
        .with_for_update(skip_locked=True)  # nothing to SQLite, which has one writer
    )
    found = list(await connection.scalars(chosen, {"now": now}))
    query = sa.update(table).where(table.c.id.in_(found))
    query = query.values(holder=holder, held_until=until).returning(*table.c)
    return (await connection.execute(query)).mappings().all()


async def hold(
    connection: AsyncConnection,
    table: sa.Table,
    names: Collection[str],
    holder: str,
    *,
    until: float,
) -> None:
    """Go on with those of these rows that are held: whatever else was held is free soon."""
    query = sa.update(table).where(table.c.holder == holder, table.c.id.in_(names))
    await connection.execute(query.values(held_until=until))


async def release(
    connection: AsyncConnection, table: sa.Table, name: str, holder: str, *, until: float | None
) -> None:
    """Somebody else may do what is left, from a moment on."""
    query = sa.update(table).where(table.c.id == name, table.c.holder == holder)
    await connection.execute(query.values(holder=None, held_until=until))
