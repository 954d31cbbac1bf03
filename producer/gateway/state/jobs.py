"""The table of jobs: what callers see of them, and which gateway does what is left to be done."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final, Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from lmaas.broker_config.errors import SealError
from lmaas.broker_config.masked import Masked
from lmaas.broker_config.messages import ItemError
from lmaas.producer.gateway.at_rest.values import Values
from lmaas.producer.gateway.state import leases
from lmaas.producer.gateway.state.database import METADATA, values_of
from lmaas.producer.journal import JobEntry

#: `submitting`: not accepted yet. `running`: accepted. `cancelling`: the broker does not know it
#: yet. The others are ends.
JobState = Literal["submitting", "running", "cancelling", "finished", "cancelled", "failed"]
ENDED: Final = ("finished", "cancelled", "failed")

jobs = sa.Table(
    "jobs",
    METADATA,
    # The id that the broker's list of jobs has, too.
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("owner", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("version", sa.Text),
    # The broker's entry of it (JobEntry) as JSON.
    sa.Column("entry", sa.LargeBinary, nullable=False),
    # Whether something of it may be on the broker, so that something is left to be done.
    sa.Column("on_broker", sa.Boolean, nullable=False),
    sa.Column("callback_url", sa.Text),
    sa.Column("callback_secret", sa.Text),
    sa.Column("created", sa.Double, nullable=False),
    sa.Column("submitted", sa.Double),
    # When the counts were written last.
    sa.Column("updated", sa.Double, nullable=False),
    sa.Column("ended", sa.Double),
    # When its row and results are deleted.
    sa.Column("expires", sa.Double),
    sa.Column("items", sa.BigInteger),
    sa.Column("done", sa.BigInteger, nullable=False),
    sa.Column("failed", sa.BigInteger, nullable=False),
    # The first failures as a JSON array; sealed, as `reason` and the callback.
    sa.Column("errors", sa.LargeBinary, nullable=False),
    # Why it has failed.
    sa.Column("reason", sa.Text),
    # The gateway that submits or collects it, and until when the others leave it alone.
    sa.Column("holder", sa.String(64)),
    sa.Column("held_until", sa.Double),
)
sa.Index(None, jobs.c.owner, jobs.c.created, jobs.c.id)
sa.Index(None, jobs.c.on_broker, jobs.c.held_until)
sa.Index(None, jobs.c.holder)
sa.Index(None, jobs.c.expires)

#: What there is to be done, and nobody does it.
_FREE: Final = jobs.c.on_broker & leases.unheld(jobs)


class Failed(msgspec.Struct, frozen=True):
    """An item of a job that failed."""

    id: str
    error: ItemError


class Job(Masked, msgspec.Struct, frozen=True, kw_only=True):
    """A row."""

    id: str
    owner: str
    state: JobState
    model: str
    version: str | None
    entry: JobEntry
    on_broker: bool
    callback_url: str | None
    callback_secret: str | None
    created: float
    submitted: float | None
    updated: float
    ended: float | None
    expires: float | None
    items: int | None
    done: int
    failed: int
    errors: list[Failed]
    reason: str | None
    holder: str | None
    held_until: float | None
    #: Why what is sealed of it cannot be opened now; it has none of that then.
    sealed: SealError | None = None

    @property
    def is_ended(self) -> bool:
        return self.state in ENDED


class Counts(msgspec.Struct, frozen=True):
    """How far a job is: items that have a result, and those of them whose result is an error."""

    done: int
    failed: int
    #: The first of them.
    errors: list[Failed]

    def values(self) -> dict[str, Any]:
        """Of the columns."""
        return {
            "done": self.done,
            "failed": self.failed,
            "errors": msgspec.json.encode(self.errors),
        }


_TEXTS: Final = ("reason", "callback_url", "callback_secret")


def _sealed(values: Values, job: str, row: dict[str, Any]) -> dict[str, Any]:
    """A row, or a part of one, as the table has it."""
    for name in _TEXTS:
        if name in row:
            row[name] = values.sealed_text(row[name], f"jobs.{name}", job)
    if "errors" in row:
        row["errors"] = values.sealed(row["errors"], "jobs.errors", job)
    return row


def _job(values: Values, row: sa.RowMapping) -> Job:
    fields, job = dict(row), row["id"]
    fields["entry"] = msgspec.json.decode(fields["entry"], type=JobEntry)
    try:
        for name in _TEXTS:
            fields[name] = values.opened_text(fields[name], f"jobs.{name}", job)
        errors = values.opened(fields["errors"], "jobs.errors", job)
        fields["errors"] = msgspec.json.decode(errors, type=list[Failed])
    except SealError as error:  # other jobs go on, and this one when the key is there
        fields |= dict.fromkeys(_TEXTS) | {"errors": [], "sealed": error}
    return Job(**fields)


async def _all(connection: AsyncConnection, query: Any, **parameters: Any) -> list[Job]:
    rows, values = (await connection.execute(query, parameters)).mappings(), values_of(connection)
    return [_job(values, row) for row in rows]


async def begin(
    connection: AsyncConnection,
    entry: JobEntry,
    *,
    owner: str,
    holder: str,
    held_until: float,
    callback_url: str | None = None,
    callback_secret: str | None = None,
) -> None:
    """A job that is about to be submitted."""
    row: dict[str, Any] = {
        "id": entry.job,
        "owner": owner,
        "state": "submitting",
        "model": entry.model,
        "version": entry.version,
        "entry": msgspec.json.encode(entry),
        "on_broker": True,
        "callback_url": callback_url,
        "callback_secret": callback_secret,
        "created": entry.at,
        "updated": entry.at,
        "done": 0,
        "failed": 0,
        "errors": b"[]",
        "holder": holder,
        "held_until": held_until,
    }
    row = _sealed(values_of(connection), entry.job, row)
    await connection.execute(sa.insert(jobs).values(row))


async def waiting(connection: AsyncConnection, owner: str, model: str) -> list[int]:
    """How many items remain of each job that this caller has waiting for a model."""
    items = jobs.c["items"]
    query = sa.select(items - jobs.c.done).where(
        jobs.c.owner == owner,
        jobs.c.model == model,
        jobs.c.on_broker,
        jobs.c.state == "running",
        items.is_not(None),
    )
    return list(await connection.scalars(query))


async def accept(connection: AsyncConnection, entry: JobEntry, holder: str) -> Job | None:
    """The broker has all of a job; None when it was cancelled meanwhile. From now on it is free."""
    values = {
        "state": "running",
        "entry": msgspec.json.encode(entry),
        "submitted": entry.at,
        "updated": entry.at,
        "items": entry.items,
        "holder": None,
        "held_until": None,
    }
    return await _changed(connection, entry.job, holder, ("submitting",), values)


async def end(
    connection: AsyncConnection,
    job: str,
    holder: str,
    state: JobState,
    counts: Counts,
    *,
    now: float,
    expires: float,
    reason: str | None = None,
) -> Job | None:
    """A job has come to an end; None when it had before, or somebody else holds it.

    What is cancelled becomes nothing else, whatever else has happened.
    """
    before: tuple[JobState, ...] = ("running",) if state != "cancelled" else ("cancelling",)
    values = counts.values() | {
        "state": state,
        "ended": now,
        "updated": now,
        "expires": expires,
        "reason": reason,
    }
    return await _changed(connection, job, holder, before, values)


async def _changed(
    connection: AsyncConnection,
    job: str,
    holder: str,
    before: Sequence[JobState],
    values: dict[str, Any],
) -> Job | None:
    """The job with these values, if it is held and in one of these states."""
    query = (
        sa.update(jobs)
        .where(jobs.c.id == job, jobs.c.holder == holder, jobs.c.state.in_(before))
        .values(_sealed(values_of(connection), job, values))
        .returning(*jobs.c)
    )
    return next(iter(await _all(connection, query)), None)


async def cancel(connection: AsyncConnection, job: str) -> None:
    """Whoever holds a job that has not ended, or takes it next, is to cancel it."""
    query = sa.update(jobs).where(jobs.c.id == job, jobs.c.state.in_(("submitting", "running")))
    await connection.execute(query.values(state="cancelling"))


async def release(
    connection: AsyncConnection, job: str, holder: str, *, until: float | None = None
) -> None:
    """Somebody else may do what is left, from a moment on."""
    await leases.release(connection, jobs, job, holder, until=until)


async def settle(connection: AsyncConnection, job: str, holder: str) -> None:
    """Nothing of a job is on the broker any more."""
    query = sa.update(jobs).where(jobs.c.id == job, jobs.c.holder == holder)
    await connection.execute(query.values(on_broker=False, holder=None, held_until=None))


async def forget(connection: AsyncConnection, job: str, holder: str) -> None:
    """A job that was never accepted."""
    await connection.execute(
        sa.delete(jobs).where(jobs.c.id == job, jobs.c.holder == holder, jobs.c.submitted.is_(None))
    )


async def are_free(connection: AsyncConnection, now: float, without: Collection[str]) -> bool:
    """Whether there is something to be done that nobody does, but `without` these owners."""
    return await leases.are_there(connection, _FREE & jobs.c.owner.not_in(without), now)


async def take(
    connection: AsyncConnection,
    holder: str,
    *,
    now: float,
    until: float,
    most: int,
    without: Collection[str],
) -> list[Job]:
    """Jobs of which something is left to be done, at most so many, the oldest first.

    `without` those of these owners.
    """
    free = _FREE & jobs.c.owner.not_in(without)
    rows = await leases.take(connection, jobs, free, holder, now=now, until=until, most=most)
    values = values_of(connection)
    return [_job(values, row) for row in rows]


async def hold(
    connection: AsyncConnection, names: Collection[str], holder: str, *, until: float
) -> None:
    """Go on with those of these jobs that are held: whatever else was held is free soon."""
    await leases.hold(connection, jobs, names, holder, until=until)


async def held(connection: AsyncConnection, holder: str) -> dict[str, str]:
    """The state of each job that is held."""
    rows = await connection.execute(
        sa.select(jobs.c.id, jobs.c.state).where(jobs.c.holder == holder)
    )
    return {row.id: row.state for row in rows}


async def note(
    connection: AsyncConnection, job: str, holder: str, counts: Counts, now: float
) -> None:
    """How far a job is that is held."""
    query = sa.update(jobs).where(jobs.c.id == job, jobs.c.holder == holder)
    values = _sealed(values_of(connection), job, counts.values() | {"updated": now})
    await connection.execute(query.values(values))


async def one(connection: AsyncConnection, job: str, owner: str) -> Job | None:
    """A job that this caller has."""
    query = sa.select(jobs).where(jobs.c.id == job, jobs.c.owner == owner)
    return next(iter(await _all(connection, query)), None)


class Counted(msgspec.Struct, frozen=True):
    """How far a job is, and nothing else of it."""

    items: int | None
    done: int
    failed: int


async def counted(connection: AsyncConnection, names: Sequence[str]) -> dict[str, Counted]:
    """Of each of these that there is."""
    if not names:
        return {}
    columns = (jobs.c[name] for name in ("id", *Counted.__struct_fields__))
    rows = await connection.execute(sa.select(*columns).where(jobs.c.id.in_(names)))
    return {name: Counted(*counts) for name, *counts in rows}


async def page(
    connection: AsyncConnection, owner: str, *, limit: int, after: str | None
) -> list[Job]:
    """Jobs of this caller, the newest first: those that come after the job `after`."""
    query = sa.select(jobs).where(jobs.c.owner == owner)
    if after is not None:
        created = sa.select(jobs.c.created).where(jobs.c.id == after, jobs.c.owner == owner)
        moment = created.scalar_subquery()
        query = query.where(
            (jobs.c.created < moment) | ((jobs.c.created == moment) & (jobs.c.id < after))
        )
    order = (jobs.c.created.desc(), jobs.c.id.desc())
    return await _all(connection, query.order_by(*order).limit(limit))


async def expire(connection: AsyncConnection, now: float) -> list[str]:
    """Forgets jobs whose time is over; their ids."""
    query = sa.delete(jobs).where(jobs.c.expires < now, sa.not_(jobs.c.on_broker))
    return list(await connection.scalars(query.returning(jobs.c.id)))
