"""What batches need besides their jobs: looking at the lines, submitting, writing the files.

Several gateways may share a database. Each batch for which something is to be done is held by one
of them, for LEASE seconds at a time, as jobs are. Every step may be done twice, and is then seen
once. While its job runs, a batch is held by nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Self, TypeVar

from aiohttp import web
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from lmaas.broker_config.errors import JobError, LmaasError, ModelNotFound
from lmaas.producer.gateway.app_keys import CALLERS, SETTINGS, STATE
from lmaas.producer.gateway.callbacks.outbox import OUTBOX
from lmaas.producer.gateway.jobs.accepting import Asked, JobCancelled, accept
from lmaas.producer.gateway.jobs.collecting import COLLECTING, Finished
from lmaas.producer.gateway.jobs.result_reader import in_order
from lmaas.producer.gateway.openai_batches import lines, outputs
from lmaas.producer.gateway.openai_batches.answers import ENDPOINTS, EVERY_LABEL
from lmaas.producer.gateway.openai_batches.outputs import Batched, Unanswered, Written
from lmaas.producer.gateway.secret import Secret
from lmaas.producer.gateway.state import batches as table
from lmaas.producer.gateway.state import files as files_table
from lmaas.producer.gateway.state import jobs as jobs_table
from lmaas.producer.gateway.state.batches import Batch, Problem
from lmaas.producer.gateway.state.files import File
from lmaas.producer.gateway.state.jobs import Job
from lmaas.producer.gateway.state.leases import BEAT, LEASE, RENEWAL, RETRY

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Batches that one gateway does something for at a time.
MOST: Final = 8
#: Seconds between two looks for what has expired.
SWEEP: Final = 60.0
#: Seconds after which a file of which the table says nothing is nobody's.
STALE: Final = 24 * 3600.0

#: How a batch ends -> the error of lines without an answer.
UNFINISHED: Final = {
    "completed": Unanswered("no_result", "the job has ended without a result of this request"),
    "expired": Unanswered(
        "batch_expired", "the completion window of the batch was over before this request was done"
    ),
    "cancelled": Unanswered(
        "batch_cancelled", "the batch was cancelled before this request was done"
    ),
    "failed": Unanswered("batch_failed", "the batch has failed before this request was done"),
}


class NotMine(Exception):
    """The batch was cancelled, is too late, or is another gateway's now."""


@dataclass
class _Doing:
    task: asyncio.Task[None]
    #: Whether the batch had been stopped before it was taken.
    was_stopped: bool


class BatchWork:
    """One gateway's part of it. Runs while it is open."""

    def __init__(self, app: web.Application) -> None:
        self._app = app
        self._state = app[STATE]
        #: By this the others know what is held here.
        self.holder = uuid.uuid4().hex
        self._doing: dict[str, _Doing] = {}
        self._woken = asyncio.Event()
        #: On the clock of the event loop: when everything that is held was last renewed.
        self._renewed = 0.0
        self._beating: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._state.files.mkdir, mode=0o700, parents=True, exist_ok=True)
        self._beating = [
            asyncio.create_task(_repeated(self._look, BEAT, self._woken), name="batches"),
            asyncio.create_task(_repeated(self.expire, SWEEP), name="files that expire"),
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        """What has begun is left, and free for others at once."""
        tasks = [*self._beating, *(doing.task for doing in self._doing.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def wake(self) -> None:
        """Something in the table has changed."""
        self._woken.set()

    def finished(self) -> Finished:
        """For the end of jobs: that of a batch has files to be written then."""

        async def finish(connection: AsyncConnection, job: Job) -> None:
            await table.job_ended(connection, job.id, time.time())
            self.wake()

        return finish

    # ------------------------------------------------------------------- who does what

    async def _look(self) -> None:
        """One transaction, if there is anything to write: renew, stop what is late, take."""
        now, loop_now = time.time(), asyncio.get_running_loop().time()
        room = MOST - len(self._doing)
        async with self._state.reading() as connection:
            held = await table.held(connection, self.holder)
            free = room > 0 and await table.are_free(connection, now)
            are_late = await table.are_late(connection, now)
        for name, doing in self._doing.items():
            is_stopped = held.get(name, True)
            if is_stopped and not doing.was_stopped and not doing.task.cancelling():
                doing.task.cancel()
        due = bool(held) and loop_now - self._renewed > RENEWAL
        if not (due or free or are_late):
            return
        taken: list[Batch] = []
        async with self._state.writing() as connection:
            if are_late:
                await self._stop_late(connection, now)
            await table.hold(connection, list(self._doing), self.holder, until=now + LEASE)
            if free:
                taken = await table.take(
                    connection, self.holder, now=now, until=now + LEASE, most=room
                )
        self._renewed = loop_now
        for batch in taken:
            self._begin(batch)

    async def _stop_late(self, connection: AsyncConnection, now: float) -> None:
        for batch in await table.late(connection, now):
            if batch.job is not None:
                await jobs_table.cancel(connection, batch.job)
        self._app[COLLECTING].wake()
        self.wake()

    def _begin(self, batch: Batch) -> None:
        def forget(task: asyncio.Task[None]) -> None:
            # It may have been taken anew before this task was at its very end.
            if (doing := self._doing.get(batch.id)) and doing.task is task:
                del self._doing[batch.id]
            self.wake()

        task = asyncio.create_task(self._do(batch), name=f"batch {batch.id}")
        self._doing[batch.id] = _Doing(task, batch.is_stopped)
        task.add_done_callback(forget)

    async def _do(self, batch: Batch) -> None:
        """The next step; if it cannot be done now, later."""
        try:
            if batch.sealed is not None:
                raise batch.sealed
            if batch.is_stopped or batch.job is not None:
                await self._finish(batch)
            elif batch.state == "validating":
                await self._validate(batch)
            else:
                await self._submit(batch)
        except NotMine:
            await self._release(batch, None)
        except asyncio.CancelledError:
            await self._release(batch, None)
            raise
        except (LmaasError, OSError, SQLAlchemyError) as error:
            log.warning("batch %s: %s", batch.id, error, extra={"action": "put_off"})
            await self._release(batch, time.time() + RETRY)
        except Exception:
            log.exception("batch %s", batch.id, extra={"action": "put_off"})
            await self._release(batch, time.time() + RETRY)

    async def _release(self, batch: Batch, until: float | None) -> None:
        # If that fails, because the database is away or this is cancelled, its lease ends soon.
        with contextlib.suppress(SQLAlchemyError):
            async with self._state.writing() as connection:
                await table.release(connection, batch.id, self.holder, until=until)

    # ------------------------------------------------------------------- the steps

    def _input(self, batch: Batch) -> BinaryIO:
        name = batch.input_file
        return self._state.at_rest.open(self._state.files / name, name_of_body(name))

    def _create(self, path: Path) -> BinaryIO:
        return self._state.at_rest.create(path, name_of_body(path.name))

    async def _validate(self, batch: Batch) -> None:
        settings = self._app[SETTINGS]
        checked = await _stoppable(
            lambda stop: lines.check(
                lambda: self._input(batch),
                batch.endpoint,
                limit=settings.max_body_bytes,
                most=settings.max_job_items,
                stop=stop,
            )
        )
        if checked.problems or checked.model is None:
            await self._fail(batch, checked.problems)
            return
        async with self._state.writing() as connection:
            found = await table.validated(
                connection, batch.id, self.holder, checked.model, checked.lines, time.time()
            )
        if found is None:
            raise NotMine
        await self._submit(found)

    async def _submit(self, batch: Batch) -> None:
        asked = Asked(model=batch.model or "", top_k=EVERY_LABEL)

        async def accepted(connection: AsyncConnection, job: Job) -> None:
            if await table.submitted(connection, batch.id, self.holder, job.id) is None:
                raise NotMine

        settings = self._app[SETTINGS]
        items = lines.items(lambda: self._input(batch), settings.max_body_bytes)
        try:
            async with contextlib.aclosing(items):
                job = await accept(self._app, batch.owner, asked, items, accepted, PATIENCE)
        except JobCancelled as error:  # by DELETE /v1/jobs/{id}: so the batch ends, too
            async with self._state.writing() as connection:
                await table.cancel(connection, batch, time.time())
            raise NotMine from error
        except ModelNotFound as error:
            await self._fail(batch, [Problem("model_not_found", str(error), "body.model")])
            return
        except JobError as error:  # as more chunks than a queue can have
            await self._fail(batch, [Problem("job_failed", str(error))])
            return
        self._app[CALLERS].count_items(batch.owner, job.items or 0)

    async def _fail(self, batch: Batch, problems: list[Problem]) -> None:
        shown = problems[: lines.SHOWN]
        await self._end(batch, "failed", {"errors": shown, "done": 0, "failed": 0}, [])

    async def _finish(self, batch: Batch) -> None:
        job = await self._job(batch)
        state = _end_of(batch, job)
        values: dict[str, Any] = {"done": 0, "failed": 0}
        made: list[File] = []
        if batch.lines:
            written = await self._written(batch, state)
            values |= {"done": written.done, "failed": written.failed}
            made = self._files(batch, written)
            values |= {_COLUMNS[file.id[-1]]: file.id for file in made}
        if state == "failed":
            reason = (job and job.reason) or "the job of the batch is not there any more"
            values["errors"] = [Problem("job_failed", reason)]
        await self._end(batch, state, values, made)

    async def _job(self, batch: Batch) -> Job | None:
        if batch.job is None:
            return None
        async with self._state.reading() as connection:
            return await jobs_table.one(connection, batch.job, batch.owner)

    async def _written(self, batch: Batch, state: str) -> Written:
        output, errors = (self._state.files / name for name in _names(batch))
        settings = self._app[SETTINGS]
        told = Batched(
            token=batch.id.removeprefix("batch_"),
            model=batch.model or "",
            answering=ENDPOINTS[batch.endpoint],
            harmless={label.casefold() for label in settings.harmless_labels},
            unfinished=UNFINISHED[state],
        )
        return await _stoppable(
            lambda stop: outputs.write(
                output,
                errors,
                self._create,
                lines.calls(lambda: self._input(batch), settings.max_body_bytes),
                outputs.flat(in_order(self._state.results, batch.job or "", self._state.at_rest)),
                told,
                stop,
            )
        )

    def _files(self, batch: Batch, written: Written) -> list[File]:
        now = time.time()
        keep = batch.keep_output or self._app[SETTINGS].keep_files
        sizes = {"output": written.output, "error": written.errors}
        return [
            File(
                id=name,
                owner=batch.owner,
                purpose="batch_output",
                filename=f"{batch.id}_{kind}.jsonl",
                bytes=size,
                created=now,
                expires=now + keep,
            )
            for name, (kind, size) in zip(_names(batch), sizes.items(), strict=True)
            if size
        ]

    async def _end(
        self, batch: Batch, state: str, values: dict[str, Any], made: list[File]
    ) -> None:
        now = time.time()
        values |= {"state": state, "ended": now, "expires": now + self._app[SETTINGS].keep_files}
        async with self._state.writing() as connection:
            ended = await table.end(connection, batch.id, self.holder, values)
            if ended is None:
                raise NotMine
            if ended.sealed is not None:  # its key has gone meanwhile
                raise ended.sealed
            for file in made:
                await files_table.add(connection, file)
            await self._app[OUTBOX].enqueue(
                connection,
                batch.owner,
                batch.job or batch.id,
                batch.callback_url,
                f"batch.{state}",
                {"id": batch.id},
                None if batch.callback_secret is None else Secret(batch.callback_secret),
            )

    # ------------------------------------------------------------------- what has expired

    async def expire(self) -> None:
        """Delete files and batches whose time is over. Raises SQLAlchemyError, OSError."""
        folder, now = self._state.files, time.time()
        async with self._state.writing() as connection:
            gone = await files_table.expire(connection, now, table.in_use())
            await table.expire(connection, now)
        stale = await asyncio.to_thread(_stale, folder, now - STALE)
        if stale:
            async with self._state.reading() as connection:
                known = await files_table.known(connection, stale)
            gone += [name for name in stale if name not in known]
        await asyncio.to_thread(remove, folder, gone)


BATCHES: Final[web.AppKey[BatchWork]] = web.AppKey("batches", BatchWork)
#: Nobody waits for the answer to a batch, so that it may wait for room in its lane.
PATIENCE: Final = float("inf")
#: The last letter of a file's name -> the column of the batch that has the name.
_COLUMNS: Final = {"o": "output_file", "e": "error_file"}


def _names(batch: Batch) -> tuple[str, str]:
    """Of the output and the error file: the same ones, however often they are written."""
    token = batch.id.removeprefix("batch_")
    return f"file-{token}o", f"file-{token}e"


def _end_of(batch: Batch, job: Job | None) -> str:
    if batch.state == "cancelling":
        return "cancelled"
    if job is None:
        return "expired" if batch.is_late else "failed"
    if job.state == "cancelled":
        return "expired" if batch.is_late else "cancelled"
    return "completed" if job.state == "finished" else "failed"


async def _repeated(
    step: Callable[[], Coroutine[Any, Any, None]], pause: float, woken: asyncio.Event | None = None
) -> None:
    woken = woken or asyncio.Event()
    while True:
        woken.clear()
        try:
            await step()
        except (SQLAlchemyError, OSError) as error:
            log.warning("batches: %s", error, extra={"action": "state_failed"})
        except Exception:
            log.exception("batches", extra={"action": "bug"})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await woken.wait()


async def _stoppable(work: Callable[[threading.Event], T]) -> T:
    """Runs beside the event loop. When it is cancelled, the work is told, and waited for."""
    stop = threading.Event()
    task: Awaitable[T] = asyncio.ensure_future(asyncio.to_thread(work, stop))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.gather(task, return_exceptions=True)
        raise


def _stale(folder: Path, before: float) -> list[str]:
    """Files that have not changed since a moment."""
    return [path.name for path in folder.iterdir() if path.stat().st_mtime < before]


def name_of_body(file: str) -> str:
    """What the body of a file is called where it is sealed."""
    return f"files/{file}"


def remove(folder: Path, names: list[str]) -> None:
    """Delete these files."""
    for name in names:
        (folder / name).unlink(missing_ok=True)
