"""The table of requests that a caller has named by an `Idempotency-Key`."""

from __future__ import annotations

from typing import Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from lmaas.producer.gateway.state.database import METADATA

requests = sa.Table(
    "idempotency",
    METADATA,
    sa.Column("owner", sa.String(64), primary_key=True),
    sa.Column("key", sa.String(255), primary_key=True),
    # SHA-256 of what was asked.
    sa.Column("request", sa.LargeBinary, nullable=False),
    # The answer; without a status it is not there yet.
    sa.Column("status", sa.Integer),
    sa.Column("location", sa.Text),
    sa.Column("body", sa.LargeBinary),
    sa.Column("created", sa.Double, nullable=False),
    # Who works on it, and until when others believe that.
    sa.Column("holder", sa.String(64)),
    sa.Column("held_until", sa.Double),
)
sa.Index(None, requests.c.created)
sa.Index(None, requests.c.holder)

#: Seconds for which an answer is kept.
KEPT: Final = 24 * 3600.0


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A row."""

    owner: str
    key: str
    request: bytes
    status: int | None
    location: str | None
    body: bytes | None
    created: float
    holder: str | None
    held_until: float | None


async def claim(
    connection: AsyncConnection,
    owner: str,
    key: str,
    request: bytes,
    *,
    holder: str,
    now: float,
    until: float,
) -> Request | None:
    """None when the request is the holder's to do; else the earlier one of this key.

    One whose holder has died before it was answered is done anew.
    """
    mine = {"holder": holder, "held_until": until, "request": request, "created": now}
    taken = (
        sa.update(requests)
        .where(
            requests.c.owner == owner,
            requests.c.key == key,
            requests.c.status.is_(None),
            requests.c.held_until < now,
        )
        .values(mine)
    )
    if (await connection.execute(taken)).rowcount:
        return None
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    fresh = insert(requests).values(owner=owner, key=key, **mine).on_conflict_do_nothing()
    if (await connection.execute(fresh)).rowcount:
        return None
    query = sa.select(requests).where(requests.c.owner == owner, requests.c.key == key)
    return Request(**(await connection.execute(query)).mappings().one())


async def renew(connection: AsyncConnection, holder: str, until: float) -> None:
    """The holder still works on its request."""
    query = sa.update(requests).where(requests.c.holder == holder)
    await connection.execute(query.values(held_until=until))


async def answer(
    connection: AsyncConnection, holder: str, status: int, location: str | None, body: bytes
) -> None:
    """What the holder has answered, for whoever asks again."""
    query = sa.update(requests).where(requests.c.holder == holder)
    await connection.execute(
        query.values(status=status, location=location, body=body, holder=None, held_until=None)
    )


async def abandon(connection: AsyncConnection, holder: str) -> None:
    """The holder has not done it: whoever asks again begins anew."""
    await connection.execute(sa.delete(requests).where(requests.c.holder == holder))


async def expire(connection: AsyncConnection, now: float) -> None:
    """Forgets answers whose time is over."""
    await connection.execute(
        sa.delete(requests).where(requests.c.created < now - KEPT, requests.c.holder.is_(None))
    )
