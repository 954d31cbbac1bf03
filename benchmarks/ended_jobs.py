"""Many jobs that have ended, as a gateway's state has them, without the work of running them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from benchmarks import rig
from lmaas.producer.gateway.callbacks import events
from lmaas.producer.gateway.callbacks.receivers import callback_name, host
from lmaas.producer.gateway.settings import GatewaySettings
from lmaas.producer.gateway.state import State
from lmaas.producer.gateway.state.deliveries import PENDING, deliveries
from lmaas.producer.gateway.state.jobs import jobs
from lmaas.producer.journal import JobEntry

ITEMS = 100
#: Seconds between two of them.
APART = 1.0
#: Seconds for which they are kept.
KEPT = 7 * 86_400.0


async def ended(
    settings: GatewaySettings, count: int, callback: tuple[str, str] | None = None
) -> list[str]:
    """The ids of so many, the oldest first. `callback`: where the end of each is told, once a
    gateway runs, and the secret that signs it.
    """
    now = time.time()
    rows = [_row(now - APART * (count - place), callback) for place in range(count)]
    async with State(settings) as state, state.writing() as connection:
        await connection.execute(sa.insert(jobs), rows)
        if callback is not None:
            await connection.execute(sa.insert(deliveries), [_delivery(row) for row in rows])
    return [row["id"] for row in rows]


def _row(at: float, callback: tuple[str, str] | None) -> dict[str, Any]:
    name = uuid.uuid4().hex[:12]
    entry = JobEntry(job=name, state="submitted", model=rig.MODEL, queue=name, at=at)
    return {
        "id": name,
        "owner": "",
        "state": "finished",
        "model": rig.MODEL,
        "entry": msgspec.json.encode(entry),
        "on_broker": False,
        "callback_url": callback and callback[0],
        "callback_secret": callback and callback[1],
        "created": at,
        "submitted": at,
        "updated": at,
        "ended": at,
        "expires": at + KEPT,
        "items": ITEMS,
        "done": ITEMS,
        "failed": 0,
        "errors": b"[]",
    }


def _delivery(row: Mapping[str, Any]) -> dict[str, Any]:
    """What the end of a job puts into the outbox."""
    name, url, now = events.new_id(), row["callback_url"], time.time()
    data = {"id": row["id"], "state": row["state"], "items": row["items"]}
    return {
        "id": name,
        "owner": row["owner"],
        "job": row["id"],
        "event": "job.finished",
        "url": url,
        "host": host(url),
        "receiver": callback_name(row["owner"], url),
        "secret": row["callback_secret"],
        "body": events.body(name, "job.finished", now, data),
        "created": now,
        "state": PENDING,
        "due": now,
        "tried": 0,
    }
