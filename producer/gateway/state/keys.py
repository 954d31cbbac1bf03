"""The table of API keys: their hashes, what they allow, and how much."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from lmaas.producer.gateway.state.database import METADATA

keys = sa.Table(
    "keys",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),
    # SHA-256 of the whole key.
    sa.Column("hash", sa.LargeBinary, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    # With spaces between.
    sa.Column("scopes", sa.Text, nullable=False),
    sa.Column("created", sa.Double, nullable=False),
    sa.Column("last_used", sa.Double),
    sa.Column("expires", sa.Double),
    sa.Column("disabled", sa.Boolean, nullable=False),
    # Limits; none without a number.
    sa.Column("requests_per_second", sa.Double),
    sa.Column("items_per_second", sa.Double),
    sa.Column("concurrency", sa.Integer),
    # Another number after each change of what is above, other than `last_used`.
    sa.Column("revision", sa.Integer, nullable=False),
)

_REVISIONS: Final = 2**31


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A row."""

    id: str
    hash: bytes
    name: str
    scopes: str
    created: float
    last_used: float | None = None
    expires: float | None = None
    disabled: bool = False
    requests_per_second: float | None = None
    items_per_second: float | None = None
    concurrency: int | None = None
    revision: int = 0


async def add(connection: AsyncConnection, key: Key) -> None:
    row = msgspec.structs.asdict(key) | {"revision": secrets.randbelow(_REVISIONS)}
    await connection.execute(sa.insert(keys).values(row))


async def every(connection: AsyncConnection) -> list[Key]:
    """All of them, oldest first."""
    rows = await connection.execute(sa.select(keys).order_by(keys.c.created, keys.c.id))
    return [Key(**row) for row in rows.mappings()]


async def state(connection: AsyncConnection) -> tuple[int, int]:
    """Two numbers of which one differs when a key was added, changed or deleted."""
    query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(keys.c.revision), 0))
    count, revisions = (await connection.execute(query)).one()
    return int(count), int(revisions)


async def disable(connection: AsyncConnection, name: str, disabled: bool) -> bool:
    """Whether there is such a key."""
    values: dict[str, Any] = {"disabled": disabled, "revision": secrets.randbelow(_REVISIONS)}
    query = sa.update(keys).where(keys.c.id == name).values(values)
    return bool((await connection.execute(query)).rowcount)


async def delete(connection: AsyncConnection, name: str) -> bool:
    """Whether there was such a key."""
    return bool((await connection.execute(sa.delete(keys).where(keys.c.id == name))).rowcount)


async def used(connection: AsyncConnection, names: Iterable[str], at: float) -> None:
    """These were used last at this moment; at least one."""
    query = sa.update(keys).where(keys.c.id == sa.bindparam("used")).values(last_used=at)
    await connection.execute(query, [{"used": name} for name in names])
