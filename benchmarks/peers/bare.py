"""aio-pika alone, one text a message.

Written as RPC is in aio-pika's tutorial (docs.aio-pika.com, "Remote procedure call"), which has
one reply queue a client and a correlation id a call; with a prefetch of 100, publisher confirms,
inference off the event loop and uvloop in the worker.

    python -m benchmarks.peers.bare QUEUE (model | echo)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import uuid
from collections.abc import AsyncIterator, Sequence

import aio_pika
import uvloop
from aio_pika.abc import AbstractIncomingMessage

from benchmarks import rig
from benchmarks.load import Call
from benchmarks.peers import PREFETCH, classify, rate
from lmaas.broker_config.settings import Settings


async def measure(settings: Settings, texts: Sequence[str], callers: int, seconds: float) -> float:
    async with served(settings, "model") as call:
        return await rate(call, texts, callers, seconds)


@contextlib.asynccontextmanager
async def served(settings: Settings, answer: str) -> AsyncIterator[Call]:
    """A worker that answers with the model's result, or with an "echo"; and a way to call it."""
    queue = f"bare-{uuid.uuid4().hex}"
    async with (
        rig.process(settings, "-m", "benchmarks.peers.bare", queue, answer),
        await aio_pika.connect_robust(settings.broker_url) as connection,
    ):
        channel = await connection.channel()
        replies = await channel.declare_queue(exclusive=True)
        waiting: dict[str, asyncio.Future[bytes]] = {}

        async def on_reply(message: AbstractIncomingMessage) -> None:
            waiting.pop(message.correlation_id or "").set_result(message.body)

        async def call(text: str) -> object:
            correlation_id = uuid.uuid4().hex
            future = waiting[correlation_id] = asyncio.get_running_loop().create_future()
            message = _message(text.encode(), correlation_id, replies.name)
            await channel.default_exchange.publish(message, routing_key=queue)
            return await future

        await replies.consume(on_reply, no_ack=True)
        yield call


async def work(queue_name: str, answer: str) -> None:
    connection = await aio_pika.connect_robust(os.environ["LMAAS_BROKER_URL"])
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=PREFETCH)
    queue = await channel.declare_queue(queue_name, durable=True)

    async def on_message(message: AbstractIncomingMessage) -> None:
        body = message.body
        if answer == "model":
            body = json.dumps(await asyncio.to_thread(classify, body.decode())).encode()
        reply = _message(body, message.correlation_id)
        await channel.default_exchange.publish(reply, routing_key=message.reply_to or "")
        await message.ack()

    await queue.consume(on_message)
    print("ready", file=sys.stderr, flush=True)
    await asyncio.Future()


def _message(
    body: bytes, correlation_id: str | None, reply_to: str | None = None
) -> aio_pika.Message:
    return aio_pika.Message(
        body,
        correlation_id=correlation_id,
        reply_to=reply_to,
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
    )


if __name__ == "__main__":
    uvloop.run(work(*sys.argv[1:]))
