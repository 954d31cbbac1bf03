"""The peer of `benchmarks.requests`: aio-pika alone, one text a message, the same model.

Written as aio-pika's own RPC tutorial does it, with a prefetch of 100, persistent messages,
inference off the event loop and uvloop.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

import aio_pika
import uvloop

from workers.repository import Repository
from workers.runtime import Runtime


async def main(queue_name: str) -> None:
    runtime = Runtime(Repository(os.environ["LMAAS_MODELS"]).find("sentiment"))
    connection = await aio_pika.connect_robust(os.environ["LMAAS_BROKER_URL"])
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=100)
    queue = await channel.declare_queue(queue_name, durable=True)

    async def on_message(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        ((label, score, _),) = await asyncio.to_thread(runtime.labelled, [message.body.decode()])
        await channel.default_exchange.publish(
            aio_pika.Message(
                json.dumps({"label": label, "score": score}).encode(),
                correlation_id=message.correlation_id,
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            ),
            routing_key=message.reply_to or "",
        )
        await message.ack()

    await queue.consume(on_message)
    print("ready", file=sys.stderr, flush=True)
    await asyncio.Future()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
