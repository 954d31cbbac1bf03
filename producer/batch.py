"""Batch jobs: publish under an id, leave, come back, collect.

A job is its chunks in the lanes and a durable results queue under its id. A last message there,
the seal, says how many chunks there are. Deleting the results queue cancels the job: workers
notice at their next reply and drop its other chunks.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import re
import uuid
from collections.abc import AsyncGenerator, Sized
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import msgspec
from aio_pika.abc import (
    AbstractChannel,
    AbstractConnection,
    AbstractIncomingMessage,
    AbstractQueue,
)
from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity

from lmaas.broker_config.connection import Session
from lmaas.broker_config.errors import BrokerError, BrokerUnavailable, JobError
from lmaas.broker_config.hosts import is_gone
from lmaas.broker_config.messages import (
    JOB,
    Headers,
    Item,
    Options,
    Request,
    decode_reply,
)
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import MOST_HELD, declare, job_results
from lmaas.producer.answers import Answers, Chunk
from lmaas.producer.journal import READ_PAUSE, JobEntry, State, read, record
from lmaas.producer.packing import Entries, packs
from lmaas.producer.publishing import PackPublisher
from lmaas.producer.remaining import Remaining
from lmaas.producer.window import windowed

#: States in which nothing of a job is left.
ENDED: Final = ("cancelled", "collected")

_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is."""

    entry: JobEntry
    #: Chunks whose results wait to be collected; None when the results are gone.
    done: int | None
    #: Whether somebody is collecting at this moment; `done` does not count what they hold.
    collecting: bool = False

    @property
    def finished(self) -> bool:
        """Whether every chunk has been answered."""
        chunks = self.entry.chunks
        return chunks is not None and self.done is not None and self.done >= chunks

    @property
    def state(self) -> str:
        """One word for people."""
        if self.entry.state in ENDED:
            return self.entry.state
        if self.done is None:
            return "expired"
        if self.collecting:
            return "collecting"
        if self.finished:
            return "finished"
        return "running" if self.entry.state == "submitted" else "submitting"


class Jobs:
    """The batch jobs of one broker.

    >>> async with Jobs() as jobs:
    ...     entry = await jobs.submit("sentiment", texts)
    ...     async for chunk in jobs.results(entry.job):
    ...         print(chunk.reply.results)
    """

    def __init__(self, settings: Settings | None = None, **arguments: Any) -> None:
        """Settings as a value, or single ones by name: `Jobs(broker_url=...)`."""
        self.settings = settings or Settings.load(**arguments)
        self._names = self.settings.names
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Raises BrokerUnavailable or BrokerRefused."""
        async with contextlib.AsyncExitStack() as stack:
            self._publisher = PackPublisher(self.settings, "jobs publish")
            await stack.enter_async_context(self._publisher)
            self._session = Session(self.settings, "jobs")
            await stack.enter_async_context(self._session)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def submit(
        self,
        model: str,
        texts: Entries,
        *,
        job: str | None = None,
        version: str | None = None,
        top_k: int = 0,
    ) -> JobEntry:
        """Publish texts, or pairs of id and text; returns when the broker has them all.

        While a lane is full it waits for room, however long that takes.

        A submission that is interrupted is cancelled. Raises JobError when the id is taken or
        has other characters than letters, digits and `._-`; ModelNotFound when no worker has
        ever served the model; BrokerError.
        """
        job = job or uuid.uuid4().hex[:12]
        queue = await self._claim(job)
        entry = JobEntry(job=job, state="submitting", model=model, queue=queue, version=version)
        try:
            await record(self._publisher, self._names.jobs, entry)
            chunks, items = await self._publish_chunks(entry, texts, top_k)
            entry = entry.now("submitted", chunks=chunks, items=items)
            await record(self._publisher, queue, entry)
            await record(self._publisher, self._names.jobs, entry)
        except BaseException:
            with contextlib.suppress(BrokerError):
                await self._end(entry, "cancelled")
            raise
        return entry

    async def _claim(self, job: str) -> str:
        """The results queue for a new job.

        It is this submission's alone: what is left in the lanes of an earlier job with the same
        id finds its own queue gone, and never this one.
        """
        if not _ID.fullmatch(job):
            raise JobError(f"job id {job!r} must be 1 to 64 letters, digits or . _ -")
        earlier = (await self._entries()).get(job)
        if earlier and await self._count(earlier) is not None:
            raise JobError(f"there is a job {job!r} already; `lmaas jobs cancel {job}` removes it")
        run = f"{job}.{uuid.uuid4().hex[:8]}"

        async def declared(connection: AbstractConnection) -> None:
            async with connection.channel() as channel:
                wanted = job_results(self._names, run, self.settings.queue_type)
                await declare(channel, wanted)

        await self._session.ask(declared)
        return self._names.job_results(run)

    async def _publish_chunks(self, entry: JobEntry, texts: Entries, top_k: int) -> tuple[int, int]:
        numbers = iter(range(2**31))
        # The seal has a place among them.
        most = MOST_HELD[self.settings.queue_type] - 1
        ranking = Remaining(
            functools.partial(self._publisher.seconds, entry.model),
            len(texts) if isinstance(texts, Sized) else None,
            at_once=True,
        )

        async def publish(items: list[Item]) -> int:
            number = next(numbers)
            if number == most:
                raise JobError(
                    f"a job on quorum queues has at most {most:,} chunks, which are collected at "
                    "once: make larger ones (settings pack_items, pack_bytes), or several jobs"
                )
            await self._publisher.publish_patiently(
                Request(
                    model=entry.model,
                    version=entry.version,
                    items=items,
                    options=Options(top_k=top_k),
                ),
                math.inf,  # a full lane is no reason to give up a job
                reply_to=entry.queue,
                correlation_id=f"{entry.job}.{number}",
                headers=Headers(job=entry.job, chunk=number, remaining=ranking.next(items)),
            )
            return len(items)

        async with (
            contextlib.aclosing(packs(texts, self.settings)) as source,
            contextlib.aclosing(windowed(source, publish, self.settings.window)) as sent,
        ):
            sizes = [size async for size in sent]
        return len(sizes), sum(sizes)

    async def list(self) -> list[Progress]:
        """Every job of the last week, oldest first."""
        return [await self._progress(entry) for entry in (await self._entries()).values()]

    async def progress(self, job: str) -> Progress:
        """Raises JobError when the broker knows no such job."""
        return await self._progress(await self._entry(job))

    async def _entries(self) -> dict[str, JobEntry]:
        queue, kind = self._names.jobs, self.settings.queue_type
        return await self._session.ask(lambda connection: read(connection, queue, kind))

    async def _entry(self, job: str) -> JobEntry:
        entries = await self._entries()
        if job not in entries:
            raise JobError(f"no job {job!r} on {self.settings.broker} (see `lmaas jobs`)")
        return entries[job]

    async def _progress(self, entry: JobEntry) -> Progress:
        counts = await self._count(entry)
        if counts is None:
            return Progress(entry, None)
        messages, consumers = counts
        seal = 1 if entry.state == "submitted" and not consumers else 0
        return Progress(entry, max(0, messages - seal), collecting=consumers > 0)

    async def _count(self, entry: JobEntry) -> tuple[int, int] | None:
        """Messages and consumers of a job's results queue; None when there is no such queue."""

        async def counts(connection: AbstractConnection) -> tuple[int, int]:
            async with connection.channel() as channel:
                result = (await channel.get_queue(entry.queue)).declaration_result
                return result.message_count or 0, result.consumer_count or 0

        try:
            return await self._session.ask(counts)
        except ChannelNotFoundEntity:
            return None

    async def cancel(self, job: str) -> None:
        """Drop what is not done and all results. Raises JobError when there is nothing to drop."""
        entry = await self._entry(job)
        if entry.state in ENDED:
            raise JobError(f"job {job!r} was {entry.state} before")
        await self._end(entry, "cancelled")

    async def remove(self, job: str) -> None:
        """Drop the results, which somebody has. Raises JobError when there is no such job."""
        await self._end(await self._entry(job), "collected")

    async def _end(self, entry: JobEntry, state: State) -> None:
        async def delete(connection: AbstractConnection) -> None:
            async with connection.channel() as channel:
                await channel.queue_delete(entry.queue)

        await self._session.ask(delete)
        await record(self._publisher, self._names.jobs, entry.now(state))

    async def results(self, job: str, *, keep: bool = False) -> AsyncGenerator[Chunk, None]:
        """Each chunk of the job once, as it is completed; ends when the last one has come.

        What was replayed from the parking lot and answered anew comes as a chunk that `amends`, at
        any time after the chunk itself.

        Results stay on the broker until all of them were taken (or with `keep` until `remove`):
        who stops half-way, or crashes, gets everything again the next time. Raises JobError when
        the job is unknown, cancelled, or was collected before.
        """
        entry = await self._entry(job)
        if entry.state in ENDED:
            raise JobError(f"job {job!r} was {entry.state} before")
        collector = _Collector(self.settings, entry)
        async with collector.session, contextlib.aclosing(collector.chunks()) as chunks:
            async for chunk in chunks:
                yield chunk
        if not keep:
            await self._end(entry, "collected")


class _Collector:
    """Consumes a job's results queue and acks nothing: the queue is deleted in the end."""

    def __init__(self, settings: Settings, entry: JobEntry) -> None:
        self._job = entry.job
        self._name = entry.queue
        self._most_held = MOST_HELD[settings.queue_type]
        self._arrivals: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        self._queue: AbstractQueue | None = None
        self._answers = Answers()
        self.session = Session(settings, f"job {entry.job} results", self._prepare)

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
            raise JobError(f"job {self._job!r} is being collected by somebody else") from error

    async def chunks(self) -> AsyncGenerator[Chunk, None]:
        """Each chunk once, until there are as many as the seal says; amendments after their chunk.

        What lies in the queue behind the last chunk is read too.
        """
        lost = asyncio.create_task(self.session.failed())
        try:
            while not self._answers.is_complete:
                for chunk in self._taken(await _first(self._arrivals, lost)):
                    yield chunk
            await self._all_arrived()
            while not self._arrivals.empty():
                for chunk in self._taken(self._arrivals.get_nowait()):
                    yield chunk
        finally:
            lost.cancel()

    def _taken(self, message: AbstractIncomingMessage) -> list[Chunk]:
        """What can be handed on with this message: most often one chunk."""
        if message.type == JOB:
            seal = msgspec.json.decode(message.body, type=JobEntry)
            return self._answers.seal(seal.chunks, seal.items)
        headers = Headers.from_table(message.headers)
        number, replays = headers.chunk, headers.replays
        # A chunk that was run twice, or delivered again after a lost connection.
        if number is None or self._answers.knows(number, replays):
            return []
        reply = decode_reply(message.body, message.content_type)
        if not replays and reply.error is not None and not reply.results:
            raise JobError(f"chunk {number} of job {self._job!r}: {reply.error}")
        return self._answers.add(number, replays, reply)

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
