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
from collections.abc import AsyncGenerator, Callable, Iterable, Sized
from types import TracebackType
from typing import Any, Final, Self

from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import AMQPError

from lmaas.broker_config import policies
from lmaas.broker_config.connection import Session
from lmaas.broker_config.declaring import declare
from lmaas.broker_config.errors import BrokerError, BrokerRefused, JobError
from lmaas.broker_config.headers import Headers
from lmaas.broker_config.messages import Item, ModelCard, Options, Request, plain
from lmaas.broker_config.scheduling import LANES
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import MOST_HELD, job_results, journal
from lmaas.producer.answers import Chunk
from lmaas.producer.asking import asked
from lmaas.producer.collector import Collector
from lmaas.producer.journal import ENDED, ENDED_KEPT, JobEntry, Journal, record
from lmaas.producer.lost import loss
from lmaas.producer.packer import places
from lmaas.producer.packing import Entries, packs
from lmaas.producer.progress import Progress
from lmaas.producer.publishing import PackPublisher
from lmaas.producer.remaining import Remaining
from lmaas.producer.submission import Sent, Terms
from lmaas.producer.window import windowed

log = logging.getLogger(__name__)

#: Seconds without an arrival after which a collector looks where the chunks are, again and again.
LOOK: Final = 5.0
#: What to do where a job is not in the list: the list is on the broker, too.
IF_MISSED: Final = (
    "if there should be one, see with `lmaas broker doctor` whether messages are deleted"
)

_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


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
            self._session = Session(self.settings, "jobs", self._prepare)
            await stack.enter_async_context(self._session)
            self._journal = Journal(self.settings, self._session, self._publisher)
            stack.push_async_callback(self._journal.close)
            self._stack = stack.pop_all()
        return self

    async def _prepare(self, channel: AbstractChannel) -> None:
        await declare(channel, journal(self._names, self.settings.queue_type))

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
        min_score: float | None = None,
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
        model, version, top_k, min_score = asked(model, version, top_k, min_score)
        entry = await self.draft(model, job=job, version=version)
        return await self.publish(entry, items, top_k=top_k, min_score=min_score)

    async def draft(
        self, model: str, *, job: str | None = None, version: str | None = None
    ) -> JobEntry:
        """A job of which the broker knows nothing yet, to be noted before `publish`.

        Who is killed before that ends has it dropped by `drop`. Raises as `submit`.
        """
        model, version, *_ = asked(model, version, 0)
        if self._trial is None:
            self._trial = asyncio.create_task(self._tried(model), name="trial of policies")
        if version is None:
            card = await self._publisher.introduced(model)
            version = card.version if card else None
        if not job:
            job = uuid.uuid4().hex[:12]
        else:
            await self._check_free(job := str(plain(job)))
        # It is this submission's alone: what is left in the lanes of an earlier job with the same
        # id finds its own queue gone, and never this one.
        queue = self._names.job_results(f"{job}.{uuid.uuid4().hex[:8]}")
        return JobEntry(job=job, state="submitting", model=model, queue=queue, version=version)

    async def publish(
        self,
        entry: JobEntry,
        items: Entries,
        *,
        top_k: int = 0,
        min_score: float | None = None,
        weight: float = 1.0,
        deadline_ms: int | None = None,
        patience: float = math.inf,
        ahead: Callable[[int], int] | None = None,
        tenant: str | None = None,
    ) -> JobEntry:
        """Publish what is asked of a draft; returns when the broker has all of it.

        What remains of the job, and the items of others that are `ahead` of one of its size, count
        `weight` times when its packs are ordered. After `deadline_ms`, in Unix milliseconds, what
        has not run gets an error. Raises as `submit`, and Busy when a lane has no room for
        `patience` seconds. `tenant` is for whom a service asks, as in `Client.classify_many`.
        """
        sent = Sent()
        options = Options(top_k=top_k, min_score=min_score)
        terms = Terms(options, weight, deadline_ms, patience, tenant, ahead)
        try:
            await self._declare_results(entry.queue)
            await self._journal.add(entry)
            await self._publish_chunks(entry, items, terms, sent)
            entry = entry.now("submitted", chunks=len(sent.items), items=sum(sent.items))
            await record(self._publisher, entry.queue, entry)
            await self._journal.add(entry)
        except BaseException as error:
            with contextlib.suppress(BrokerError):
                # Of what was refused before the broker had anything, no list says anything.
                nothing = {"chunks": 0, "items": 0} if sent.is_refused(error) else {}
                await self._end(entry.now("cancelled", **nothing))
            raise
        return entry

    async def card(self, model: str) -> ModelCard | None:
        """What the first worker that answers says of a model; None when none serves it now.

        Raises BrokerUnavailable.
        """
        return await self._publisher.introduced(model)

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
            # Users with few rights never can; `lmaas broker doctor` does it as the operator.
            level = logging.DEBUG if isinstance(error, BrokerRefused) else logging.INFO
            log.log(level, "policies were not tried: %s", error, extra={"action": "policy"})
            return []
        told = [f"{one.name}: {one.problem}" for one in found]
        for words in told:
            log.warning("%s", words, extra={"action": "policy"})
        return told

    async def _check_free(self, job: str) -> None:
        """Raises JobError when a new job cannot have this id."""
        if not _ID.fullmatch(job):
            raise JobError(f"job id {job!r} must be 1 to 64 letters, digits or . _ -")
        earlier = (await self._journal.newest()).get(job)
        if earlier and await self._count(earlier) is not None:
            raise JobError(f"there is a job {job!r} already; `lmaas jobs cancel {job}` removes it")

    async def _declare_results(self, queue: str) -> None:
        run = queue.removeprefix(self._names.job_results(""))

        async def declared(connection: AbstractConnection) -> None:
            async with connection.channel() as channel:
                kept_ms = max(1, round(self.settings.keep_results * 1000))
                wanted = job_results(self._names, run, self.settings.queue_type, kept_ms)
                await declare(channel, wanted)

        await self._session.ask(declared)

    async def _publish_chunks(
        self, entry: JobEntry, texts: Entries, terms: Terms, sent: Sent
    ) -> None:
        # The seal has a place among them.
        most = MOST_HELD[self.settings.queue_type] - 1
        estimate = functools.partial(self._publisher.seconds, entry.model)
        ranking = Remaining(
            estimate,
            len(texts) if isinstance(texts, Sized) else None,
            at_once=True,
            ahead=terms.ahead,
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
                    options=terms.options,
                ),
                terms.patience,
                reply_to=entry.queue,
                correlation_id=f"{entry.job}.{number}",
                headers=Headers(
                    job=entry.job,
                    chunk=number,
                    remaining=ranking.next(items) * terms.weight,
                    deadline_ms=terms.deadline_ms,
                    tenant=terms.tenant,
                ),
            )
            sent.items.append(len(items))

        async with (
            contextlib.aclosing(packs(texts, self.settings, estimate)) as source,
            contextlib.aclosing(windowed(source, publish, self.settings.window, places)) as done,
        ):
            async for _ in done:
                pass

    async def list(self) -> list[Progress]:
        """Every job of the last week, oldest first; of those that have ended, the last 100."""
        return [await self._progress(entry) for entry in (await self._journal.newest()).values()]

    async def progress(self, job: str) -> Progress:
        """Raises JobError when the broker knows no such job."""
        return await self._progress(await self._entry(job))

    async def _entry(self, job: str | JobEntry) -> JobEntry:
        if isinstance(job, JobEntry):
            return job
        entries = await self._journal.newest()
        if job not in entries:
            raise JobError(
                f"no job {job!r} of the last week on {self.settings.broker} (see `lmaas jobs`; of "
                f"those that were collected or cancelled it knows the last {ENDED_KEPT}); "
                + IF_MISSED
            )
        return entries[job]

    async def _progress(self, entry: JobEntry) -> Progress:
        if entry.state in ENDED:
            return Progress(entry, None)
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

    async def cancel(self, job: str | JobEntry) -> None:
        """Drop what is not done and all results. Raises JobError when there is nothing to drop.

        Who has kept the entry of the job gives that, and spares reading the broker's list.
        """
        entry = await self._entry(job)
        if entry.state in ENDED:
            raise JobError(f"job {entry.job!r} was {entry.state} before")
        await self._end(entry.now("cancelled"))

    async def drop(self, draft: JobEntry) -> None:
        """Cancel a draft, if anything of it is on the broker."""
        if await self._count(draft) is not None:
            await self._end(draft.now("cancelled"))

    async def remove(self, job: str | JobEntry) -> None:
        """Drop the results, which somebody has. Raises JobError when there is no such job."""
        await self._end((await self._entry(job)).now("collected"))

    async def forget(self, entries: Iterable[JobEntry]) -> None:
        """Drop jobs of which nothing is left from the list. Raises BrokerUnavailable."""
        await self._journal.forget({entry.queue for entry in entries})

    async def _end(self, entry: JobEntry) -> None:
        """As the entry says: nothing of the job is left."""

        async def delete(connection: AbstractConnection) -> None:
            async with connection.channel() as channel:
                await channel.queue_delete(entry.queue)

        await self._session.ask(delete)
        await self._journal.add(entry)

    async def results(
        self, job: str | JobEntry, *, keep: bool = False
    ) -> AsyncGenerator[Chunk, None]:
        """Each chunk of the job once, as it is completed; ends when the last one has come.

        What was replayed from the dead letters and answered anew comes as a chunk that `amends`, at
        any time after the chunk itself.

        Results stay on the broker until all of them were taken (or with `keep` until `remove`):
        who stops half-way, or crashes, gets everything again the next time. Raises JobError when
        the job is unknown, cancelled, or was collected before; JobHeld while somebody else collects
        it.
        """
        entry = await self._entry(job)
        if entry.state in ENDED:
            raise JobError(f"job {entry.job!r} was {entry.state} before")
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
