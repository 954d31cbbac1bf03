"""The table of requests that a caller has named by an `Idempotency-Key`."""

from __future__ import annotations

from typing import Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from lmaas.producer.gateway.state.database import METADATA, values_of

requests = sa.Table(
    "idempotency",
    METADATA,
    sa.Column("owner", sa.String(64), primary_key=True),
    # Where values are sealed, a digest of it.
    sa.Column("key", sa.String(255), primary_key=True),
    # SHA-256 of what was asked, sealed.
    sa.Column("request", sa.LargeBinary, nullable=False),
    # The answer, of which the body is sealed; without a status it is not there yet.
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

_REQUEST: Final = "idempotency.request"
_BODY: Final = "idempotency.body"

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
    values, row = values_of(connection), _row(owner, key)
    names = values.names(key, "idempotency.key")
    this = sa.and_(requests.c.owner == owner, requests.c.key.in_(names))
    mine = {
        "holder": holder,
        "held_until": until,
        "request": values.sealed(request, _REQUEST, row),
        "created": now,
    }
    taken = (
        sa.update(requests)
        .where(
            this,
            requests.c.status.is_(None),
            requests.c.held_until < now,
        )
        .values(mine)
    )
    if (await connection.execute(taken)).rowcount:
        return None
    query = sa.select(requests).where(this)
    before = len(names) > 1 and (await connection.execute(query)).first() is not None
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    fresh = insert(requests).values(owner=owner, key=names[0], **mine).on_conflict_do_nothing()
    if not before and (await connection.execute(fresh)).rowcount:
        return None
    found = dict(next(iter((await connection.execute(query)).mappings())))
    found["request"] = values.opened(found["request"], _REQUEST, row)
    if found["body"] is not None:
        found["body"] = values.opened(found["body"], _BODY, row)
    return Request(**found)


def _row(owner: str, key: str) -> str:
    return f"{owner}/{key}"


async def renew(connection: AsyncConnection, holder: str, until: float) -> None:
    """The holder still works on its request."""
    query = sa.update(requests).where(requests.c.holder == holder)
    await connection.execute(query.values(held_until=until))


async def answer(
    connection: AsyncConnection,
    owner: str,
    key: str,
    *,
    holder: str,
    status: int,
    location: str | None,
    body: bytes,
) -> None:
    """What the holder of this key has answered, for whoever asks again."""
    kept = values_of(connection).sealed(body, _BODY, _row(owner, key))
    query = sa.update(requests).where(requests.c.holder == holder)
    await connection.execute(
        query.values(status=status, location=location, body=kept, holder=None, held_until=None)
    )


async def abandon(connection: AsyncConnection, holder: str) -> None:
    """The holder has not done it: whoever asks again begins anew."""
    await connection.execute(sa.delete(requests).where(requests.c.holder == holder))


async def expire(connection: AsyncConnection, now: float) -> None:
    """Forgets answers whose time is over."""
    await connection.execute(
        sa.delete(requests).where(requests.c.created < now - KEPT, requests.c.holder.is_(None))
    )
