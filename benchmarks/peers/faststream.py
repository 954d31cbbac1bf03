"""FastStream over RabbitMQ.

As faststream.ag2.ai has it: "RabbitMQ / RPC over RMQ" shows `broker.request`, which makes one call
at a time (it holds a lock, for the broker's direct reply-to), and for a permanent flow a reply
queue of one's own, `reply_to`. Both are measured. "Concurrency and Prefetch" sets the prefetch on
the channel; "Logging" turns the two log lines a message off. Publisher confirms are on by default.

    python -m benchmarks.peers.faststream
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import uuid
from collections.abc import AsyncIterator, Sequence

import uvloop
from faststream import AckPolicy, FastStream
from faststream.rabbit import Channel, RabbitBroker, RabbitQueue, RabbitResponse
from faststream.rabbit.annotations import RabbitMessage

from benchmarks import rig
from benchmarks.load import PATIENCE
from benchmarks.peers import PREFETCH, classify, rate
from lmaas.broker_config.settings import Settings

QUEUE = RabbitQueue("faststream", durable=True)


async def request(settings: Settings, texts: Sequence[str], callers: int, seconds: float) -> float:
    """`broker.request`."""
    async with _worker(settings), RabbitBroker(settings.broker_url, logger=None) as client:

        async def call(text: str) -> object:
            reply = await client.request(text, QUEUE, persist=True, timeout=PATIENCE)
            return await reply.decode()

        # Calls wait for the lock, so that more callers would only wait longer at the end.
        return await rate(call, texts, min(callers, PREFETCH), seconds)


async def reply_to(settings: Settings, texts: Sequence[str], callers: int, seconds: float) -> float:
    """A reply queue of the client's own."""
    waiting: dict[str, asyncio.Future[object]] = {}
    client = RabbitBroker(settings.broker_url, logger=None)
    replies = RabbitQueue(f"faststream-{uuid.uuid4().hex}", exclusive=True)

    @client.subscriber(replies, ack_policy=AckPolicy.ACK_FIRST)
    async def on_reply(message: RabbitMessage) -> None:
        waiting.pop(message.correlation_id or "").set_result(await message.decode())

    async def call(text: str) -> object:
        correlation_id = uuid.uuid4().hex
        future = waiting[correlation_id] = asyncio.get_running_loop().create_future()
        await client.publish(
            text, QUEUE, reply_to=replies.name, correlation_id=correlation_id, persist=True
        )
        return await future

    async with _worker(settings), client:
        await client.start()
        return await rate(call, texts, callers, seconds)


@contextlib.asynccontextmanager
async def _worker(settings: Settings) -> AsyncIterator[None]:
    async with rig.process(settings, "-m", "benchmarks.peers.faststream"):
        yield


async def work() -> None:
    url = os.environ["LMAAS_BROKER_URL"]
    broker = RabbitBroker(url, default_channel=Channel(prefetch_count=PREFETCH), logger=None)
    app = FastStream(broker, logger=None)

    # A function that is not asynchronous runs in a thread.
    @broker.subscriber(QUEUE)
    def answer(text: str) -> RabbitResponse:
        return RabbitResponse(classify(text), persist=True)

    @app.after_startup
    async def say_so() -> None:
        print("ready", file=sys.stderr, flush=True)

    await app.run()


if __name__ == "__main__":
    uvloop.run(work())
