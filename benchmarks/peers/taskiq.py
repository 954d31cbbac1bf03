"""taskiq over RabbitMQ with taskiq-aio-pika.

As taskiq-python.github.io has it: "CLI" for `--max-prefetch` ("systems with high message rates")
with 100 tasks at a time (its default), the broker's `qos` to match; a classic queue, where
taskiq-aio-pika's default is a quorum queue, which would be slower. "Available result backends" has
none over RabbitMQ, so results go to a reply queue with a backend as "Extending taskiq / Result
backend" describes, which wakes the caller instead of letting it poll every 0.2 s.
"""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from collections.abc import Sequence

import aio_pika
from aio_pika.abc import AbstractIncomingMessage
from taskiq import AsyncResultBackend, TaskiqEvents, TaskiqResult
from taskiq_aio_pika import AioPikaBroker, Queue, QueueType

from benchmarks import rig
from benchmarks.peers import PREFETCH, classify, rate
from lmaas.broker_config.settings import Settings

#: The label with the name of the reply queue.
REPLY_TO = "reply_to"


class Replies(AsyncResultBackend[tuple[str, float]]):
    """Results as messages; a client has its own queue for them."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._waiting: dict[str, asyncio.Future[bytes]] = {}
        self.queue = f"taskiq-{uuid.uuid4().hex}"

    async def startup(self) -> None:
        self._connection = await aio_pika.connect_robust(self._url)
        self._channel = await self._connection.channel()
        queue = await self._channel.declare_queue(self.queue, exclusive=True)
        await queue.consume(self._on_reply, no_ack=True)

    async def shutdown(self) -> None:
        await self._connection.close()

    async def set_result(self, task_id: str, result: TaskiqResult[tuple[str, float]]) -> None:
        message = aio_pika.Message(
            result.model_dump_json().encode(),
            correlation_id=task_id,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        await self._channel.default_exchange.publish(message, routing_key=result.labels[REPLY_TO])

    async def is_result_ready(self, task_id: str) -> bool:
        await self._answer(task_id)
        return True

    async def get_result(
        self, task_id: str, with_logs: bool = False
    ) -> TaskiqResult[tuple[str, float]]:
        body = await self._answer(task_id)
        del self._waiting[task_id]
        return TaskiqResult.model_validate_json(body)

    async def _on_reply(self, message: AbstractIncomingMessage) -> None:
        self._answer(message.correlation_id or "").set_result(message.body)

    def _answer(self, task_id: str) -> asyncio.Future[bytes]:
        if task_id not in self._waiting:
            self._waiting[task_id] = asyncio.get_running_loop().create_future()
        return self._waiting[task_id]


def make_broker(url: str = "") -> AioPikaBroker:
    """What `taskiq worker MODULE:make_broker` looks for."""
    url = url or os.environ["LMAAS_BROKER_URL"]
    queue = Queue(name="taskiq", type=QueueType.CLASSIC)
    broker = AioPikaBroker(url, qos=2 * PREFETCH, task_queues=[queue])
    broker.with_result_backend(Replies(url))
    broker.on_event(TaskiqEvents.WORKER_STARTUP)(_say_so)

    # A function of its own: taskiq renames what it registers.
    @broker.task(task_name="classify")
    def answer(text: str) -> tuple[str, float]:
        return classify(text)

    return broker


def _say_so(_: object) -> None:
    print("ready", file=sys.stderr, flush=True)


async def measure(settings: Settings, texts: Sequence[str], callers: int, seconds: float) -> float:
    command = ("-m", "taskiq", "worker", f"{__name__}:make_broker", "--workers", "1")
    options = ("--max-prefetch", str(PREFETCH), "--log-level", "WARNING")
    async with rig.process(settings, *command, *options):
        client = make_broker(settings.broker_url)
        await client.startup()
        try:
            task, replies = client.find_task("classify"), client.result_backend
            assert task is not None
            assert isinstance(replies, Replies)
            kicker = task.kicker().with_labels(**{REPLY_TO: replies.queue})

            async def call(text: str) -> object:
                return (await (await kicker.kiq(text)).wait_result()).return_value

            return await rate(call, texts, callers, seconds)
        finally:
            await client.shutdown()
