"""Chunks of a job that are nowhere any more. Pure.

AMQP tells what waits in a queue, and not what is with a consumer. So chunks that are neither
answered nor waiting may be in a worker's hands, unless there is no worker, or nothing has happened
for longer than a run takes. Else they are lost: a policy of the broker deleted them.
"""

from __future__ import annotations

from dataclasses import dataclass

from lmaas.producer.journal import JobEntry


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits for the workers of a model, in lanes and retry queues, and how many they are."""

    packs: int
    workers: int


def loss(
    entry: JobEntry, answered: int, waiting: Waiting, quiet: float, patience: float
) -> str | None:
    """What to say of the job's missing chunks; None when they are nobody's worry.

    `quiet` are the seconds for which nothing has happened, `patience` those that a run may take.
    """
    chunks = entry.chunks or 0
    missing = chunks - answered
    if entry.state != "submitted" or missing <= 0 or waiting.packs:
        return None
    if waiting.workers and quiet < patience:
        return None
    whereabouts = (
        f"nothing has come for {quiet:.0f} s"
        if waiting.workers
        else f"no worker takes packs of model {entry.model!r}"
    )
    return (
        f"job {entry.job}: {missing:,} of {chunks:,} chunks are neither answered nor waiting in a "
        f"queue, and {whereabouts}: a policy of the broker (message-ttl, max-length) may have "
        "deleted them, see `lmaas broker doctor`; or they are dead letters, see `lmaas dead list`; "
        f"`lmaas jobs cancel {entry.job}` makes way to submit it again"
    )
