"""A job is accepted: noted before anything of it is published, and again when the broker has all.

Between the two it is `submitting`. What is left so by a gateway that was killed, or by a caller who
left, is cancelled by `collecting`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final, Literal

import msgspec
from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncConnection

from lmaas.broker_config.masked import Masked
from lmaas.producer.gateway.app_keys import BROKER_JOBS, CARDS, SETTINGS, STATE
from lmaas.producer.gateway.failures import HttpError
from lmaas.producer.gateway.jobs.collecting import COLLECTING
from lmaas.producer.gateway.state import jobs as table
from lmaas.producer.gateway.state.jobs import Job
from lmaas.producer.journal import JobEntry
from lmaas.producer.packing import Entries
from lmaas.producer.remaining import Ahead

Priority = Literal["high", "normal", "low"]
#: By how much larger or smaller a job counts when its packs are ordered.
WEIGHTS: Final[dict[Priority, float]] = {"high": 0.01, "normal": 1.0, "low": 100.0}


class Asked(Masked, msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted of a job, besides its items."""

    model: str
    version: str | None = None
    top_k: int = 0
    min_score: float | None = None
    priority: Priority = "normal"
    deadline: datetime | None = None
    callback_url: str | None = None
    callback_secret: str | None = None


class JobCancelled(HttpError):
    """Somebody has cancelled the job before it was accepted."""

    def __init__(self, job: str) -> None:
        told = f"job {job} was cancelled before all of it was published"
        super().__init__(HTTPStatus.CONFLICT, "cancelled", told)


async def accept(
    app: web.Application,
    owner: str,
    asked: Asked,
    items: Entries,
    accepted: Callable[[AsyncConnection, Job], Awaitable[None]] | None = None,
    patience: float | None = None,
) -> Job:
    """The job, once the broker has all of it. Cancelling this before that cancels the job.

    `accepted` is called in the transaction by which it is accepted. Raises Busy when a lane has no
    room for `wait` seconds, JobCancelled when somebody cancels it meanwhile, HttpError 404 for a
    version that there is not, and what `Jobs.publish` raises, or the source of the items.
    """
    broker, state, collecting = app[BROKER_JOBS], app[STATE], app[COLLECTING]
    await app[CARDS].check(asked.model, asked.version)
    draft = await broker.draft(asked.model, version=asked.version)
    how = _how(asked, app[SETTINGS].wait if patience is None else patience)
    publishing: asyncio.Task[JobEntry] | None = None
    try:
        with collecting.submitting(draft.job):
            ahead = await _begun(app, owner, asked, draft)
            publishing = asyncio.create_task(
                broker.publish(draft, items, **how, ahead=ahead, tenant=owner or None)
            )
            collecting.publishing(draft.job, publishing)
            entry = await publishing
            async with state.writing() as connection:
                job = await table.accept(connection, entry, collecting.holder)
                if job is not None and accepted is not None:
                    await accepted(connection, job)
    except BaseException as error:
        # Even if `begin` is what failed: who is cancelled over a commit may have committed.
        await collecting.let_go(draft.job)
        if publishing is not None and publishing.cancelled() and not _is_cancelled():
            raise JobCancelled(draft.job) from error
        raise
    if job is None:
        await collecting.let_go(draft.job)
        raise JobCancelled(draft.job)
    collecting.wake()
    return job


async def _begun(app: web.Application, owner: str, asked: Asked, draft: JobEntry) -> Ahead:
    """The job is noted; what of its owner's jobs comes before it."""
    collecting = app[COLLECTING]
    async with app[STATE].writing() as connection:
        waiting = await table.waiting(connection, owner, draft.model) if owner else ()
        await table.begin(
            connection,
            draft,
            owner=owner,
            holder=collecting.holder,
            held_until=collecting.until(),
            callback_url=asked.callback_url,
            callback_secret=asked.callback_secret,
        )
    return Ahead(waiting)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _how(asked: Asked, patience: float) -> dict[str, Any]:
    deadline = asked.deadline
    return {
        "top_k": asked.top_k,
        "min_score": asked.min_score,
        "weight": WEIGHTS[asked.priority],
        "deadline_ms": None if deadline is None else math.ceil(deadline.timestamp() * 1000),
        "patience": patience,
    }
