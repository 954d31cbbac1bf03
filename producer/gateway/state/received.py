"""The table of webhooks that have come in, so that none is done twice."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from lmaas.producer.gateway.state.database import METADATA, values_of

received = sa.Table(
    "received_webhooks",
    METADATA,
    sa.Column("hook", sa.String(255), primary_key=True),
    # SHA-256 of what the scheme knows it by; where values are sealed, a digest with a key.
    sa.Column("delivery", sa.String(64), primary_key=True),
    # The answer, of which the body is sealed; without a status it is not there yet.
    sa.Column("status", sa.Integer),
    sa.Column("location", sa.Text),
    sa.Column("body", sa.LargeBinary),
    # Until when others believe that somebody works on it.
    sa.Column("held_until", sa.Double, nullable=False),
    sa.Column("expires", sa.Double, nullable=False),
)
sa.Index(None, received.c.expires)

_DELIVERY: Final = "received_webhooks.delivery"
_BODY: Final = "received_webhooks.body"


@dataclass(frozen=True, slots=True)
class Answered:
    """What the first of several deliveries of the same was answered."""

    status: int
    location: str | None
    body: bytes


def key(delivery: str) -> str:
    """How a delivery is known here, whatever its length."""
    return hashlib.sha256(delivery.encode("utf-8", "surrogateescape")).hexdigest()


async def begin(
    connection: AsyncConnection, hook: str, delivery: str, now: float, held: float, kept: float
) -> Answered | bool:
    """True: it is new, and the caller's to do within `held` seconds. False: somebody does it now.

    What was answered, if it was done in the `kept` seconds before now. `delivery`: from `key`.
    """
    columns, values = received.c, values_of(connection)
    mine = _one(connection, hook, delivery)
    await connection.execute(sa.delete(received).where(columns.expires < now))
    row = (await connection.execute(sa.select(received).where(mine))).one_or_none()
    if row is None:
        first = values.names(delivery, _DELIVERY)[0]
        return await _add(connection, hook, first, now + held, now + kept)
    if row.status is not None:
        body = values.opened(row.body, _BODY, f"{hook}/{delivery}")
        return Answered(row.status, row.location, body)
    taken = await connection.execute(
        sa.update(received)
        .where(mine, columns.held_until < now, columns.status.is_(None))
        .values(held_until=now + held)
    )
    return bool(taken.rowcount)


def _one(connection: AsyncConnection, hook: str, delivery: str) -> sa.ColumnElement[bool]:
    names = values_of(connection).names(delivery, _DELIVERY)
    return sa.and_(received.c.hook == hook, received.c.delivery.in_(names))


async def _add(
    connection: AsyncConnection, hook: str, delivery: str, held_until: float, expires: float
) -> bool:
    row: dict[str, Any] = {
        "hook": hook, "delivery": delivery, "held_until": held_until, "expires": expires,
    }  # fmt: skip
    try:
        async with connection.begin_nested():
            await connection.execute(sa.insert(received).values(row))
    except IntegrityError:
        # Another gateway has it since we looked.
        return False
    return True


async def finish(connection: AsyncConnection, hook: str, delivery: str, answered: Answered) -> None:
    """Keeps the answer for those that come again."""
    body = values_of(connection).sealed(answered.body, _BODY, f"{hook}/{delivery}")
    await connection.execute(
        sa.update(received)
        .where(_one(connection, hook, delivery))
        .values(status=answered.status, location=answered.location, body=body)
    )


async def give_up(connection: AsyncConnection, hook: str, delivery: str) -> None:
    """It was not done: the next one is the first."""
    await connection.execute(
        sa.delete(received).where(_one(connection, hook, delivery), received.c.status.is_(None))
    )
