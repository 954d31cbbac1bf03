"""The results queue of a batch job, read by one who takes nothing out of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue
from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity

from lmaas.broker_config.connection import Session
from lmaas.broker_config.errors import BrokerUnavailable, JobError, JobHeld, SealError
from lmaas.broker_config.headers import Headers
from lmaas.broker_config.hosts import is_gone
from lmaas.broker_config.messages import JOB, Reply
from lmaas.broker_config.replies import decoded_reply
from lmaas.broker_config.sealing import Label
from lmaas.broker_config.seals import Seals
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import MOST_HELD
from lmaas.producer.answers import Answers, Chunk, for_each
from lmaas.producer.journal import READ_PAUSE, JobEntry, entry


class Collector:
    """Consumes a job's results queue and acks nothing: the queue is deleted in the end."""

    def __init__(self, settings: Settings, job: JobEntry) -> None:
        self._seals = Seals(settings)
        self._job = job.job
        self._model = job.model
        self._name = job.queue
        self._names = settings.names
        self._most_items = settings.max_pack_items
        self._most_held = MOST_HELD[settings.queue_type]
        self._arrivals: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        self._queue: AbstractQueue | None = None
        self._answers = Answers()
        if job.state == "submitted":  # else the seal will say it
            self._answers.seal(job.chunks, job.items)
        #: On the event loop's clock.
        self.last_arrival = asyncio.get_running_loop().time()
        self.session = Session(settings, f"job {job.job} results", self._prepare)

    async def _prepare(self, channel: AbstractChannel) -> None:
        again = self._queue is not None
        try:
            self._queue = await channel.get_queue(self._name)
            await channel.set_qos(prefetch_count=self._most_held)
            # Exclusive: two collectors would get half of the results each.
            await self._queue.consume(self._arrivals.put, exclusive=True)
        except ChannelNotFoundEntity as error:
            raise JobError(f"the results of job {self._job!r} expired or were deleted") from error
        except ChannelAccessRefused as error:
            if again:  # the broker has not noticed yet that our last connection is gone
                raise BrokerUnavailable(f"job {self._job!r} is still held") from error
            raise JobHeld(f"job {self._job!r} is being collected by somebody else") from error

    @property
    def answered(self) -> int:
        """Chunks that have come."""
        return self._answers.count

    async def chunks(self) -> AsyncGenerator[Chunk, None]:
        """Each chunk once, until there are as many as the seal says; amendments after their chunk.

        What lies in the queue behind the last chunk is read too.
        """
        lost = asyncio.create_task(self.session.failed())
        try:
            while not self._answers.is_complete:
                for chunk in await self._taken(await _first(self._arrivals, lost)):
                    yield chunk
            await self._all_arrived()
            while not self._arrivals.empty():
                for chunk in await self._taken(self._arrivals.get_nowait()):
                    yield chunk
        finally:
            lost.cancel()

    async def _taken(self, message: AbstractIncomingMessage) -> list[Chunk]:
        """What can be handed on with this message: most often one chunk."""
        self.last_arrival = asyncio.get_running_loop().time()
        if message.type == JOB:
            end = entry(message, self._names, self._name, self._seals)
            if end is None or end.queue != self._name:  # anybody else's
                return []
            return self._answers.seal(end.chunks, end.items)
        headers = Headers.from_table(message.headers)
        number, replays = headers.chunk, headers.replays
        # A chunk that was run twice, or delivered again after a lost connection.
        if number is None or self._answers.knows(number, replays):
            return []
        reply = await self._decoded(message, number)
        if not replays:
            reply = for_each(reply, min(headers.items, self._most_items))
        return self._answers.add(number, replays, reply)

    async def _decoded(self, message: AbstractIncomingMessage, number: int) -> Reply:
        """The reply to a chunk. Raises JobError when it cannot be opened; it stays in the queue."""
        # The id that the chunk was sent with, and not one that the message says.
        label = Label(
            "reply", self._model, self._name, f"{self._job}.{number}", message.content_type or ""
        )
        seal = self._seals.found(message.content_encoding, message.headers, lambda: label)
        try:
            return await decoded_reply(
                message.body, message.content_type, self._seals.opening(seal)
            )
        except SealError as error:
            raise JobError(
                f"the answer to chunk {number} of job {self._job!r} is refused: {error}; all "
                "results are still there"
            ) from error

    async def _all_arrived(self) -> None:
        """Returns when everything that is in the queue has been delivered."""
        while True:
            channel = await self.session.channel()
            try:
                while await _ready(channel, self._name):
                    pass
                # Whatever the first answer has overtaken in the broker comes before the second.
                await _ready(channel, self._name)
            except BaseException as error:
                if not is_gone(error):
                    raise
                await asyncio.sleep(READ_PAUSE)  # until the session has noticed
            else:
                return


async def _ready(channel: AbstractChannel, queue: str) -> int:
    return (await channel.get_queue(queue)).declaration_result.message_count or 0


async def _first(
    arrivals: asyncio.Queue[AbstractIncomingMessage], lost: asyncio.Task[None]
) -> AbstractIncomingMessage:
    """The next arrival; raises why the session was lost, if that comes first."""
    if not arrivals.empty():
        return arrivals.get_nowait()
    arrival = asyncio.create_task(arrivals.get())
    try:
        await asyncio.wait([arrival, lost], return_when=asyncio.FIRST_COMPLETED)
        if not arrival.done():
            lost.result()
        return await arrival
    finally:
        arrival.cancel()
