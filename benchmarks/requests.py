"""Concurrent single calls of 60 words with their results: ours beside bare aio-pika."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable

import aio_pika

from benchmarks import rig
from benchmarks.report import Figure, Report
from broker_config.settings import Settings
from producer.client import Client

WORDS = 60
#: Callers at the same time, each of which makes one call after the other.
CALLERS = 512
#: Calls of one measurement.
CALLS = 20_000
BARE_CALLS = 4_000
ROUNDS = 3

Call = Callable[[str], Awaitable[object]]


async def measure() -> Report:
    texts = [" ".join(review.split()[:WORDS]) for review in rig.reviews()]
    ours: list[float] = []
    bare: list[float] = []
    async with rig.broker() as settings:
        for _ in range(ROUNDS):
            async with rig.workers(settings, 1):
                ours.append(await _ours(settings, texts))
            queue = f"bare-{uuid.uuid4().hex}"
            async with rig.process(settings, "-m", "benchmarks.bare_worker", queue):
                bare.append(await _bare(settings, queue, texts))
    return Report(
        benchmark="requests",
        setting=f"{CALLERS} callers, texts of {WORDS} words, one worker process, persistent "
        f"messages, results returned; best of {ROUNDS}",
        figures=[
            Figure(name="LMaaS, client.classify", value=max(ours), unit="calls/s"),
            Figure(name="bare aio-pika, one text a message", value=max(bare), unit="calls/s"),
            Figure(name="LMaaS / bare aio-pika", value=max(ours) / max(bare), unit="", goal="10"),
        ],
    )


async def _rate(call: Call, texts: list[str], calls: int) -> float:
    """Calls a second, by CALLERS callers that wait for each answer."""
    todo = iter(range(calls))

    async def caller() -> None:
        for number in todo:
            await call(texts[number % len(texts)])

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return calls / (time.perf_counter() - began)


async def _ours(settings: Settings, texts: list[str]) -> float:
    async with Client(settings) as client:

        async def call(text: str) -> object:
            return await client.classify(rig.MODEL, text)

        await _rate(call, texts, CALLERS)
        return await _rate(call, texts, CALLS)


async def _bare(settings: Settings, queue: str, texts: list[str]) -> float:
    connection = await aio_pika.connect_robust(settings.broker_url)
    async with connection:
        channel = await connection.channel()
        replies = await channel.declare_queue(exclusive=True)
        waiting: dict[str, asyncio.Future[bytes]] = {}

        async def on_reply(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            waiting.pop(message.correlation_id or "").set_result(message.body)

        await replies.consume(on_reply, no_ack=True)

        async def call(text: str) -> object:
            correlation_id = uuid.uuid4().hex
            waiting[correlation_id] = asyncio.get_running_loop().create_future()
            future = waiting[correlation_id]
            await channel.default_exchange.publish(
                aio_pika.Message(
                    text.encode(),
                    correlation_id=correlation_id,
                    reply_to=replies.name,
                    delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                ),
                routing_key=queue,
            )
            return await future

        await _rate(call, texts, CALLERS)
        return await _rate(call, texts, BARE_CALLS)
