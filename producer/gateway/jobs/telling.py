"""The end of a job is told to its callback and to the endpoints of the settings."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from lmaas.producer.gateway.callbacks.outbox import Outbox
from lmaas.producer.gateway.jobs.collecting import Finished
from lmaas.producer.gateway.secret import Secret
from lmaas.producer.gateway.state.jobs import Job


def telling(outbox: Outbox) -> Finished:
    """Puts `job.finished`, `job.cancelled` or `job.failed` into the transaction of the end."""

    async def tell(connection: AsyncConnection, job: Job) -> None:
        await outbox.enqueue(
            connection,
            job.owner,
            job.id,
            job.callback_url,
            f"job.{job.state}",
            {
                "id": job.id,
                "state": job.state,
                "model": job.model,
                "items": job.items,
                "done": job.done,
                "failed": job.failed,
                "reason": job.reason,
            },
            None if job.callback_secret is None else Secret(job.callback_secret),
        )

    return tell
