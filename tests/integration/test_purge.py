"""What is purged is gone, and nothing else is: dead letters, results of jobs, the list of jobs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from click.testing import CliRunner

from lmaas.broker_config.codes import Code
from lmaas.broker_config.headers import Headers
from lmaas.broker_config.messages import JSON, MSGPACK, Item, Request, encode
from lmaas.broker_config.sealing import ENCODING, KEY_HEADER, Label
from lmaas.broker_config.seals import Seals
from lmaas.broker_config.settings import Settings
from lmaas.cli.exits import Exit
from lmaas.cli.purge import command
from lmaas.producer.batch import Jobs
from lmaas.producer.collect import collect
from lmaas.producer.dead_letter import Filter, request_of
from lmaas.producer.dead_letters import DeadLetter, opened, read
from lmaas.producer.purging import Removed, about, older
from lmaas.producer.submitted import Submitted
from lmaas.producer.tables import Place
from tests.integration.lanes import LIMIT, channel_to, depth, having, make_lanes, serving, until
from tests.payload_keys import new_keys, sealed

GOOD = "a wonderful, moving film"
WHO = "customer-17"
NOW_MS = int(time.time() * 1000)

#: Removes WHO, and is killed when the rest of the first dead letter is there, before its ack.
MORTAL = """
import asyncio, os, signal, sys
from lmaas.broker_config.publisher import Publisher
from lmaas.broker_config.settings import Settings
from lmaas.producer.purging import about

publish = Publisher.publish

async def last(*arguments, **options):
    await publish(*arguments, **options)
    os.kill(os.getpid(), signal.SIGKILL)

Publisher.publish = last
asyncio.run(about(Settings.load(), [sys.argv[1]]))
"""


@pytest.fixture(params=["plain", "sealed"])
def settings(settings: Settings, request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    keys = tmp_path / "payload.keys"
    return settings if request.param == "plain" else sealed(settings, new_keys(keys))


async def dead_letter(settings: Settings, *items: Item, **changes: Any) -> None:
    """As a worker dead-letters a pack."""
    given: dict[str, Any] = {
        "attempt": 1,
        "error": Code.INTERNAL,
        "reason": "a bug",
        "items": len(items),
        "parked_ms": NOW_MS,
    }
    seals, pack = Seals(settings), uuid.uuid4().hex
    body, table = encode(Request(model="sentiment", items=list(items))), Headers(**given | changes)
    headers = table.table()
    if seals.are_used:
        label = Label("request", "sentiment", "nobody", pack, MSGPACK)
        body, headers[KEY_HEADER] = await seals.seal(body, label)
    message = aio_pika.Message(
        body,
        content_encoding=ENCODING if seals.are_used else None,
        content_type=MSGPACK,
        correlation_id=pack,
        headers=headers,
        message_id=uuid.uuid4().hex,
        reply_to="nobody",
    )
    async with channel_to(settings) as channel:
        dead = await channel.get_exchange(settings.names.dead, ensure=False)
        await dead.publish(message, "sentiment.short")


async def found(settings: Settings) -> list[DeadLetter]:
    async with asyncio.timeout(LIMIT), contextlib.aclosing(read(settings, Filter())) as pages:
        return [dead_letter async for page in pages for dead_letter in page]


def items(settings: Settings, letters: Iterable[DeadLetter]) -> list[Item]:
    """Of all of them, opened."""
    seals = Seals(settings)
    requests = [request_of(opened(one, seals), one.message.content_type) for one in letters]
    return sorted(
        (item for request in requests if request is not None for item in request.items),
        key=lambda item: item.id,
    )


async def test_an_id_goes_from_dead_letters_and_its_neighbours_stay(settings: Settings) -> None:
    await make_lanes(settings)
    others = [Item(id=name, text=f"{name} {GOOD}") for name in ("a", "b", "c")]
    quoting = {} if settings.payload_keys else {"reason": f"over {WHO}", "first_error": WHO}
    await dead_letter(settings, others[0], Item(id=WHO, text=GOOD), others[1], **quoting)
    await dead_letter(settings, Item(id=WHO, text=GOOD))
    await dead_letter(settings, others[2])
    removed = [Removed(settings.names.dead, "items", 2)]
    dry = await about(settings, [WHO, "nobody"], dry=True)
    assert (dry.removed, dry.remains) == (removed, [])
    assert len(items(settings, await found(settings))) == 5
    purged = await about(settings, [WHO, "nobody"])
    assert (purged.removed, purged.remains) == (removed, [])
    letters = await found(settings)
    assert items(settings, letters) == others
    assert WHO not in repr([(one.summary, one.message.info(), one.message.body) for one in letters])
    assert {one.summary.error for one in letters} == {Code.INTERNAL}
    assert [one.summary.parked_ms for one in letters] == [NOW_MS, NOW_MS]
    again = await about(settings, [WHO])
    assert (again.removed, again.remains) == ([], [])


@pytest.mark.parametrize("settings", ["sealed"], indirect=True)
async def test_a_killed_purge_loses_and_doubles_nothing(settings: Settings) -> None:
    await make_lanes(settings)
    others = [Item(id=f"{number}", text=GOOD) for number in range(6)]
    for other in others:
        await dead_letter(settings, other, Item(id=WHO, text=GOOD))
    environment = {
        f"LMAAS_{name.upper()}": str(getattr(settings, name))
        for name in ("broker_url", "prefix", "payload_keys")
        if getattr(settings, name)
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", MORTAL, WHO, env=os.environ | environment
    )
    async with asyncio.timeout(LIMIT):
        assert await process.wait() == -signal.SIGKILL

    async def all_back() -> bool:  # those that it held, and the rest of one or some
        return (await depth(settings, settings.names.dead) or 0) > len(others)

    await until(all_back)
    assert sorted({item.id for item in items(settings, await found(settings))}) == [
        *(other.id for other in others), WHO,
    ]  # fmt: skip
    await about(settings, [WHO])
    assert items(settings, await found(settings)) == others


async def test_an_id_goes_from_results_and_the_others_are_collected(
    settings: Settings, tmp_path: Path
) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    names = ["a", WHO, "b", "c"]
    source.write_text("who,text\n" + "".join(f"{name},{GOOD}\n" for name in names))
    few = having(settings, pack_items=2)
    async with serving(settings), Jobs(few) as jobs:
        entry = await jobs.submit("sentiment", [(name, GOOD) for name in names])

        async def finished() -> bool:
            return (await jobs.progress(entry.job)).finished

        await until(finished)
        purged = await about(settings, [WHO])
        assert (purged.removed, purged.remains) == ([Removed(f"job {entry.job}", "results", 1)], [])
        assert (await about(settings, [WHO])).removed == []
        submitted = Submitted(Place.of(str(source)))
        assert await collect(jobs, entry.job, Place.to(str(target)), None, submitted) == (4, 1)
    rows = [line.split(",") for line in target.read_text().splitlines()[1:]]
    assert [row[0] for row in rows] == names  # from the file, which is its owner's
    assert [row[2] for row in rows] == ["positive", "", "positive", "positive"]
    assert "purged" in rows[1][-1]


@pytest.mark.parametrize("settings", ["plain"], indirect=True)
async def test_what_is_old_goes_and_the_rest_stays(settings: Settings) -> None:
    hour = 3_600_000
    await make_lanes(settings)
    await dead_letter(settings, Item(id="new", text=GOOD), parked_ms=NOW_MS + hour)
    await dead_letter(settings, Item(id="old", text=GOOD), parked_ms=NOW_MS - hour)
    async with Jobs(settings) as jobs:
        waiting = await jobs.submit("sentiment", [GOOD])
        cancelled = await jobs.submit("sentiment", [GOOD])
        await jobs.cancel(cancelled)
        # Nobody looks into it: it is finished with as many chunks as it has.
        done = await jobs.submit("sentiment", [GOOD])
        await answer(settings, done.queue)
        before = int(time.time() * 1000) + 1
        names = settings.names
        for dry in (True, False):
            purged = await older(settings, before, dry=dry)
            assert purged.removed == [
                Removed(names.dead, "dead letters", 1),
                Removed(f"job {done.job}", "chunks of results", 1),
                Removed(names.jobs, "jobs in the list", 2),
            ]
            assert len(purged.remains) == 1
            assert waiting.job in purged.remains[0]
        assert [one.entry.job for one in await jobs.list()] == [waiting.job]
        running, packs = (await about(settings, [WHO])).remains
        assert waiting.job in running
        assert "packs wait for a worker" in packs
        assert await depth(settings, done.queue) is None
    assert [item.id for item in items(settings, await found(settings))] == ["new"]
    assert await depth(settings, names.jobs) == 1  # that of the job that waits


async def answer(settings: Settings, queue: str) -> None:
    """Some message, as the answer to a chunk."""
    address = settings.names.address(queue)
    assert address is not None
    async with channel_to(settings) as channel:
        results = await channel.get_exchange(address[0], ensure=False)
        await results.publish(aio_pika.Message(b"{}", content_type=JSON), address[1])


@pytest.mark.parametrize("settings", ["sealed"], indirect=True)
async def test_what_cannot_be_looked_into_is_told(settings: Settings) -> None:
    await make_lanes(settings)
    await dead_letter(settings, Item(id=WHO, text=GOOD))
    async with channel_to(settings) as channel:
        dead = await channel.get_exchange(settings.names.dead, ensure=False)
        await dead.publish(aio_pika.Message(b"?", content_type=JSON), "sentiment.short")
    purged = await about(having(settings, payload_keys=None), [WHO])
    assert len(purged.remains) == 2  # one has no request in it, the other is sealed
    assert all(settings.names.dead in words for words in purged.remains)
    assert await depth(settings, settings.names.dead) == 2


async def test_packs_that_wait_are_told_although_no_dead_letter_and_no_job_names_their_model(
    settings: Settings,
) -> None:
    await make_lanes(settings)
    async with channel_to(settings) as channel:
        work = await channel.get_exchange(settings.names.work, ensure=False)
        await work.publish(aio_pika.Message(b"{}", content_type=JSON), "sentiment.long")
    purged = await about(settings, [WHO], dry=True)
    (told,) = purged.remains
    assert told.startswith("model sentiment: 1 packs wait for a worker, and were not looked into")


@pytest.mark.parametrize("settings", ["plain"], indirect=True)
def test_the_command(settings: Settings) -> None:
    asyncio.run(make_lanes(settings))
    asyncio.run(dead_letter(settings, Item(id="old", text=GOOD), parked_ms=1))
    asyncio.run(dead_letter(settings, Item(id=WHO, text=GOOD)))
    place = ["--broker", settings.broker_url, "--prefix", settings.prefix]

    def lmaas(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(command, [*arguments, *place])
        return done.exit_code, done.output

    for wrong in ([], ["--older-than", "soon"], ["--older-than", "1d", "--id", WHO], ["--id", WHO]):
        assert lmaas(*wrong)[0] == Exit.USAGE
    code, output = lmaas("--older-than", "30d", "--dry-run", "--json")
    expected = [{"place": settings.names.dead, "what": "dead letters", "count": 1}]
    assert (code, json.loads(output)) == (
        Exit.OK,
        {"dry_run": True, "removed": expected, "remains": []},
    )
    code, output = lmaas("--older-than", "30d", "--yes")
    assert (code, "dead letters" in output) == (Exit.OK, True)
    code, output = lmaas("--id", WHO, "--yes")
    assert (code, "items" in output) == (Exit.OK, True)
    assert lmaas("--id", WHO, "--yes") == (Exit.OK, "nothing to remove\n")
