"""The journal of batch jobs: one queue on the broker, an entry for each thing that happened.

It is read without taking anything out: everything is consumed, and handed back by closing the
channel. The consumer is exclusive, so that two readers never see half of it each.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final, Literal

import aio_pika
import msgspec
from aio_pika import DeliveryMode
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage
from aiormq.exceptions import ChannelAccessRefused

from broker_config.connection import Publisher
from broker_config.errors import BrokerUnavailable
from broker_config.messages import JOB, JSON

State = Literal["submitting", "submitted", "cancelled", "collected"]

#: Seconds to wait while somebody else reads the journal, and between two tries.
READ_TIMEOUT: Final = 10.0
READ_PAUSE: Final = 0.05


class JobEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that happened to a job."""

    job: str
    state: State
    model: str
    #: The results queue.
    queue: str
    version: str | None = None
    #: Chunks and items; known from state "submitted" on.
    chunks: int | None = None
    items: int | None = None
    #: Unix seconds.
    at: float = msgspec.field(default_factory=time.time)

    def now(self, state: State, **changes: int) -> JobEntry:
        """The next entry of the same job."""
        return msgspec.structs.replace(self, state=state, at=time.time(), **changes)


async def record(publisher: Publisher, queue: str, entry: JobEntry) -> None:
    """Put an entry at the end of a queue: the journal's, or a job's results, which it seals."""
    message = aio_pika.Message(
        msgspec.json.encode(entry),
        content_type=JSON,
        delivery_mode=DeliveryMode.PERSISTENT,
        type=JOB,
    )
    await publisher.publish("", queue, message)


async def read(connection: AbstractConnection, queue: str) -> dict[str, JobEntry]:
    """The newest entry of each job, oldest job first. Raises BrokerUnavailable."""
    try:
        async with asyncio.timeout(READ_TIMEOUT):
            while (bodies := await _bodies(connection, queue)) is None:  # noqa: ASYNC110
                await asyncio.sleep(READ_PAUSE)  # the broker says no more than: not now
    except TimeoutError as error:
        raise BrokerUnavailable(
            f"the journal {queue} is being read by others for {READ_TIMEOUT:g} s; try again"
        ) from error
    return {
        entry.job: entry for entry in (msgspec.json.decode(body, type=JobEntry) for body in bodies)
    }


async def _bodies(connection: AbstractConnection, name: str) -> list[bytes] | None:
    """Everything in the queue, which keeps it; None while another reader has it."""
    bodies: list[bytes] = []

    async def on_message(message: AbstractIncomingMessage) -> None:
        bodies.append(message.body)

    try:
        async with connection.channel() as channel:
            queue = await channel.get_queue(name)
            await queue.consume(on_message, exclusive=True)
            # Deliveries come before the answer that nothing is left.
            while (await channel.get_queue(name)).declaration_result.message_count:
                pass
    except ChannelAccessRefused:
        return None
    return bodies
