"""Dramatiq over RabbitMQ.

As dramatiq.io has it: the default middleware and eight threads a process ("User Guide"), messages
acknowledged when they are done ("Advanced Topics / Message Persistence"), no publisher confirms.
Results go to Redis or Memcached only ("Message Results"), which would be a second server here; the
`ResultBackend` that the reference lets one write sends them to a reply queue instead, with the
worker thread's own channel: no slower than the way to Redis.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Sequence
from typing import Any

import dramatiq
import pika
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.results import ResultBackend, Results

from benchmarks import rig
from benchmarks.load import PATIENCE
from benchmarks.peers import classify, rate_of_window
from lmaas.broker_config.settings import Settings

THREADS = 8


class Replies(ResultBackend):
    """Sends a result to the queue that the message names as `reply_to`."""

    def __init__(self, broker: RabbitmqBroker) -> None:
        super().__init__()
        self._broker = broker

    def store_result(self, message: Any, result: object, ttl: int) -> None:
        self._broker.channel.basic_publish(
            exchange="",
            routing_key=message.options["reply_to"],
            body=self.encoder.encode({"result": result}),
            properties=pika.BasicProperties(
                correlation_id=message.message_id, delivery_mode=pika.DeliveryMode.Persistent.value
            ),
        )


def setup(broker_url: str = "") -> dramatiq.Actor[Any, Any]:
    """What `dramatiq MODULE:setup` looks for."""
    broker = RabbitmqBroker(url=broker_url or os.environ["LMAAS_BROKER_URL"])
    broker.add_middleware(Results(backend=Replies(broker)))
    dramatiq.set_broker(broker)
    return dramatiq.actor(actor_name="classify", broker=broker, store_results=True)(classify)


async def measure(settings: Settings, texts: Sequence[str], callers: int, seconds: float) -> float:
    command = ("-m", "dramatiq", f"{__name__}:setup", "--processes", "1")
    async with rig.process(
        settings, *command, "--threads", str(THREADS), ready=b"ready for action"
    ):
        return await asyncio.to_thread(_measure, settings, texts, callers, seconds)


def _measure(settings: Settings, texts: Sequence[str], callers: int, seconds: float) -> float:
    actor = setup(settings.broker_url)
    queue = f"dramatiq-{uuid.uuid4().hex}"
    answers: dict[str, bytes] = {}

    def send(text: str) -> str:
        message: dramatiq.Message[Any] = actor.send_with_options(args=(text,), reply_to=queue)
        return message.message_id

    def wait(message_id: str) -> bytes:
        while message_id not in answers:
            method, properties, body = next(replies)
            if method is None:
                raise TimeoutError(f"no answer within {PATIENCE} s")
            answers[properties.correlation_id] = body
        return answers.pop(message_id)

    with pika.BlockingConnection(pika.URLParameters(settings.broker_url)) as connection:
        channel = connection.channel()
        channel.queue_declare(queue, exclusive=True)
        replies = channel.consume(queue, auto_ack=True, inactivity_timeout=PATIENCE)
        try:
            return rate_of_window(send, wait, texts, callers, seconds)
        finally:
            actor.broker.close()
