"""The table of usage: what each owner has asked for, by day."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from lmaas.producer.gateway.state.database import METADATA

usage = sa.Table(
    "usage",
    METADATA,
    # The id of a key; "" when access is open.
    sa.Column("owner", sa.String(64), primary_key=True),
    # UTC, as 2030-01-31.
    sa.Column("day", sa.String(10), primary_key=True),
    sa.Column("requests", sa.BigInteger, nullable=False),
    sa.Column("items", sa.BigInteger, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("errors", sa.BigInteger, nullable=False),
)

_COUNTS: Final = ("requests", "items", "bytes", "errors")


class Tally(msgspec.Struct):
    """What was asked for."""

    requests: int = 0
    #: Things to classify, in calls and jobs.
    items: int = 0
    #: Of the bodies, decompressed.
    bytes: int = 0
    #: Requests that were answered with a status of 400 or more.
    errors: int = 0

    def add(self, other: Tally) -> None:
        self.requests += other.requests
        self.items += other.items
        self.bytes += other.bytes
        self.errors += other.errors


class Day(Tally, kw_only=True):
    """The counts of one owner on one day (UTC, as 2030-01-31)."""

    owner: str
    day: str


async def add(connection: AsyncConnection, day: str, tallies: Mapping[str, Tally]) -> None:
    """More of one day, by owner; at least one."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    rows = [
        {"owner": owner, "day": day, **msgspec.structs.asdict(tally)}
        for owner, tally in sorted(tallies.items())
    ]
    fresh = insert(usage)
    more = {name: usage.c[name] + fresh.excluded[name] for name in _COUNTS}
    added = fresh.on_conflict_do_update(index_elements=[usage.c.owner, usage.c.day], set_=more)
    await connection.execute(added, rows)


async def since(connection: AsyncConnection, day: str, owner: str | None = None) -> list[Day]:
    """From a day on, newest first; of all owners without one."""
    query = sa.select(usage).where(usage.c.day >= day)
    if owner is not None:
        query = query.where(usage.c.owner == owner)
    query = query.order_by(usage.c.day.desc(), usage.c.owner)
    return [Day(**row) for row in (await connection.execute(query)).mappings()]
