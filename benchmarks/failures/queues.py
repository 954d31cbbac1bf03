"""What is in the queues, as the broker itself tells it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import aio_pika
from aio_pika.abc import AbstractConnection
from aiormq.exceptions import ChannelNotFoundEntity

from benchmarks import rig
from lmaas.broker_config.local_node import LocalNode
from lmaas.broker_config.scheduling import LANES
from lmaas.broker_config.settings import Settings


@contextlib.asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[AbstractConnection]:
    """A plain connection, as a foreign program has it."""
    async with await aio_pika.connect(settings.broker_url) as connection:
        yield connection


async def counts(connection: AbstractConnection, queue: str) -> tuple[int, int]:
    """Ready messages and consumers of a queue; none of one that is not there."""
    with contextlib.suppress(ChannelNotFoundEntity):
        async with connection.channel() as channel:
            result = (await channel.get_queue(queue)).declaration_result
            return result.message_count or 0, result.consumer_count or 0
    return 0, 0


def lanes(settings: Settings) -> list[str]:
    return [settings.names.work_queue(rig.MODEL, lane) for lane in LANES]


def _ours(settings: Settings) -> list[str]:
    return [
        *lanes(settings),
        *(settings.names.retry(rig.MODEL, delay) for delay in settings.retry_delays),
    ]


async def waiting(connection: AbstractConnection, settings: Settings) -> int:
    """Messages that are ready in the lanes and in the retry queues."""
    found = [await counts(connection, queue) for queue in _ours(settings)]
    return sum(messages for messages, _ in found)


async def unsettled(node: LocalNode, settings: Settings) -> int:
    """As `waiting`, with those that workers hold; it takes 1 to 2 s."""
    listed = await node.ctl("list_queues", "name", "messages")
    messages = dict(line.split("\t") for line in listed.splitlines())
    return sum(int(messages.get(queue, 0)) for queue in _ours(settings))


async def consuming(connection: AbstractConnection, settings: Settings) -> int:
    """Workers that consume every lane."""
    return min([(await counts(connection, lane))[1] for lane in lanes(settings)])
