"""The table of batches: the view of a job that clients of OpenAI's Batch protocol have."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from lmaas.broker_config.errors import SealError
from lmaas.broker_config.masked import Masked
from lmaas.producer.gateway.at_rest.values import Values
from lmaas.producer.gateway.state import leases
from lmaas.producer.gateway.state.database import METADATA, values_of

#: `validating`: its lines are looked at. `in_progress`: they are a job, or about to be one.
#: `finalizing`: the job has ended, and the files are written. `cancelling`: both, after a cancel.
BatchState = Literal[
    "validating",
    "in_progress",
    "finalizing",
    "cancelling",
    "completed",
    "failed",
    "expired",
    "cancelled",
]
ENDED: Final = ("completed", "failed", "expired", "cancelled")
#: What can still be cancelled, or be too late.
_OPEN: Final = ("validating", "in_progress")

batches = sa.Table(
    "batches",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("owner", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("endpoint", sa.Text, nullable=False),
    sa.Column("input_file", sa.String(64), nullable=False),
    sa.Column("completion_window", sa.String(16), nullable=False),
    # A JSON object of texts; sealed, as `errors` and the callback.
    sa.Column("metadata", sa.LargeBinary, nullable=False),
    # Seconds for which its output is kept; null: as the settings say.
    sa.Column("keep_output", sa.Double),
    sa.Column("callback_url", sa.Text),
    sa.Column("callback_secret", sa.Text),
    # From its lines, once they are known to be right.
    sa.Column("model", sa.Text),
    sa.Column("lines", sa.BigInteger),
    sa.Column("job", sa.String(64)),
    # Of the lines, once it has ended: those with an answer, and those with an error.
    sa.Column("done", sa.BigInteger),
    sa.Column("failed", sa.BigInteger),
    # A JSON array: why it has failed as a whole.
    sa.Column("errors", sa.LargeBinary, nullable=False),
    sa.Column("output_file", sa.String(64)),
    sa.Column("error_file", sa.String(64)),
    sa.Column("created", sa.Double, nullable=False),
    # When its time for completion is over.
    sa.Column("due", sa.Double, nullable=False),
    # Whether it was over before everything was done.
    sa.Column("is_late", sa.Boolean, nullable=False),
    sa.Column("begun", sa.Double),
    sa.Column("finalizing", sa.Double),
    sa.Column("cancelling", sa.Double),
    sa.Column("ended", sa.Double),
    # When its row is deleted.
    sa.Column("expires", sa.Double),
    # Whether a gateway has something to do for it now: nobody waits for a job.
    sa.Column("has_work", sa.Boolean, nullable=False),
    # The gateway that does it, and until when the others leave it alone.
    sa.Column("holder", sa.String(64)),
    sa.Column("held_until", sa.Double),
)
sa.Index(None, batches.c.owner, batches.c.created, batches.c.id)
sa.Index(None, batches.c.has_work, batches.c.held_until)
sa.Index(None, batches.c.job)
sa.Index(None, batches.c.input_file)
sa.Index(None, batches.c.state, batches.c.due)
sa.Index(None, batches.c.expires)

_FREE: Final = batches.c.has_work & leases.unheld(batches)


class Problem(msgspec.Struct, frozen=True):
    """Why a batch has failed."""

    code: str
    message: str
    param: str | None = None
    #: Of the input file, from 1.
    line: int | None = None


class Batch(Masked, msgspec.Struct, frozen=True, kw_only=True):
    """A row."""

    id: str
    owner: str
    state: BatchState
    endpoint: str
    input_file: str
    completion_window: str
    metadata: dict[str, str] | None
    keep_output: float | None = None
    callback_url: str | None = None
    callback_secret: str | None = None
    model: str | None = None
    lines: int | None = None
    job: str | None = None
    done: int | None = None
    failed: int | None = None
    errors: list[Problem] = []
    output_file: str | None = None
    error_file: str | None = None
    created: float
    due: float
    is_late: bool = False
    begun: float | None = None
    finalizing: float | None = None
    cancelling: float | None = None
    ended: float | None = None
    expires: float | None = None
    has_work: bool = True
    holder: str | None = None
    held_until: float | None = None
    #: Why what is sealed of it cannot be opened now; it has none of that then.
    sealed: SealError | None = None

    @property
    def is_ended(self) -> bool:
        return self.state in ENDED

    @property
    def is_stopped(self) -> bool:
        """Whether nothing more of it is to be done than to end it."""
        return self.state == "cancelling" or self.is_late


_TEXTS: Final = ("callback_url", "callback_secret")


def _batch(values: Values, row: sa.RowMapping) -> Batch:
    fields, batch = dict(row), row["id"]
    try:
        for name in _TEXTS:
            fields[name] = values.opened_text(fields[name], f"batches.{name}", batch)
        metadata = values.opened(fields["metadata"], "batches.metadata", batch)
        errors = values.opened(fields["errors"], "batches.errors", batch)
        fields["metadata"] = msgspec.json.decode(metadata)
        fields["errors"] = msgspec.json.decode(errors, type=list[Problem])
    except SealError as error:  # other batches go on, and this one when the key is there
        fields |= dict.fromkeys(_TEXTS) | {"metadata": None, "errors": [], "sealed": error}
    return Batch(**fields)


def _sealed(values: Values, batch: str, row: dict[str, Any]) -> dict[str, Any]:
    """A row, or a part of one, as the table has it."""
    for name in ("metadata", "errors"):
        if name in row:
            content = msgspec.json.encode(row[name])
            row[name] = values.sealed(content, f"batches.{name}", batch)
    for name in _TEXTS:
        if name in row:
            row[name] = values.sealed_text(row[name], f"batches.{name}", batch)
    return row


async def _all(connection: AsyncConnection, query: Any, **parameters: Any) -> list[Batch]:
    rows, values = (await connection.execute(query, parameters)).mappings(), values_of(connection)
    return [_batch(values, row) for row in rows]


async def add(connection: AsyncConnection, batch: Batch) -> None:
    row = msgspec.structs.asdict(batch)
    del row["sealed"]
    row = _sealed(values_of(connection), batch.id, row)
    await connection.execute(sa.insert(batches).values(row))


async def one(connection: AsyncConnection, name: str, owner: str) -> Batch | None:
    """A batch that this caller has."""
    query = sa.select(batches).where(batches.c.id == name, batches.c.owner == owner)
    return next(iter(await _all(connection, query)), None)


async def same(
    connection: AsyncConnection, owner: str, file: str, endpoint: str, since: float
) -> Batch | None:
    """The newest one that was made of the same, and that nobody has cancelled."""
    query = sa.select(batches).where(
        batches.c.owner == owner,
        batches.c.input_file == file,
        batches.c.endpoint == endpoint,
        batches.c.created > since,
        batches.c.cancelling.is_(None),
    )
    query = query.order_by(batches.c.created.desc()).limit(1)
    return next(iter(await _all(connection, query)), None)


async def page(
    connection: AsyncConnection, owner: str, *, limit: int, after: str | None
) -> list[Batch]:
    """Batches of this caller, the newest first: those that come after the batch `after`."""
    query = sa.select(batches).where(batches.c.owner == owner)
    place = (batches.c.created, batches.c.id)
    if after is not None:
        there = sa.select(*place).where(batches.c.id == after, batches.c.owner == owner)
        row = (await connection.execute(there)).one_or_none()
        if row is None:
            return []
        query = query.where(sa.tuple_(*place) < sa.tuple_(*(sa.literal(one) for one in row)))
    order = [column.desc() for column in place]
    return await _all(connection, query.order_by(*order).limit(limit))


async def user_of(connection: AsyncConnection, file: str) -> str | None:
    """A batch that has not ended and reads this file."""
    query = sa.select(batches.c.id).where(
        batches.c.input_file == file, batches.c.state.not_in(ENDED)
    )
    found: str | None = await connection.scalar(query.limit(1))
    return found


def in_use() -> Any:
    """A query: the input files of batches that have not ended."""
    return sa.select(batches.c.input_file).where(batches.c.state.not_in(ENDED))


async def cancel(connection: AsyncConnection, batch: Batch, now: float) -> Batch | None:
    """The batch, which is to be cancelled now; None when it has changed meanwhile."""
    return await _changed(
        connection,
        batch.id,
        (batches.c.job.is_not_distinct_from(batch.job),),
        _OPEN,
        {"state": "cancelling", "cancelling": now, "has_work": batch.job is None},
    )


async def late(connection: AsyncConnection, now: float) -> list[Batch]:
    """Those whose time is over, each of them once. Their jobs are to be cancelled."""
    query = (
        sa.update(batches)
        .where(batches.c.state.in_(_OPEN), batches.c.due < now, sa.not_(batches.c.is_late))
        .values(is_late=True)
        .returning(*batches.c)
    )
    return await _all(connection, query)


async def are_late(connection: AsyncConnection, now: float) -> bool:
    """Whether there is one whose time is over."""
    query = sa.exists().where(
        batches.c.state.in_(_OPEN), batches.c.due < now, sa.not_(batches.c.is_late)
    )
    return bool(await connection.scalar(sa.select(query)))


async def job_ended(connection: AsyncConnection, job: str, now: float) -> None:
    """The files of a job's batch, if it has one, can be written."""
    mine = sa.update(batches).where(batches.c.job == job)
    await connection.execute(
        mine.where(batches.c.state == "in_progress").values(state="finalizing", finalizing=now)
    )
    await connection.execute(mine.where(batches.c.state.not_in(ENDED)).values(has_work=True))


async def validated(
    connection: AsyncConnection, name: str, holder: str, model: str, lines: int, now: float
) -> Batch | None:
    """Its lines are right; None when it is cancelled, or another's."""
    return await _changed(
        connection,
        name,
        (batches.c.holder == holder,),
        ("validating",),
        {"state": "in_progress", "begun": now, "model": model, "lines": lines},
    )


async def submitted(connection: AsyncConnection, name: str, holder: str, job: str) -> Batch | None:
    """The broker has its job; None when it is cancelled or late, or another's."""
    return await _changed(
        connection,
        name,
        (batches.c.holder == holder, sa.not_(batches.c.is_late)),
        ("in_progress",),
        {"job": job, "has_work": False, "holder": None, "held_until": None},
    )


async def end(
    connection: AsyncConnection, name: str, holder: str, values: dict[str, Any]
) -> Batch | None:
    """It has come to an end; None when it had before, or is another's."""
    return await _changed(
        connection,
        name,
        (batches.c.holder == holder,),
        (*_OPEN, "finalizing", "cancelling"),
        values | {"has_work": False, "holder": None, "held_until": None},
    )


async def _changed(
    connection: AsyncConnection,
    name: str,
    which: tuple[Any, ...],
    before: Any,
    values: dict[str, Any],
) -> Batch | None:
    query = (
        sa.update(batches)
        .where(batches.c.id == name, *which, batches.c.state.in_(before))
        .values(_sealed(values_of(connection), name, values))
        .returning(*batches.c)
    )
    return next(iter(await _all(connection, query)), None)


async def release(
    connection: AsyncConnection, name: str, holder: str, *, until: float | None = None
) -> None:
    """Somebody else may do what is left, from a moment on."""
    await leases.release(connection, batches, name, holder, until=until)


async def are_free(connection: AsyncConnection, now: float) -> bool:
    """Whether there is something to be done that nobody does."""
    return await leases.are_there(connection, _FREE, now)


async def take(
    connection: AsyncConnection, holder: str, *, now: float, until: float, most: int
) -> list[Batch]:
    """Batches for which something is to be done, at most so many, the oldest first."""
    rows = await leases.take(connection, batches, _FREE, holder, now=now, until=until, most=most)
    values = values_of(connection)
    return [_batch(values, row) for row in rows]


async def hold(
    connection: AsyncConnection, names: Collection[str], holder: str, *, until: float
) -> None:
    """Go on with those of these batches that are held: whatever else was held is free soon."""
    await leases.hold(connection, batches, names, holder, until=until)


async def held(connection: AsyncConnection, holder: str) -> dict[str, bool]:
    """Whether each batch that is held is stopped; see `Batch.is_stopped`."""
    columns = (batches.c.id, batches.c.state, batches.c.is_late)
    rows = await connection.execute(sa.select(*columns).where(batches.c.holder == holder))
    return {row.id: row.state == "cancelling" or row.is_late for row in rows}


async def expire(connection: AsyncConnection, now: float) -> None:
    """Forgets batches whose time is over."""
    await connection.execute(sa.delete(batches).where(batches.c.expires < now))
