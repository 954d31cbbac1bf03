"""The table of webhooks that have come in, so that none is done twice."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from lmaas.producer.gateway.state.database import METADATA

received = sa.Table(
    "received_webhooks",
    METADATA,
    sa.Column("hook", sa.String(255), primary_key=True),
    # SHA-256 of what the scheme knows it by.
    sa.Column("delivery", sa.String(64), primary_key=True),
    # The answer; without a status it is not there yet.
    sa.Column("status", sa.Integer),
    sa.Column("location", sa.Text),
    sa.Column("body", sa.LargeBinary),
    # Until when others believe that somebody works on it.
    sa.Column("held_until", sa.Double, nullable=False),
    sa.Column("expires", sa.Double, nullable=False),
)
sa.Index(None, received.c.expires)


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
    columns = received.c
    mine = sa.and_(columns.hook == hook, columns.delivery == delivery)
    await connection.execute(sa.delete(received).where(columns.expires < now))
    row = (await connection.execute(sa.select(received).where(mine))).one_or_none()
    if row is None:
        return await _add(connection, hook, delivery, now + held, now + kept)
    if row.status is not None:
        return Answered(row.status, row.location, row.body)
    taken = await connection.execute(
        sa.update(received)
        .where(mine, columns.held_until < now, columns.status.is_(None))
        .values(held_until=now + held)
    )
    return bool(taken.rowcount)


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
    await connection.execute(
        sa.update(received)
        .where(received.c.hook == hook, received.c.delivery == delivery)
        .values(status=answered.status, location=answered.location, body=answered.body)
    )


async def give_up(connection: AsyncConnection, hook: str, delivery: str) -> None:
    """It was not done: the next one is the first."""
    await connection.execute(
        sa.delete(received).where(
            received.c.hook == hook,
            received.c.delivery == delivery,
            received.c.status.is_(None),
        )
    )
