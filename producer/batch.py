"""Batch jobs: publish under an id, leave, come back, collect.

A job is its chunks in the lanes and a durable results queue under its id. A last message there,
the seal, says how many chunks there are. Deleting the results queue cancels the job: workers
notice at their next reply and drop its other chunks.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
import math
import re
import time
import uuid
from collections.abc import AsyncGenerator, Sized
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

from aio_pika.abc import (
    AbstractConnection,
)
from aiormq.exceptions import AMQPError

from lmaas.broker_config import policies
from lmaas.broker_config.connection import Session
from lmaas.broker_config.declaring import declare
from lmaas.broker_config.errors import BrokerError, JobError, MessageError, ModelNotFound
from lmaas.broker_config.messages import (
    Headers,
    Item,
    Options,
    Request,
    asked,
    plain,
)
from lmaas.broker_config.scheduling import LANES
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import MOST_HELD, job_results
from lmaas.producer.answers import Chunk
from lmaas.producer.collector import Collector
from lmaas.producer.journal import JobEntry, read, record
from lmaas.producer.lost import loss
from lmaas.producer.packing import Entries, packs
from lmaas.producer.publishing import PackPublisher
from lmaas.producer.remaining import Remaining
from lmaas.producer.window import windowed

log = logging.getLogger(__name__)

#: Seconds without an arrival after which a collector looks where the chunks are, again and again.
LOOK: Final = 5.0
#: States in which nothing of a job is left.
ENDED: Final = ("cancelled", "collected")
#: What to do where a job is not in the list: the list is on the broker, too.
IF_MISSED: Final = (
    "if there should be one, see with `lmaas broker doctor` whether messages are deleted"
)

_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is."""

    entry: JobEntry
    #: Chunks whose results wait to be collected; None when the results are gone.
    done: int | None
    #: Whether somebody is collecting at this moment; `done` does not count what they hold.
    collecting: bool = False
    #: Why it may never be finished, as far as is known.
    note: str | None = None

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


@dataclass(slots=True)
class _Sent:
    """What a submission has sent."""

    #: Chunks that may be on the broker.
    begun: int = 0
    #: Items of each chunk that the broker has.
    items: list[int] = field(default_factory=list)

    def is_refused(self, error: BaseException) -> bool:
        """Whether a submission that ends with the error has left nothing in the lanes."""
        return not self.begun or (
            not self.items and isinstance(error, (ModelNotFound, MessageError))
        )


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
        self._trial: asyncio.Task[list[str]] | None = None

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
        if self._trial:
            self._trial.cancel()
            await asyncio.gather(self._trial, return_exceptions=True)
        await self._stack.aclose()

    async def submit(
        self,
        model: str,
        items: Entries,
        *,
        job: str | None = None,
        version: str | None = None,
        top_k: int = 0,
    ) -> JobEntry:
        """Publish texts, pairs of id and text, or Items; returns when the broker has them all.

        All of them are answered by one version: the given one, or the one that is current for a
        worker that serves the model. Without any worker each chunk has what is current later.

        While a lane is full it waits for room, however long that takes.

        A submission that is interrupted is cancelled. Raises JobError when the id is taken or
        has other characters than letters, digits and `._-`; ModelNotFound when no worker has
        ever served the model; BrokerError.

        At the first one it is tried out meanwhile whether the broker keeps what it gets: see
        `policies`.
        """
        model, version, top_k = asked(model, version, top_k)
        if self._trial is None:
            self._trial = asyncio.create_task(self._tried(model), name="trial of policies")
        if version is None:
            card = await self._publisher.introduced(model)
            version = card.version if card else None
        job = str(plain(job)) if job else uuid.uuid4().hex[:12]
        queue = await self._claim(job)
        entry = JobEntry(job=job, state="submitting", model=model, queue=queue, version=version)
        sent = _Sent()
        try:
            await record(self._publisher, self._names.jobs, entry)
            await self._publish_chunks(entry, items, top_k, sent)
            entry = entry.now("submitted", chunks=len(sent.items), items=sum(sent.items))
            await record(self._publisher, queue, entry)
            await record(self._publisher, self._names.jobs, entry)
        except BaseException as error:
            with contextlib.suppress(BrokerError):
                # Of what was refused before the broker had anything, no list says anything.
                nothing = {"chunks": 0, "items": 0} if sent.is_refused(error) else {}
                await self._end(entry.now("cancelled", **nothing))
            raise
        return entry

    async def policies(self) -> list[str]:
        """What policies of the broker delete of what is submitted here; waits for the trial.

        It takes two seconds from the first `submit` on. A warning in the log says the same.
        """
        return await self._trial if self._trial else []

    async def _tried(self, model: str) -> list[str]:
        names, kind = self._names, self.settings.queue_type
        queues = (names.work_queue(model, next(iter(LANES))), names.job_results("x"), names.jobs)
        try:
            found = await self._session.ask(lambda one: policies.removals(one, queues, kind))
        except (BrokerError, AMQPError) as error:  # a trial is no reason to fail
            log.info("policies were not tried: %s", error, extra={"action": "policy"})
            return []
        told = [f"{one.name}: {one.problem}" for one in found]
        for words in told:
            log.warning("%s", words, extra={"action": "policy"})
        return told

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

    async def _publish_chunks(
        self, entry: JobEntry, texts: Entries, top_k: int, sent: _Sent
    ) -> None:
        # The seal has a place among them.
        most = MOST_HELD[self.settings.queue_type] - 1
        estimate = functools.partial(self._publisher.seconds, entry.model)
        ranking = Remaining(
            estimate, len(texts) if isinstance(texts, Sized) else None, at_once=True
        )

        async def publish(items: list[Item]) -> None:
            number = sent.begun
            sent.begun += 1
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
            sent.items.append(len(items))

        async with (
            contextlib.aclosing(packs(texts, self.settings, estimate)) as source,
            contextlib.aclosing(windowed(source, publish, self.settings.window)) as done,
        ):
            async for _ in done:
                pass

    async def list(self) -> list[Progress]:
        """Every job of the last week, oldest first."""
        return [await self._progress(entry) for entry in (await self._entries()).values()]

    async def progress(self, job: str) -> Progress:
        """Raises JobError when the broker knows no such job."""
        return await self._progress(await self._entry(job))

    async def _entries(self) -> dict[str, JobEntry]:
        names, kind = self._names, self.settings.queue_type
        return await self._session.ask(lambda connection: read(connection, names, kind))

    async def _entry(self, job: str) -> JobEntry:
        entries = await self._entries()
        if job not in entries:
            raise JobError(
                f"no job {job!r} of the last week on {self.settings.broker} (see `lmaas jobs`); "
                + IF_MISSED
            )
        return entries[job]

    async def _progress(self, entry: JobEntry) -> Progress:
        counts = await self._count(entry)
        if counts is None:
            return Progress(entry, None)
        messages, consumers = counts
        seal = 1 if entry.state == "submitted" and not consumers else 0
        found = Progress(entry, max(0, messages - seal), collecting=consumers > 0)
        if found.state != "running":
            return found
        note = await self._loss(entry, found.done or 0, quiet=time.time() - entry.at)
        return dataclasses.replace(found, note=note)

    async def _loss(self, entry: JobEntry, answered: int, quiet: float) -> str | None:
        """What to say of chunks that are nowhere."""
        patience = self.settings.pack_timeout
        for _ in range(2):  # of a quorum queue one look at nothing proves nothing
            waiting = await self._publisher.waiting(entry.model)
            found = loss(entry, answered, waiting, quiet, patience)
            if found is None:
                break
        return found

    async def _count(self, entry: JobEntry) -> tuple[int, int] | None:
        """Messages and consumers of a job's results queue; None when there is no such queue."""
        return await self._session.counts(entry.queue)

    async def cancel(self, job: str) -> None:
        """Drop what is not done and all results. Raises JobError when there is nothing to drop."""
        entry = await self._entry(job)
        if entry.state in ENDED:
            raise JobError(f"job {job!r} was {entry.state} before")
        await self._end(entry.now("cancelled"))

    async def remove(self, job: str) -> None:
        """Drop the results, which somebody has. Raises JobError when there is no such job."""
        await self._end((await self._entry(job)).now("collected"))

    async def _end(self, entry: JobEntry) -> None:
        """As the entry says: nothing of the job is left."""

        async def delete(connection: AbstractConnection) -> None:
            async with connection.channel() as channel:
                await channel.queue_delete(entry.queue)

        await self._session.ask(delete)
        await record(self._publisher, self._names.jobs, entry)

    async def results(self, job: str, *, keep: bool = False) -> AsyncGenerator[Chunk, None]:
        """Each chunk of the job once, as it is completed; ends when the last one has come.

        What was replayed from the dead letters and answered anew comes as a chunk that `amends`, at
        any time after the chunk itself.

        Results stay on the broker until all of them were taken (or with `keep` until `remove`):
        who stops half-way, or crashes, gets everything again the next time. Raises JobError when
        the job is unknown, cancelled, or was collected before.
        """
        entry = await self._entry(job)
        if entry.state in ENDED:
            raise JobError(f"job {job!r} was {entry.state} before")
        collector = Collector(self.settings, entry)
        watching = asyncio.create_task(self._watch(entry, collector), name="watch losses")
        try:
            async with collector.session, contextlib.aclosing(collector.chunks()) as chunks:
                async for chunk in chunks:
                    yield chunk
        finally:
            watching.cancel()
        if not keep:
            await self._end(entry.now("collected"))

    async def _watch(self, entry: JobEntry, collector: Collector) -> None:
        """Says in the log when what is waited for is nowhere."""
        told, loop = False, asyncio.get_running_loop()
        while not told:
            await asyncio.sleep(LOOK)
            quiet = loop.time() - collector.last_arrival
            if quiet < LOOK:
                continue
            with contextlib.suppress(BrokerError):  # its own session says what is wrong
                note = await self._loss(entry, collector.answered, quiet)
                told = note is not None
                if told:
                    log.warning("%s", note, extra={"action": "chunks_lost", "job": entry.job})
