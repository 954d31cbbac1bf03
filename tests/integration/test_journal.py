"""The journal of batch jobs is kept short, whoever dies meanwhile and however many read it."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence

import msgspec
import pytest
from aio_pika.abc import AbstractConnection

from benchmarks import rig
from lmaas.broker_config.connection import Session
from lmaas.broker_config.local_node import LocalNode
from lmaas.broker_config.messages import JOB
from lmaas.broker_config.seals import Seals
from lmaas.broker_config.settings import Settings
from lmaas.producer import journal
from lmaas.producer.batch import Jobs
from lmaas.producer.journal import JobEntry, State, newest, read, record
from lmaas.producer.publishing import PackPublisher
from tests.integration.lanes import channel_to, depth, having, make_lanes, until

#: Of so many jobs that have ended it is known, here.
KEPT = 20
#: Reads the journal, and ends with SIGKILL when it has dropped so many entries.
MORTAL = """
import asyncio, os, signal, sys
from aiormq.channel import Channel
from lmaas.broker_config.settings import Settings
from lmaas.producer import journal
from lmaas.producer.batch import Jobs

left, journal.ENDED_KEPT = map(int, sys.argv[1:])
acked = Channel.basic_ack

async def ack(channel, *arguments, **options):
    global left
    await acked(channel, *arguments, **options)  # it is on the socket then
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    async with Jobs(Settings.load()) as jobs:
        Channel.basic_ack = ack
        await jobs.list()

asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def _fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "ENDED_KEPT", KEPT)


def job(settings: Settings, name: str, *states: State) -> list[JobEntry]:
    """The entries of a job of one chunk."""
    queue = settings.names.job_results(f"{name}.12345678")
    first = JobEntry(job=name, state="submitting", model="sentiment", queue=queue)
    return [first.now(state, chunks=1, items=1) for state in states]


async def write(settings: Settings, *jobs: Sequence[JobEntry]) -> None:
    """In this order: one channel, to which what is published first goes first."""
    async with PackPublisher(settings, "writer") as publisher:
        entries = [entry for entries in jobs for entry in entries]
        await asyncio.gather(*(record(publisher, settings.names.jobs, one) for one in entries))


async def look(settings: Settings) -> dict[str, JobEntry]:
    async def asked(connection: AbstractConnection) -> dict[str, JobEntry]:
        return await read(connection, settings.names, settings.queue_type, Seals(settings))

    async with Session(settings, "look") as session:
        return await session.ask(asked)


async def taken(settings: Settings) -> list[JobEntry]:
    """Everything that is in the journal; nothing is left there."""
    found = []
    async with channel_to(settings) as channel:
        queue = await channel.get_queue(settings.names.jobs)
        while message := await queue.get(fail=False, no_ack=True):
            if message.type == JOB:
                body = journal._opened(message, settings.names.jobs, Seals(settings))
                found.append(msgspec.json.decode(body, type=JobEntry))
    return found


def a_long_week(settings: Settings) -> list[list[JobEntry]]:
    """Jobs that ended, more than are kept, and among them some that go on or never began."""
    ended = [
        job(settings, f"ended-{number}", "submitting", "submitted", "collected")
        for number in range(2 * KEPT)
    ]
    running = [job(settings, f"running-{number}", "submitting", "submitted") for number in range(9)]
    begun = [job(settings, f"begun-{number}", "submitting") for number in range(3)]
    return [*ended[:10], *running[:4], *begun, *ended[10:], *running[4:]]


@pytest.mark.usefixtures("lanes")
async def test_what_ended_long_ago_is_dropped_and_the_rest_kept(settings: Settings) -> None:
    week = a_long_week(settings)
    said = newest([entry for entries in week for entry in entries])
    await write(settings, *week)
    for _ in range(3):
        assert list((await look(settings)).items()) == list(said.items())
    # Of what ended: that it was submitted, which gives it its place, and its end.
    assert await depth(settings, settings.names.jobs) == 2 * KEPT + 9 + 3
    assert newest(await taken(settings)) == said


@pytest.mark.usefixtures("lanes")
@pytest.mark.parametrize("acks", [1, 2, 30, 60])
async def test_a_reader_that_is_killed_in_the_middle_loses_nothing(
    settings: Settings, acks: int
) -> None:
    week = a_long_week(settings)
    whole = [entry for entries in week for entry in entries]
    await write(settings, *week)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", MORTAL, str(acks), str(KEPT)),
        env=rig.environment(settings),
    )
    assert await process.wait() == -signal.SIGKILL
    # One of the acks was for the reader's own mark. A dead reader's entries come back by and by.
    left = len(whole) - (acks - 1)
    await until(lambda: _has(settings, left))
    assert list((await look(settings)).items()) == list(newest(whole).items())
    await look(settings)
    assert await depth(settings, settings.names.jobs) == 2 * KEPT + 9 + 3


async def _has(settings: Settings, entries: int) -> bool:
    return await depth(settings, settings.names.jobs) == entries


async def test_a_broker_that_is_killed_after_a_look_knows_the_same(
    settings: Settings, node: LocalNode
) -> None:
    own = having(settings, broker_url=node.url, connect_timeout=60)
    await make_lanes(own)
    week = a_long_week(own)
    said = newest([entry for entries in week for entry in entries])
    await write(own, *week)
    assert await look(own) == said
    node.kill()
    await node.start()
    assert list((await look(own)).items()) == list(said.items())


@pytest.mark.usefixtures("lanes")
async def test_readers_and_writers_at_the_same_time_neither_lose_nor_double(
    settings: Settings,
) -> None:
    names = [f"{writer}-{number}" for writer in range(3) for number in range(30)]
    states: dict[str, tuple[State, ...]] = {
        name: ("submitting", "submitted", "collected")
        if name.endswith("5")
        else ("submitting", "submitted")
        for name in names
    }
    live = [name for name in names if "collected" not in states[name]]

    async def add(some: list[str]) -> None:
        async with PackPublisher(settings, "writer") as publisher:
            for name in some:
                for entry in job(settings, name, *states[name]):
                    await record(publisher, settings.names.jobs, entry)

    writing = [asyncio.create_task(add(names[part::3])) for part in range(3)]

    async def look_again() -> None:
        seen: set[str] = set()
        async with Jobs(settings) as jobs:
            while not all(task.done() for task in writing):
                found = await jobs._journal.newest()
                assert seen <= found.keys(), "what was known once is known"
                seen |= found.keys()

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(look_again())
    await asyncio.gather(*writing)
    found = await look(settings)
    assert {name: entry.state for name, entry in found.items()} == {
        name: states[name][-1] for name in names
    }
    left = await taken(settings)
    submitted = [entry.job for entry in left if entry.state == "submitted"]
    assert sorted(submitted) == sorted(names)
    assert len(left) == len(live) + 2 * (len(names) - len(live))


@pytest.mark.usefixtures("lanes")
async def test_a_process_that_only_writes_keeps_the_journal_short(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "LOOK_EVERY", 20)
    monkeypatch.setattr(journal, "LONG", 60)
    most = 0
    async with Jobs(settings) as jobs:
        for number in range(100):
            for entry in job(settings, f"j{number}", "submitted", "collected"):
                await jobs._journal.add(entry)
            if compacting := jobs._journal._compacting:
                await compacting
            if number % 5 == 0:
                most = max(most, await depth(settings, settings.names.jobs) or 0)
        assert most < 120
        assert len(await jobs.list()) == KEPT


@pytest.mark.usefixtures("lanes")
async def test_of_jobs_that_have_ended_no_queue_is_asked(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = [job(settings, f"j{number}", "submitted", "collected") for number in range(9)]
    running = job(settings, "running", "submitted")
    await write(settings, *ended, running)
    asked = []
    async with Jobs(settings) as jobs:
        counts = jobs._session.counts

        async def counted(queue: str) -> tuple[int, int] | None:
            asked.append(queue)
            return await counts(queue)

        monkeypatch.setattr(jobs._session, "counts", counted)
        found = {one.entry.job: one.state for one in await jobs.list()}
    assert asked == [running[0].queue]
    assert found == {f"j{number}": "collected" for number in range(9)} | {"running": "expired"}
