"""The tables of webhooks that go out: what is sent to whom, when next, and what has been tried."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from lmaas.broker_config.errors import SealError
from lmaas.producer.gateway.at_rest.values import Values
from lmaas.producer.gateway.state.database import METADATA, values_of

deliveries = sa.Table(
    "deliveries",
    METADATA,
    # The id of the event, which receivers see.
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("owner", sa.String(64), nullable=False),
    sa.Column("job", sa.String(64), nullable=False),
    sa.Column("event", sa.String(64), nullable=False),
    # The name of an endpoint of the settings, or null: the job's own callback.
    sa.Column("endpoint", sa.Text),
    # Sealed, as the secret and the body.
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("host", sa.Text, nullable=False),
    # Who receives it, as `disabled_receivers` knows it.
    sa.Column("receiver", sa.String(64), nullable=False),
    # Of the job's own callback, where it has one.
    sa.Column("secret", sa.Text),
    # What is sent, the same in each try.
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("created", sa.Double, nullable=False),
    # "pending", "delivered", "failed" or "disabled".
    sa.Column("state", sa.String(16), nullable=False),
    # The next try, while it is pending.
    sa.Column("due", sa.Double, nullable=False),
    # Those of the schedule; `tries` may have more, when it was sent again.
    sa.Column("tried", sa.Integer, nullable=False),
    sa.Column("ended", sa.Double),
    # The gateway that sends it, and until when the others leave it alone.
    sa.Column("holder", sa.String(64)),
    sa.Column("held_until", sa.Double),
)
sa.Index(None, deliveries.c.state, deliveries.c.host, deliveries.c.due)
sa.Index(None, deliveries.c.job)
sa.Index(None, deliveries.c.ended)

tries = sa.Table(
    "delivery_tries",
    METADATA,
    sa.Column(
        "delivery",
        sa.String(64),
        sa.ForeignKey(deliveries.c.id, ondelete="CASCADE"),
        primary_key=True,
    ),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("seconds", sa.Double, nullable=False),
    # What the receiver answered, or why there was no answer.
    sa.Column("status", sa.Integer),
    sa.Column("error", sa.Text),
)

#: Receivers that have said that they want no more (410).
disabled = sa.Table(
    "disabled_receivers",
    METADATA,
    sa.Column("receiver", sa.String(64), primary_key=True),
    sa.Column("at", sa.Double, nullable=False),
)

#: What is told of a delivery, and of a try.
_TOLD: Final = ("id", "job", "event", "endpoint", "url", "created", "state", "due", "ended")
_TRIED: Final = ("number", "at", "seconds", "status", "error")

_URL: Final = "deliveries.url"
_SECRET: Final = "deliveries.secret"  # noqa: S105 - a column
_BODY: Final = "deliveries.body"

PENDING: Final = "pending"
DELIVERED: Final = "delivered"
FAILED: Final = "failed"
DISABLED: Final = "disabled"


@dataclass(frozen=True, slots=True)
class Claimed:
    """One that this gateway is to send now."""

    id: str
    owner: str
    endpoint: str | None
    url: str
    host: str
    receiver: str
    secret: str | None = field(repr=False)
    body: bytes = field(repr=False)
    tried: int
    #: Why it cannot be opened now; `url`, `secret` and `body` are as they are stored then.
    sealed: SealError | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """What one try has come to."""

    delivery: Claimed
    at: float
    seconds: float
    status: int | None
    error: str | None
    #: The new state.
    state: str
    #: When it is tried again, if it is pending.
    due: float


def _is_free(now: float) -> sa.ColumnElement[bool]:
    """Those that nobody sends at this moment."""
    table = deliveries.c
    return sa.and_(
        table.state == PENDING, sa.or_(table.held_until.is_(None), table.held_until < now)
    )


def _first_of_hosts(now: float, busy: Collection[str]) -> sa.Subquery:
    """`host` and `due` of the first one that is free, of each host that is not busy.

    It goes from host to host in the index, so that a host for which many wait costs no more than
    one for which one does: some wait for days for a receiver that is away.
    """
    table = deliveries.c
    pending = table.state == PENDING
    hosts = sa.select(sa.func.min(table.host).label("host")).where(pending).cte(recursive=True)
    following = sa.select(sa.func.min(table.host)).where(pending, table.host > hosts.c.host)
    hosts = hosts.union_all(
        sa.select(following.correlate(hosts).scalar_subquery()).where(hosts.c.host.is_not(None))
    )
    due = sa.select(table.due).where(_is_free(now), table.host == hosts.c.host)
    first = due.order_by(table.due).limit(1).correlate(hosts).scalar_subquery()
    return (
        sa.select(hosts.c.host, first.label("due"))
        .where(hosts.c.host.is_not(None), hosts.c.host.not_in(list(busy)))
        .subquery()
    )


async def add(connection: AsyncConnection, row: Mapping[str, Any]) -> None:
    """A new one, of which the state and when it is due are known."""
    values, name = values_of(connection), row["id"]
    sealed = {
        "url": values.sealed_text(row["url"], _URL, name),
        "secret": values.sealed_text(row.get("secret"), _SECRET, name),
        "body": values.sealed(row["body"], _BODY, name),
    }
    await connection.execute(sa.insert(deliveries).values(tried=0, **{**row, **sealed}))


def _opened(values: Values, claimed: Claimed) -> Claimed:
    name = claimed.id
    try:
        return dataclasses.replace(
            claimed,
            url=values.opened_text(claimed.url, _URL, name) or "",
            secret=values.opened_text(claimed.secret, _SECRET, name),
            body=values.opened(claimed.body, _BODY, name),
        )
    except SealError as error:
        return dataclasses.replace(claimed, sealed=error)


def _shown(values: Values, url: str, name: str) -> str:
    try:
        return values.opened_text(url, _URL, name) or ""
    except SealError as error:
        return f"({error})"


async def next_due(connection: AsyncConnection, now: float, busy: Collection[str]) -> float | None:
    """When the first one of hosts that are not busy is due."""
    first = _first_of_hosts(now, busy)
    found: float | None = await connection.scalar(sa.select(sa.func.min(first.c.due)))
    return found


async def claim(
    connection: AsyncConnection,
    holder: str,
    now: float,
    lease: float,
    room: int,
    room_per_host: Mapping[str, int],
    most_per_host: int,
) -> list[Claimed]:
    """Up to `room` that are due, for `lease` seconds; `room_per_host`: of hosts in use."""
    busy = [host for host, left in room_per_host.items() if left <= 0]
    first = _first_of_hosts(now, busy)
    hosts = await connection.scalars(
        sa.select(first.c.host).where(first.c.due <= now).order_by(first.c.due).limit(max(room, 0))
    )
    claimed: list[Claimed] = []
    for host in hosts.all():
        most = min(room - len(claimed), room_per_host.get(host, most_per_host))
        if most > 0:
            claimed += await _claim_of(connection, host, holder, now, lease, most)
    return claimed


async def _claim_of(
    connection: AsyncConnection, host: str, holder: str, now: float, lease: float, most: int
) -> list[Claimed]:
    table = deliveries.c
    free = sa.and_(_is_free(now), table.host == host, table.due <= now)
    chosen = sa.select(table.id).where(free).order_by(table.due).limit(most)
    rows = await connection.execute(
        sa.update(deliveries)
        # Another gateway may have taken some since they were chosen.
        .where(table.id.in_(chosen), free)
        .values(holder=holder, held_until=now + lease)
        .returning(
            table.id,
            table.owner,
            table.endpoint,
            table.url,
            table.host,
            table.receiver,
            table.secret,
            table.body,
            table.tried,
        )
    )
    values = values_of(connection)
    return [_opened(values, Claimed(*row)) for row in rows]


async def settle(
    connection: AsyncConnection, holder: str, settled: Sequence[Settled], now: float
) -> None:
    """Writes down what tries have come to. What others have claimed meanwhile is theirs."""
    for one in settled:
        await _settle(connection, holder, one)
        await _log(connection, one)
    received = {one.delivery.receiver for one in settled if one.state == DELIVERED}
    if received:
        await _enable(connection, received)
    gone = {one.delivery.receiver for one in settled if one.state == DISABLED} - received
    if gone:
        await _disable(connection, gone, now)


async def _settle(connection: AsyncConnection, holder: str, settled: Settled) -> None:
    table = deliveries.c
    await connection.execute(
        sa.update(deliveries)
        .where(table.id == settled.delivery.id, table.holder == holder)
        .values(
            state=settled.state,
            due=settled.due,
            tried=settled.delivery.tried + 1,
            ended=None if settled.state == PENDING else settled.at + settled.seconds,
            holder=None,
            held_until=None,
        )
    )


async def _log(connection: AsyncConnection, settled: Settled) -> None:
    number = sa.select(sa.func.coalesce(sa.func.max(tries.c.number), 0) + 1).where(
        tries.c.delivery == settled.delivery.id
    )
    await connection.execute(
        sa.insert(tries).values(
            delivery=settled.delivery.id,
            number=number.scalar_subquery(),
            at=settled.at,
            seconds=settled.seconds,
            status=settled.status,
            error=settled.error,
        )
    )


async def release(connection: AsyncConnection, holder: str) -> None:
    """Lets others have what this gateway will not send any more."""
    table = deliveries.c
    await connection.execute(
        sa.update(deliveries).where(table.holder == holder).values(holder=None, held_until=None)
    )


async def again(connection: AsyncConnection, owner: str, name: str, now: float) -> bool:
    """Sends one as if it were new; False: the owner has none of this id.

    One that is being sent at this moment stays as it is.
    """
    table = deliveries.c
    mine = sa.and_(table.id == name, table.owner == owner)
    held = sa.and_(table.state == PENDING, table.held_until >= now)
    await connection.execute(
        sa.update(deliveries)
        .where(mine, sa.or_(table.held_until.is_(None), sa.not_(held)))
        .values(state=PENDING, due=now, tried=0, ended=None, holder=None, held_until=None)
    )
    return await connection.scalar(sa.select(table.id).where(mine)) is not None


async def of_job(connection: AsyncConnection, owner: str, job: str) -> list[dict[str, Any]]:
    """All of a job, the oldest first, each with its `tries`."""
    return await _told(connection, deliveries.c.owner == owner, deliveries.c.job == job)


async def one(connection: AsyncConnection, owner: str, name: str) -> dict[str, Any] | None:
    """One, with its `tries`."""
    found = await _told(connection, deliveries.c.owner == owner, deliveries.c.id == name)
    return found[0] if found else None


async def _told(
    connection: AsyncConnection, *which: sa.ColumnElement[bool]
) -> list[dict[str, Any]]:
    table = deliveries.c
    columns = [table[name] for name in _TOLD]
    rows = await connection.execute(
        sa.select(*columns).where(*which).order_by(table.created, table.id)
    )
    values = values_of(connection)
    found = {row.id: {**dict(zip(_TOLD, row, strict=True)), "tries": []} for row in rows}
    for name, delivery in found.items():
        delivery["url"] = _shown(values, delivery["url"], name)
    made = await connection.execute(
        sa.select(tries.c.delivery, *(tries.c[name] for name in _TRIED))
        .join(deliveries, table.id == tries.c.delivery)
        .where(*which)
        .order_by(tries.c.number)
    )
    for delivery, *tried in made:
        found[delivery]["tries"].append(dict(zip(_TRIED, tried, strict=True)))
    return list(found.values())


async def is_disabled(connection: AsyncConnection, receiver: str) -> bool:
    found = await connection.scalar(sa.select(disabled.c.at).where(disabled.c.receiver == receiver))
    return found is not None


async def _disable(connection: AsyncConnection, receivers: Collection[str], now: float) -> None:
    """Nothing more is sent to them, and what waits for them ends."""
    for receiver in receivers:
        if not await is_disabled(connection, receiver):
            await connection.execute(sa.insert(disabled).values(receiver=receiver, at=now))
    table = deliveries.c
    await connection.execute(
        sa.update(deliveries)
        .where(table.receiver.in_(receivers), table.state == PENDING)
        .values(state=DISABLED, ended=now)
    )


async def _enable(connection: AsyncConnection, receivers: Collection[str]) -> None:
    await connection.execute(sa.delete(disabled).where(disabled.c.receiver.in_(receivers)))


async def forget(connection: AsyncConnection, before: float) -> None:
    """Deletes those that ended before this moment, with their tries."""
    await connection.execute(sa.delete(deliveries).where(deliveries.c.ended < before))
