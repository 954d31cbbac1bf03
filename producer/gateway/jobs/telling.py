"""The end of a job as an event: `job.finished`, `job.failed` or `job.cancelled`."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from lmaas.broker_config.messages import Result
from lmaas.producer.gateway.callbacks.outbox import Outbox
from lmaas.producer.gateway.jobs.collecting import Finished
from lmaas.producer.gateway.jobs.result_reader import end_of, in_order
from lmaas.producer.gateway.secret import Secret
from lmaas.producer.gateway.state import State
from lmaas.producer.gateway.state.jobs import Job

#: Bytes of results that are sent along; a webhook has at most 20 kB.
MOST: Final = 12_000
#: Characters of the reason of a failure.
_LONGEST: Final = 2_000


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """The `data` of the event. Times are Unix seconds."""

    id: str
    state: str
    model: str
    version: str | None
    created: float
    ended: float | None
    #: In all; those that have a result; and those whose result is an error.
    items: int | None
    done: int
    failed: int
    #: Why the job as a whole has failed.
    reason: str | None
    #: In the job's order; null: they are too many, and at `results_path`.
    results: list[Result] | None
    results_path: str


def telling(outbox: Outbox, state: State) -> Finished:
    """What is to be done when a job ends."""

    async def tell(connection: AsyncConnection, job: Job) -> None:
        ended = Ended(
            id=job.id,
            state=job.state,
            model=job.model,
            version=job.version,
            created=job.created,
            ended=job.ended,
            items=job.items,
            done=job.done,
            failed=job.failed,
            reason=job.reason and job.reason[:_LONGEST],
            results=await asyncio.to_thread(_results, state, job.id),
            results_path=f"/v1/jobs/{job.id}/results",
        )
        await outbox.enqueue(
            connection,
            job.owner,
            job.id,
            job.callback_url,
            f"job.{job.state}",
            msgspec.to_builtins(ended),
            Secret(job.callback_secret) if job.callback_secret else None,
        )

    return tell


def _results(state: State, job: str) -> list[Result] | None:
    size = end_of(state.results, job)
    if size > MOST:
        return None
    chunks = in_order(state.results, job, state.at_rest) if size else ()
    return [result for chunk in chunks for result in chunk]
