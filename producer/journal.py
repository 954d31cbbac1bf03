"""The journal of batch jobs: one queue on the broker, an entry for each thing that happened.

It is read without taking anything out: everything is consumed, and handed back by closing the
channel. The consumer is exclusive, so that two readers never see half of it each. A reader knows
that it has all when a mark comes that it has put at the end: the depth of a quorum queue can be
told before the messages that were in it have come, over another node.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Sequence
from typing import Annotated, Final, Literal

import aio_pika
import msgspec
from aio_pika import DeliveryMode
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage
from aiormq.exceptions import ChannelAccessRefused, ChannelInvalidStateError

from lmaas.broker_config.errors import BrokerUnavailable
from lmaas.broker_config.messages import JOB, JSON
from lmaas.broker_config.publisher import Publisher
from lmaas.broker_config.topology import MOST_HELD, Names, QueueType

log = logging.getLogger(__name__)

State = Literal["submitting", "submitted", "cancelled", "collected"]

#: Seconds to wait while somebody else reads the journal, and between two tries.
READ_TIMEOUT: Final = 10.0
READ_PAUSE: Final = 0.05
#: The end of the year 9999, in Unix seconds: there are no dates after it.
LAST_MOMENT: Final = 253_402_300_799
#: `type` property of a reader's mark. That of a reader that crashed is dropped after READ_TIMEOUT.
MARK: Final = "lmaas.mark.v1"

_Moment = Annotated[float, msgspec.Meta(ge=0, le=LAST_MOMENT)]


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
    at: _Moment = msgspec.field(default_factory=time.time)

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


async def read(
    connection: AbstractConnection, names: Names, queue_type: QueueType = "classic"
) -> dict[str, JobEntry]:
    """The newest entry of each job, oldest job first; what is no entry is passed over.

    So is a submission that was refused before anything was sent. Raises BrokerUnavailable.
    """
    queue, held = names.jobs, MOST_HELD[queue_type]
    try:
        async with asyncio.timeout(READ_TIMEOUT):
            while (bodies := await _bodies(connection, queue, held)) is None:  # noqa: ASYNC110
                await asyncio.sleep(READ_PAUSE)  # the broker says no more than: not now
    except TimeoutError as error:
        raise BrokerUnavailable(
            f"the journal {queue} is being read by others for {READ_TIMEOUT:g} s; try again"
        ) from error
    entries = [found for body in bodies if (found := entry(body, names, queue)) is not None]
    return newest(entries)


def newest(entries: Sequence[JobEntry]) -> dict[str, JobEntry]:
    """By job, without the submissions that were refused."""
    sent = {one.queue for one in entries if one.state == "submitted"}
    refused = {one.queue for one in entries if one.state == "cancelled" and one.chunks == 0}
    return {one.job: one for one in entries if one.queue not in refused - sent}


def entry(body: bytes, names: Names, source: str) -> JobEntry | None:
    """The entry of a body from the queue `source`; None of what anybody else has written there.

    Its queue is deleted when its job is cancelled, so that it has to be a results queue of that
    job.
    """
    try:
        found = msgspec.json.decode(body, type=JobEntry)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = None
    if found is None or not names.are_results_of(found.queue, found.job):
        log.warning("an entry of %s is none: %.200r", source, body, extra={"action": "journal"})
        return None
    return found


async def _bodies(connection: AbstractConnection, name: str, held: int) -> list[bytes] | None:
    """Everything in the queue, which keeps it; None while another reader has it."""
    bodies: list[bytes] = []
    mark = aio_pika.Message(b"", message_id=uuid.uuid4().hex, type=MARK, expiration=READ_TIMEOUT)
    complete: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def on_message(message: AbstractIncomingMessage) -> None:
        if message.type == JOB:
            bodies.append(message.body)
        elif message.message_id == mark.message_id and not complete.done():
            await message.ack()
            complete.set_result(True)

    def on_close(*_: object) -> None:
        if not complete.done():
            complete.set_result(False)

    try:
        async with connection.channel() as channel:
            channel.close_callbacks.add(on_close)
            await channel.set_qos(prefetch_count=held)
            await (await channel.get_queue(name)).consume(on_message, exclusive=True)
            await channel.default_exchange.publish(mark, name)
            if not await complete:
                raise ChannelInvalidStateError("the channel was closed over the journal")
    except ChannelAccessRefused:
        return None
    return bodies
