"""What is left to be done of jobs: collecting results, cancelling, clearing the broker.

Several gateways may share a database. Each job that something is left to be done of is held by one
of them, for LEASE seconds at a time; when that gateway dies, another one, or itself anew, takes it.
Every step may be done twice, and is then seen once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from aiohttp import web
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from lmaas.broker_config.errors import BrokerError, JobError, JobHeld, SealError
from lmaas.producer.batch import Jobs
from lmaas.producer.gateway.jobs.result_file import Held, ResultFile, remove
from lmaas.producer.gateway.state import State
from lmaas.producer.gateway.state import idempotency as keys
from lmaas.producer.gateway.state import jobs as table
from lmaas.producer.gateway.state.jobs import Counts, Job, JobState
from lmaas.producer.gateway.state.leases import BEAT, LEASE, RENEWAL, RETRY
from lmaas.producer.journal import JobEntry
from lmaas.producer.threads import opened, settled

log = logging.getLogger(__name__)

#: Called with the transaction in which a job gets its end: what they write is there with it, or
#: not at all. What else they do may be done twice.
Finished = Callable[[AsyncConnection, Job], Awaitable[None]]

#: Jobs that one gateway does something for at a time; each has a connection to the broker. No
#: result is acked before all are in the file, so no prefetch bounds what a job gets at once: over a
#: connection that they share, a job of many results would hold up those of others.
MOST: Final = 64
#: With so many of one API key it takes no more of that key, and takes GULP at a time: keys whose
#: jobs last long leave room for those of others.
MOST_OF_ONE: Final = MOST // 2
GULP: Final = 8
#: Seconds between two looks for what has expired.
SWEEP: Final = 60.0
#: Seconds after its last change when a file that is sent up has nobody any more who sends it.
STALE: Final = 24 * 3600.0


class Collecting:
    """One gateway's part of it. Runs while it is open."""

    def __init__(
        self, state: State, broker: Jobs, finished: Sequence[Finished], keep_results: float
    ) -> None:
        self._state = state
        self._broker = broker
        self._finished = finished
        self._keep_results = keep_results
        #: By this the others know what is held here.
        self.holder = uuid.uuid4().hex
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._owners: dict[str, str] = {}
        self._files: dict[str, ResultFile] = {}
        self._told: dict[str, Counts] = {}
        #: Jobs that are being submitted, with the tasks that publish those that have come so far.
        self._submissions: dict[str, asyncio.Task[JobEntry] | None] = {}
        self._woken = asyncio.Event()
        #: On the clock of the event loop: when everything that is held was last renewed.
        self._renewed = 0.0
        self._beating: list[asyncio.Task[None]] = []

    @property
    def folder(self) -> Path:
        """Where the results are."""
        return self._state.results

    async def __aenter__(self) -> Self:
        self._beating = [asyncio.create_task(self._beat()), asyncio.create_task(self._sweep())]
        return self

    async def __aexit__(self, *_: object) -> None:
        """What has begun is left, and free for others at once."""
        for task in self._beating:
            task.cancel()
        await asyncio.gather(*self._beating, return_exceptions=True)
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def wake(self) -> None:
        """Something in the table has changed."""
        self._woken.set()

    @contextlib.contextmanager
    def submitting(self, job: str) -> Iterator[None]:
        """Meanwhile the job is held."""
        self._submissions[job] = None
        try:
            yield
        finally:
            del self._submissions[job]

    def publishing(self, job: str, task: asyncio.Task[JobEntry]) -> None:
        """The task, which publishes a job, is cancelled when somebody cancels the job."""
        self._submissions[job] = task

    def until(self) -> float:
        """What is held from now on is held until then, in Unix seconds."""
        return time.time() + LEASE

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._woken.clear()
            try:
                await self._look()
            except (SQLAlchemyError, OSError) as error:
                log.warning("the table of jobs: %s", error, extra={"action": "state_failed"})
                if loop.time() - self._renewed > LEASE:
                    for task in self._tasks.values():
                        task.cancel()
            except Exception:
                log.exception("the table of jobs", extra={"action": "bug"})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BEAT):
                    await self._woken.wait()

    async def _look(self) -> None:
        """One transaction, if there is anything to write: renew, tell counts, take jobs."""
        now, loop_now = time.time(), asyncio.get_running_loop().time()
        room = MOST - len(self._tasks)
        async with self._state.reading() as connection:
            held = await table.held(connection, self.holder)
            free = room > 0 and await table.are_free(connection, now, self._full())
        self._stop(held)
        due = bool(held) and loop_now - self._renewed > RENEWAL
        counts = {job: file.counts for job, file in self._files.items()}
        news = {job: count for job, count in counts.items() if self._told.get(job) != count}
        taken: list[Job] = []
        if due or news or free:
            async with self._state.writing() as connection:
                doing = [*self._tasks, *self._submissions]
                await table.hold(connection, doing, self.holder, until=self.until())
                for job, count in news.items():
                    await table.note(connection, job, self.holder, count, now)
                if free:
                    taken = await self._take(connection, now, room)
            self._renewed = loop_now
            self._told = counts
        for one in taken:
            self._begin(one)

    def _stop(self, held: Mapping[str, str]) -> None:
        """What another gateway has, or somebody has cancelled; `held` has the states of ours."""
        for job, task in self._tasks.items():
            # What is to be cancelled begins anew.
            gone = job not in held or (held[job] == "cancelling" and job in self._files)
            if gone and not task.cancelling():
                task.cancel()
        for job, submission in self._submissions.items():
            is_cancelled = held.get(job) == "cancelling"
            if is_cancelled and submission is not None and not submission.cancelling():
                submission.cancel()

    def _full(self, taken: Sequence[Job] = ()) -> list[str]:
        """The owners of whose jobs no more are done at the moment."""
        owners = Counter(self._owners.values())
        owners.update(job.owner for job in taken)
        return [owner for owner, jobs in owners.items() if owner and jobs >= MOST_OF_ONE]

    async def _take(self, connection: AsyncConnection, now: float, room: int) -> list[Job]:
        taken: list[Job] = []
        while len(taken) < room:
            more = await table.take(
                connection,
                self.holder,
                now=now,
                until=self.until(),
                most=min(GULP, room - len(taken)),
                without=self._full(taken),
            )
            taken += more
            if not more:
                break
        return taken

    def _begin(self, job: Job) -> None:
        def forget(task: asyncio.Task[None]) -> None:
            if self._tasks.get(job.id) is task:
                del self._tasks[job.id]
                del self._owners[job.id]
            self.wake()

        task = asyncio.create_task(self._do(job), name=f"job {job.id}")
        self._tasks[job.id] = task
        self._owners[job.id] = job.owner
        task.add_done_callback(forget)

    async def _do(self, job: Job) -> None:
        """What is left to be done of a job; if that cannot be done now, later."""
        try:
            if job.sealed is not None and job.state in {"running", "cancelling"}:
                raise job.sealed  # nobody could be told of its end
            match job.state:
                case "submitting":
                    await self._broker.drop(job.entry)
                    async with self._state.writing() as connection:
                        await table.forget(connection, job.id, self.holder)
                case "running":
                    await self._collect(job)
                case "cancelling":
                    await self._cancel(job)
                case _:
                    await self._clear(job)
        except (BrokerError, JobHeld, Held, SealError, OSError, SQLAlchemyError) as error:
            log.warning("job %s: %s", job.id, error, extra={"action": "put_off", "job": job.id})
            await self._release(job.id, time.time() + RETRY)
        except asyncio.CancelledError:
            await self._release(job.id, None)
            raise
        except Exception:
            log.exception("job %s", job.id, extra={"action": "put_off", "job": job.id})
            await self._release(job.id, time.time() + RETRY)

    async def let_go(self, job: str) -> None:
        """Whoever looks next does what is left of it."""
        await self._release(job, None)
        self.wake()

    async def _release(self, job: str, until: float | None) -> None:
        # If that fails, because the database is away or this is cancelled, its lease ends soon.
        with contextlib.suppress(SQLAlchemyError):
            async with self._state.writing() as connection:
                await table.release(connection, job, self.holder, until=until)

    async def _collect(self, job: Job) -> None:
        at_rest = self._state.at_rest
        file = await opened(lambda: ResultFile(self.folder, job.id, at_rest), ResultFile.close)
        with file:
            self._files[job.id] = file
            try:
                why = await self._collected(job, file)
                await asyncio.to_thread(file.finish)
                counts = file.counts
            finally:
                del self._files[job.id]
        if await self._end(job, "failed" if why else "finished", counts, why):
            await self._clear(job)
        else:  # it is to be cancelled
            await self._release(job.id, None)

    async def _collected(self, job: Job, file: ResultFile) -> str | None:
        """Returns when everything is in the file; or why that will never be."""
        why = await self._read(job, file)
        if why is not None:  # a broker that is just starting does not know its queues yet
            await asyncio.sleep(RETRY)
            why = await self._read(job, file)
        return why

    async def _read(self, job: Job, file: ResultFile) -> str | None:
        try:
            async with contextlib.aclosing(self._broker.results(job.entry, keep=True)) as chunks:
                async for chunk in chunks:
                    await settled(file.append, chunk)
        except JobHeld:
            raise
        except JobError as error:
            return str(error)
        return None

    async def _cancel(self, job: Job) -> None:
        await self._broker.cancel(job.entry)

        def counted() -> Counts:
            with ResultFile(self.folder, job.id, self._state.at_rest) as file:
                file.finish()
                return file.counts

        await self._end(job, "cancelled", await asyncio.to_thread(counted), None)
        await self._settle(job)

    async def _end(self, job: Job, state: JobState, counts: Counts, why: str | None) -> bool:
        """Whether it has this end now, and not another one."""
        now = time.time()
        async with self._state.writing() as connection:
            ended = await table.end(
                connection,
                job.id,
                self.holder,
                state,
                counts,
                now=now,
                expires=now + self._keep_results,
                reason=why,
            )
            if ended is not None and ended.sealed is not None:  # its key has gone meanwhile
                raise ended.sealed
            if ended is not None:
                for finished in self._finished:
                    await finished(connection, ended)
        return ended is not None

    async def _clear(self, job: Job) -> None:
        """Let the broker forget what is in the file and the table."""
        await self._broker.remove(job.entry)
        await self._settle(job)

    async def _settle(self, job: Job) -> None:
        async with self._state.writing() as connection:
            await table.settle(connection, job.id, self.holder)

    async def _sweep(self) -> None:
        while True:
            try:
                await self.expire(time.time())
            except (SQLAlchemyError, OSError) as error:
                log.warning("what has expired: %s", error, extra={"action": "state_failed"})
            await asyncio.sleep(SWEEP)

    async def expire(self, now: float) -> None:
        """Delete the jobs and results whose time is over. Raises SQLAlchemyError, OSError."""
        async with self._state.writing() as connection:
            gone = await table.expire(connection, now)
            await keys.expire(connection, now)
        await asyncio.to_thread(remove, self.folder, gone)
        await asyncio.to_thread(_clear_uploads, self._state.uploads, now - STALE)


def _clear_uploads(folder: Path, before: float) -> None:
    """What a gateway that was killed has left: nothing takes so long to be sent up."""
    for path in folder.glob("*"):
        with contextlib.suppress(FileNotFoundError):  # another gateway was quicker
            if path.stat().st_mtime < before:
                path.unlink()


COLLECTING: Final = web.AppKey("collecting", Collecting)
#: What is to be done in the transaction in which a job ends; modules append to it.
FINISHED: Final[web.AppKey[list[Finished]]] = web.AppKey("finished", list)
