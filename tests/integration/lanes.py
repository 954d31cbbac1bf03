"""Workers in this process, and looks at the lanes and queues from outside."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aio_pika
import msgspec
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aiormq.exceptions import ChannelNotFoundEntity

from lmaas.broker_config.codes import meaning
from lmaas.broker_config.declaring import declare
from lmaas.broker_config.messages import Item, ItemError, Request
from lmaas.broker_config.scheduling import LANES
from lmaas.broker_config.seals import Seals
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import journal, topology
from lmaas.producer.dead_letter import request_of, seal_of
from lmaas.workers.delivery import WITHHELD
from lmaas.workers.pool import Pool
from lmaas.workers.worker import Worker

MODELS = Path(__file__).parents[2] / "models"
#: Seconds after which something that should happen has failed to. A worker whose lines are dead may
#: drain for 25 s (drain_timeout), and then close two sessions in 10 s each.
LIMIT = 120


@contextlib.asynccontextmanager
async def serving(settings: Settings, worker: Worker | None = None) -> AsyncIterator[Worker]:
    """A worker in this process; it drains at the end."""
    worker = worker or Worker(settings)
    started = asyncio.Event()
    running = asyncio.create_task(worker.run(started))
    try:
        async with asyncio.timeout(LIMIT):
            starting = asyncio.create_task(started.wait())
            await asyncio.wait([starting, running], return_when=asyncio.FIRST_COMPLETED)
            starting.cancel()
        if running.done():
            running.result()
        yield worker
    finally:
        worker.stop()
        async with asyncio.timeout(LIMIT):
            await running


async def in_process(settings: Settings, texts: list[str]) -> list[tuple[str | None, float | None]]:
    """Label and score of each text without a queue."""
    items = [Item(id=str(place), text=text) for place, text in enumerate(texts)]
    async with Pool(settings, "sentiment") as pool:
        found = []
        for start in range(0, len(items), 1_000):
            reply = await pool.run(Request(model="sentiment", items=items[start : start + 1_000]))
            found += [(result.label, result.score) for result in reply.results]
        return found


async def make_lanes(settings: Settings) -> None:
    async with channel_to(settings) as channel:
        await declare(
            channel,
            topology(settings.names, settings.queue_type, ["sentiment"], settings.retry_delays),
        )
        await declare(channel, journal(settings.names, settings.queue_type))


@contextlib.asynccontextmanager
async def channel_to(settings: Settings) -> AsyncIterator[AbstractChannel]:
    """A plain aio-pika channel, as a foreign program has it."""
    async with (
        await aio_pika.connect(settings.broker_url) as connection,
        connection.channel(on_return_raises=True) as channel,
    ):
        yield channel


async def depth(settings: Settings, queue: str) -> int | None:
    """Messages that are ready in a queue; None when there is no such queue."""
    counts = await _counts(settings, queue)
    return counts and counts[0]


async def consumers(settings: Settings, queue: str) -> int | None:
    """Consumers of a queue; None when there is no such queue."""
    counts = await _counts(settings, queue)
    return counts and counts[1]


async def _counts(settings: Settings, queue: str) -> tuple[int, int] | None:
    with contextlib.suppress(ChannelNotFoundEntity):
        async with channel_to(settings) as channel:
            result = (await channel.get_queue(queue)).declaration_result
            return result.message_count or 0, result.consumer_count or 0
    return None


async def waiting_packs(settings: Settings) -> int:
    """Packs in the lanes that nobody has taken."""
    names = [settings.names.work_queue("sentiment", lane) for lane in LANES]
    return sum([await depth(settings, name) or 0 for name in names])


def sent_in(dead_letter: AbstractIncomingMessage, settings: Settings) -> Request:
    """The request that was dead-lettered, sealed or not."""
    seals, body = Seals(settings), dead_letter.body
    if seal := seal_of(dead_letter, seals):
        body = seals.open(body, seal)
    request = request_of(body, dead_letter.content_type)
    assert request is not None
    return request


def as_told(error: ItemError, settings: Settings) -> ItemError:
    """As logs and headers have it: where packs are sealed, without words that may quote a text."""
    withheld = settings.payload_keys and meaning(error.code).quotes
    return msgspec.structs.replace(error, message=WITHHELD) if withheld else error


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Polls: of a queue's depth the broker tells nobody."""
    async with asyncio.timeout(LIMIT):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def having(settings: Settings, **changes: Any) -> Settings:
    return msgspec.structs.replace(settings, **changes)
