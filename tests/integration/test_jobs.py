"""Batch jobs: published, left, followed, collected, cancelled; once each, whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import functools
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import aio_pika
import msgspec
import numpy as np
import pytest

from lmaas.broker_config.codes import Code
from lmaas.broker_config.errors import DataError, JobError, MessageError, ModelNotFound
from lmaas.broker_config.messages import JOB, Result
from lmaas.broker_config.seals import Seals
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import Names
from lmaas.producer.batch import Jobs
from lmaas.producer.client import Client
from lmaas.producer.collect import collect
from lmaas.producer.journal import JobEntry, _opened, newest
from lmaas.producer.tables import Place
from lmaas.workers.worker import Worker
from tests.integration.lanes import LIMIT, channel_to, depth, serving, until, waiting_packs

GOOD, BAD = "a wonderful, moving film", "an awful, boring waste of time"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Chunks of ten."""
    return msgspec.structs.replace(settings, pack_items=10)


async def results_of(jobs: Jobs, job: str, **options: Any) -> list[Result]:
    """All results in order; fails when a chunk comes twice."""
    chunks: dict[int, list[Result]] = {}
    async with asyncio.timeout(LIMIT):
        async for chunk in jobs.results(job, **options):
            assert chunk.number not in chunks
            chunks[chunk.number] = chunk.reply.results
    assert sorted(chunks) == list(range(len(chunks)))
    return [result for number in sorted(chunks) for result in chunks[number]]


async def state(jobs: Jobs, job: str) -> str:
    return (await jobs.progress(job)).state


async def is_in_state(jobs: Jobs, job: str, wanted: str) -> bool:
    return await state(jobs, job) == wanted


def numbered(count: int) -> list[str]:
    return [f"{GOOD} {number}" for number in range(count)]


@pytest.mark.usefixtures("worker")
async def test_subclasses_of_str_are_texts_names_and_ids(jobs: Jobs) -> None:
    pairs = [(np.str_("a"), np.str_(GOOD)), ("b", np.str_(BAD))]
    entry = await jobs.submit(np.str_("sentiment"), pairs, job=np.str_("j"), version=np.str_("1"))
    results = await results_of(jobs, entry.job)
    assert [(r.id, r.label) for r in results] == [("a", "positive"), ("b", "negative")]


@pytest.mark.usefixtures("worker")
async def test_a_job_is_submitted_followed_and_collected(jobs: Jobs) -> None:
    entry = await jobs.submit("sentiment", numbered(95), job="night-1")
    assert (entry.job, entry.state, entry.chunks, entry.items) == ("night-1", "submitted", 10, 95)
    await until(lambda: is_in_state(jobs, "night-1", "finished"))
    progress = await jobs.progress("night-1")
    assert (progress.done, progress.finished, progress.collecting) == (10, True, False)
    results = await results_of(jobs, "night-1")
    assert [result.id for result in results] == [str(number) for number in range(95)]
    assert await state(jobs, "night-1") == "collected"
    with pytest.raises(JobError, match="was collected before"):
        await results_of(jobs, "night-1")


@pytest.mark.usefixtures("worker")
async def test_a_job_gets_an_id_when_it_has_none(jobs: Jobs) -> None:
    one = await jobs.submit("sentiment", [GOOD])
    other = await jobs.submit("sentiment", [BAD])
    assert one.job != other.job
    assert [r.label for r in await results_of(jobs, other.job)] == ["negative"]
    assert [r.label for r in await results_of(jobs, one.job)] == ["positive"]


@pytest.mark.usefixtures("lanes")
async def test_a_job_waits_for_a_worker_and_for_its_collector(settings: Settings) -> None:
    async with Jobs(settings) as jobs:
        await jobs.submit("sentiment", numbered(30), job="early")
        progress = await jobs.progress("early")
        assert (progress.state, progress.done) == ("running", 0)
    async with serving(settings), Jobs(settings) as later:
        assert len(await results_of(later, "early")) == 30


@pytest.mark.usefixtures("lanes")
async def test_who_collects_early_waits_for_the_last_chunk(jobs: Jobs, settings: Settings) -> None:
    await jobs.submit("sentiment", numbered(30), job="early")
    collecting = asyncio.create_task(results_of(jobs, "early"))
    await until(lambda: is_in_state(jobs, "early", "collecting"))
    assert not collecting.done()
    async with serving(settings):
        assert len(await collecting) == 30


@pytest.mark.usefixtures("worker")
async def test_ids_top_k_and_the_version_are_the_callers(jobs: Jobs) -> None:
    pairs = [("a", GOOD), ("b", BAD), ("c", GOOD)]
    await jobs.submit("sentiment", iter(pairs), job="j", top_k=2, version="1")
    results = await results_of(jobs, "j")
    assert [(r.id, r.label) for r in results] == [
        ("a", "positive"),
        ("b", "negative"),
        ("c", "positive"),
    ]
    for result in results:
        first, _ = result.scores or {}
        assert first == result.label


@pytest.mark.usefixtures("worker")
async def test_what_is_no_text_is_a_result_in_its_place(jobs: Jobs) -> None:
    values = [GOOD, None, "", 7, "\ud800", BAD]
    await jobs.submit("sentiment", values, job="j")
    results = await results_of(jobs, "j")
    assert [result.error.code if result.error else result.label for result in results] == [
        "positive", Code.NOT_TEXT, Code.EMPTY_TEXT, Code.NOT_TEXT, Code.INVALID_UTF8, "negative",
    ]  # fmt: skip


@pytest.mark.usefixtures("worker")
async def test_an_unknown_version_is_the_result_of_every_item(jobs: Jobs) -> None:
    await jobs.submit("sentiment", numbered(15), job="j", version="99")
    results = await results_of(jobs, "j")
    assert [result.error and result.error.code for result in results] == [Code.UNKNOWN_VERSION] * 15


@pytest.mark.usefixtures("worker")
async def test_a_job_without_items_is_finished_at_once(jobs: Jobs) -> None:
    entry = await jobs.submit("sentiment", [], job="empty")
    assert (entry.chunks, entry.items) == (0, 0)
    assert await state(jobs, "empty") == "finished"
    assert await results_of(jobs, "empty") == []


@pytest.mark.usefixtures("worker")
async def test_the_list_has_every_job_in_its_order(jobs: Jobs) -> None:
    assert await jobs.list() == []
    for job in ("a", "b", "c"):
        await jobs.submit("sentiment", numbered(10), job=job)
    await results_of(jobs, "b")
    for job in ("a", "c"):
        await until(functools.partial(is_in_state, jobs, job, "finished"))
    assert [(one.entry.job, one.state) for one in await jobs.list()] == [
        ("a", "finished"),
        ("b", "collected"),
        ("c", "finished"),
    ]


@pytest.mark.usefixtures("worker")
async def test_several_may_read_the_journal_at_once(jobs: Jobs, settings: Settings) -> None:
    for number in range(20):
        await jobs.submit("sentiment", [], job=f"j{number}")
    async with contextlib.AsyncExitStack() as stack:
        readers = [await stack.enter_async_context(Jobs(settings)) for _ in range(4)]
        for _ in range(3):
            lists = await asyncio.gather(*(reader.list() for reader in readers))
            assert [len(found) for found in lists] == [20] * 4


@pytest.mark.usefixtures("worker")
async def test_an_id_that_is_taken_is_refused_and_its_job_untouched(jobs: Jobs) -> None:
    await jobs.submit("sentiment", [GOOD], job="mine")
    with pytest.raises(JobError, match="there is a job 'mine' already"):
        await jobs.submit("sentiment", [BAD], job="mine")
    assert [result.label for result in await results_of(jobs, "mine")] == ["positive"]


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("job", ["a b", "a/b", "x" * 65, "ä", "*", "\n", "a\n"])
async def test_an_id_of_other_characters_is_refused(jobs: Jobs, job: str) -> None:
    with pytest.raises(JobError, match="must be 1 to 64 letters"):
        await jobs.submit("sentiment", [GOOD], job=job)


@pytest.mark.usefixtures("worker")
async def test_a_negative_top_k_is_refused_before_anything_is_published(jobs: Jobs) -> None:
    with pytest.raises(MessageError, match="top_k"):
        await jobs.submit("sentiment", [GOOD], job="negative", top_k=-1)
    with pytest.raises(JobError, match="no job 'negative'"):
        await jobs.progress("negative")


@pytest.mark.usefixtures("worker")
async def test_a_job_that_was_collected_cannot_be_cancelled(jobs: Jobs) -> None:
    await jobs.submit("sentiment", [GOOD], job="done")
    await results_of(jobs, "done")
    with pytest.raises(JobError, match="was collected before"):
        await jobs.cancel("done")
    assert await state(jobs, "done") == "collected"


FORGED: dict[str, Callable[[Names], dict[str, Any]]] = {
    "a lane": lambda names: {"queue": names.work_queue("sentiment", "short")},
    "dead letters": lambda names: {"queue": names.dead},
    "a client's results": lambda names: {"queue": names.client_results("c")},
    "another job's results": lambda names: {"queue": names.job_results("other.12345678")},
    "no queue": lambda names: {"queue": None},
    "a moment in no year": lambda names: {"at": 1e300},
}


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("forged", [*FORGED, "no entry", "no JSON"])
async def test_what_others_write_into_the_journal_is_passed_over(
    jobs: Jobs, settings: Settings, forged: str, caplog: pytest.LogCaptureFixture
) -> None:
    names = settings.names
    await jobs.submit("sentiment", [GOOD], job="mine")
    good = {"job": "forged", "state": "submitted", "model": "sentiment", "at": 1.0,
            "queue": names.job_results("forged.12345678")}  # fmt: skip
    body = {"no entry": b"{}", "no JSON": b"\xff{"}.get(forged)
    if body is None:
        body = msgspec.json.encode(good | FORGED[forged](names))
    async with channel_to(settings) as channel:
        message = aio_pika.Message(body, type=JOB)
        await channel.default_exchange.publish(message, names.jobs)
    with pytest.raises(JobError, match="no job 'forged'"):
        await jobs.cancel("forged")
    assert [progress.entry.job for progress in await jobs.list()] == ["mine"]
    assert f"a message of {names.jobs} is no entry of a job" in caplog.text
    assert await depth(settings, names.work_queue("sentiment", "short")) == 0


@pytest.mark.usefixtures("lanes")
async def test_what_others_write_as_the_seal_of_a_job_is_passed_over(
    jobs: Jobs, settings: Settings
) -> None:
    job = await jobs.submit("sentiment", numbered(25), job="j")
    other = await jobs.submit("sentiment", [GOOD], job="k")
    forged = [b"{}", b"?", msgspec.json.encode(other), b'{"at": 1e300}']
    async with channel_to(settings) as channel:
        for body in forged:
            message = aio_pika.Message(body, type=JOB)
            await channel.default_exchange.publish(message, job.queue)
    async with serving(settings):
        assert len(await results_of(jobs, "j")) == 25


async def test_a_job_that_nobody_knows_is_told(jobs: Jobs) -> None:
    for asking in (jobs.progress("nope"), jobs.cancel("nope"), results_of(jobs, "nope")):
        with pytest.raises(JobError, match="no job 'nope'"):
            await asking


class Broken:
    """A source that fails before its first text."""

    def __iter__(self) -> Iterator[str]:
        raise LookupError("source")


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("model", "texts", "options", "error"),
    [
        ("nope", [GOOD], {}, ModelNotFound),
        ("nope", [GOOD] * 500, {}, ModelNotFound),
        ("no/pe", [GOOD], {}, ModelNotFound),
        ("sentiment", [GOOD], {"top_k": -1}, MessageError),
        ("sentiment", Broken(), {}, LookupError),
    ],
)
async def test_a_submission_that_is_refused_leaves_nothing(
    jobs: Jobs,
    settings: Settings,
    model: str,
    texts: Iterable[Any],
    options: dict[str, Any],
    error: type[Exception],
) -> None:
    await jobs.submit("sentiment", [GOOD], job="j")
    await jobs.cancel("j")
    with pytest.raises(error):
        await jobs.submit(model, texts, job="j", **options)
    with pytest.raises(error):
        await jobs.submit(model, texts, job="k", **options)
    found = {one.entry.job: one.state for one in await jobs.list()}
    assert found == {"j": "cancelled"}, "of the one before it is still known what became of it"
    assert (await jobs.progress("j")).entry.model == "sentiment"
    with pytest.raises(JobError, match="no job 'k'"):
        await jobs.cancel("k")
    entries = await journal(settings)
    assert [await depth(settings, one.queue) for one in entries] == [None] * len(entries)


async def journal(settings: Settings) -> list[JobEntry]:
    """Everything that is in it; nothing is left there."""
    found = []
    async with channel_to(settings) as channel:
        queue = await channel.get_queue(settings.names.jobs)
        while message := await queue.get(fail=False, no_ack=True):
            body = _opened(message, settings.names.jobs, Seals(settings))
            found.append(msgspec.json.decode(body, type=JobEntry))
    return found


@pytest.mark.usefixtures("lanes")
async def test_workers_drop_what_is_left_of_a_cancelled_job(jobs: Jobs, settings: Settings) -> None:
    await jobs.submit("sentiment", numbered(500), job="unwanted")
    await jobs.cancel("unwanted")
    assert await state(jobs, "unwanted") == "cancelled"
    with pytest.raises(JobError, match="was cancelled before"):
        await results_of(jobs, "unwanted")
    assert await waiting_packs(settings) == 50
    async with serving(settings), Client(settings) as client:
        assert (await client.classify("sentiment", GOOD)).label == "positive"
        await until(lambda: nothing_waits(settings))
    assert await waiting_packs(settings) == 0
    assert await depth(settings, settings.names.dead) == 0


async def nothing_waits(settings: Settings) -> bool:
    return await waiting_packs(settings) == 0


@pytest.mark.usefixtures("lanes")
async def test_a_job_may_be_submitted_again_after_it_was_cancelled(
    jobs: Jobs, settings: Settings
) -> None:
    """Chunks of the first one are still in the lanes, and workers remember that it is gone."""
    await jobs.submit("sentiment", [BAD] * 100, job="again")
    await jobs.cancel("again")
    await jobs.submit("sentiment", [GOOD] * 40, job="again")
    async with serving(settings):
        assert [r.label for r in await results_of(jobs, "again")] == ["positive"] * 40
        await jobs.submit("sentiment", [BAD] * 20, job="again")
        assert [r.label for r in await results_of(jobs, "again")] == ["negative"] * 20


@pytest.mark.usefixtures("worker")
async def test_an_interrupted_submission_is_cancelled(jobs: Jobs, settings: Settings) -> None:
    async def endless() -> AsyncIterator[str]:
        for text in numbered(25):
            yield text
        await asyncio.Event().wait()

    submitting = asyncio.create_task(jobs.submit("sentiment", endless(), job="j"))
    await until(lambda: has_done(settings, "j"))
    submitting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await submitting
    assert await state(jobs, "j") == "cancelled"


async def has_done(settings: Settings, job: str) -> bool:
    async with Jobs(settings) as jobs:
        known = {one.entry.job: one for one in await jobs.list()}
        return job in known and bool(known[job].done)


@pytest.mark.usefixtures("worker")
async def test_a_source_that_fails_cancels_its_submission(jobs: Jobs) -> None:
    def failing() -> Any:
        yield from numbered(25)
        raise LookupError("source")

    with pytest.raises(LookupError, match="source"):
        await jobs.submit("sentiment", failing(), job="j")
    assert await state(jobs, "j") == "cancelled"


@pytest.mark.usefixtures("worker")
async def test_who_stops_half_way_gets_everything_the_next_time(jobs: Jobs) -> None:
    await jobs.submit("sentiment", numbered(95), job="j")
    async with contextlib.aclosing(jobs.results("j")) as chunks:
        await anext(chunks)
        await anext(chunks)
    assert len(await results_of(jobs, "j", keep=True)) == 95
    assert len(await results_of(jobs, "j")) == 95


@pytest.mark.usefixtures("lanes")
async def test_a_second_collector_is_told(jobs: Jobs, settings: Settings) -> None:
    await jobs.submit("sentiment", numbered(10), job="j")
    first = asyncio.create_task(results_of(jobs, "j"))
    await until(lambda: is_in_state(jobs, "j", "collecting"))
    async with Jobs(settings) as other:
        with pytest.raises(JobError, match="is being collected by somebody else"):
            await results_of(other, "j")
    async with serving(settings):
        assert len(await first) == 10


@pytest.mark.usefixtures("lanes")
async def test_a_collector_is_told_when_its_job_is_cancelled(
    jobs: Jobs, settings: Settings
) -> None:
    await jobs.submit("sentiment", numbered(10), job="j")
    collecting = asyncio.create_task(results_of(jobs, "j"))
    await until(lambda: is_in_state(jobs, "j", "collecting"))
    async with Jobs(settings) as other:
        await other.cancel("j")
    with pytest.raises(JobError, match="'j' expired or were deleted"):
        await collecting


@pytest.mark.usefixtures("worker")
async def test_results_that_expired_are_told(jobs: Jobs, settings: Settings) -> None:
    entry = await jobs.submit("sentiment", [GOOD], job="old")

    async def expire(connection: Any) -> None:
        async with connection.channel() as channel:
            await channel.queue_delete(entry.queue)

    await jobs._session.ask(expire)
    assert await state(jobs, "old") == "expired"
    with pytest.raises(JobError, match="expired or were deleted"):
        await results_of(jobs, "old")


# --------------------------------------------------------------- into a file


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.usefixtures("worker")
async def test_a_file_has_the_results_in_order(jobs: Jobs, tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    texts = [GOOD if number % 3 else BAD for number in range(205)]
    texts[7] = ""
    await jobs.submit("sentiment", texts, job="j")
    reported: list[int] = []
    counts = await collect(jobs, "j", Place.of(str(path)), reported.append)
    assert counts == (205, 1)
    assert (reported[-1], len(reported)) == (205, 21)
    rows = rows_of(path)
    assert [row["id"] for row in rows] == [str(number) for number in range(205)]
    assert rows[7]["error"].startswith(Code.EMPTY_TEXT)
    found = [row["label"] for row in rows]
    assert found[:4] == ["negative", "positive", "positive", "negative"]
    assert await state(jobs, "j") == "collected"
    assert os.listdir(tmp_path) == ["results.csv"]  # noqa: PTH208 - no Path in a coroutine


@pytest.mark.usefixtures("lanes")
async def test_a_collection_that_was_interrupted_leaves_no_file_and_loses_nothing(
    jobs: Jobs, settings: Settings, tmp_path: Path
) -> None:
    path = tmp_path / "results.csv"
    await jobs.submit("sentiment", numbered(50), job="j")
    collecting = asyncio.create_task(collect(jobs, "j", Place.of(str(path))))
    await until(lambda: is_in_state(jobs, "j", "collecting"))
    collecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await collecting
    assert not path.exists()
    async with serving(settings):
        async with asyncio.timeout(LIMIT):
            assert await collect(jobs, "j", Place.of(str(path))) == (50, 0)
    assert len(rows_of(path)) == 50


@pytest.mark.usefixtures("worker")
async def test_a_file_that_cannot_be_written_is_told_before_anything_is_waited_for(
    jobs: Jobs, tmp_path: Path
) -> None:
    await jobs.submit("sentiment", [GOOD], job="j")
    with pytest.raises(DataError):
        await collect(jobs, "j", Place.of(str(tmp_path / "no" / "such" / "folder.csv")))
    with pytest.raises(DataError, match="-o"):
        await collect(jobs, "j", Place.of("-", "csv"))
    assert len(await results_of(jobs, "j")) == 1


def entry(queue: str, state: Any, **changes: Any) -> JobEntry:
    job = queue.partition(".")[0]
    return JobEntry(job=job, state=state, model="m", queue=queue, at=1.0, **changes)


def test_the_newest_entry_of_each_job_counts_but_not_of_what_was_refused() -> None:
    begun, ended = entry("a.1", "submitting"), entry("a.1", "cancelled", chunks=0)
    whole = [entry("b.1", "submitting"), entry("b.1", "submitted", chunks=0)]
    assert newest([begun]) == {"a": begun}
    assert newest([begun, ended]) == {}
    assert newest([*whole, entry("b.1", "cancelled", chunks=0)])["b"].state == "cancelled"
    again = [entry("b.2", "submitting"), entry("b.2", "cancelled", chunks=0)]
    assert newest([*whole, *again]) == {"b": whole[-1]}
    stopped = entry("a.1", "cancelled")
    assert newest([begun, stopped]) == {"a": stopped}


def test_an_entry_of_the_journal_says_all_that_a_collector_needs() -> None:
    entry = JobEntry(job="j", state="submitting", model="m", queue="q")
    later = entry.now("submitted", chunks=1, items=2)
    assert (later.queue, later.chunks, later.items) == ("q", 1, 2)
    assert later.at >= entry.at


async def test_the_worker_goes_on_after_jobs_that_were_cancelled(
    jobs: Jobs, worker: Worker
) -> None:
    for number in range(5):
        await jobs.submit("sentiment", numbered(20), job=f"j{number}")
        await jobs.cancel(f"j{number}")
    await jobs.submit("sentiment", numbered(20), job="last")
    assert len(await results_of(jobs, "last")) == 20
