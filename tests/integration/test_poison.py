"""Items that end, or hold, whoever runs them: they get an error, their neighbours a label."""

from __future__ import annotations

import asyncio
import json
import signal
import uuid
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
from aio_pika.abc import AbstractIncomingMessage

from benchmarks.failures.poison import Poison
from benchmarks.failures.processes import forked_by
from lmaas.broker_config.codes import Code
from lmaas.broker_config.errors import LmaasError
from lmaas.broker_config.messages import Item, Request, Result
from lmaas.broker_config.settings import Settings
from lmaas.producer.client import Client
from lmaas.producer.dead_letter import Filter
from lmaas.producer.dead_letters import read
from tests.integration.killed import DECODED, WORD
from tests.integration.lanes import (
    LIMIT,
    as_told,
    channel_to,
    depth,
    having,
    sent_in,
    until,
    waiting_packs,
)
from tests.integration.sender import sending
from tests.integration.worker_process import StartWorker

GOOD = "a wonderful, moving film"
POISONED = ("benchmarks.poisoned",)
#: Seconds that a run may take.
HASTY = {"LMAAS_PACK_TIMEOUT": "1"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return having(settings, pack_items=10)


async def classified(settings: Settings, texts: Sequence[str]) -> list[Result]:
    async with asyncio.timeout(2 * LIMIT), Client(settings) as client:
        return [result async for result in client.classify_many("sentiment", texts)]


async def dead_lettered(settings: Settings, count: int) -> list[AbstractIncomingMessage]:
    """Exactly so many are in the dead letter queue.

    A worker that ends between a dead letter and its ack leaves two of the same id, which count as
    one.
    """
    copies = await depth(settings, settings.names.dead) or 0
    async with channel_to(settings) as channel:
        dead_letter_queue = await channel.get_queue(settings.names.dead, ensure=False)
        found = [await dead_letter_queue.get(no_ack=True) for _ in range(copies)]
    by_id = {message.message_id: message for message in found}
    assert len(by_id) == count
    return list(by_id.values())


def strewn(poison: Sequence[Poison], total: int) -> tuple[list[str], dict[int, Poison]]:
    """Good texts with poison among them, each in a pack of its own."""
    places = {place * 30 + 7: kind for place, kind in enumerate(poison)}
    texts = [f"{place} {GOOD}" for place in range(total)]
    for place, kind in places.items():
        texts[place] += f" {kind}"
    return texts, places


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
async def test_only_the_guilty_items_fail_and_are_dead_lettered(
    settings: Settings, start_worker: StartWorker, queue_type: str
) -> None:
    kinds = [kind for kind in Poison if kind is not Poison.HOLD or queue_type == "classic"]
    settings = having(settings, queue_type=queue_type)
    texts, places = strewn(kinds, 300)
    supervisor = await start_worker(
        "--processes", "2", module=POISONED, LMAAS_QUEUE_TYPE=queue_type,
        LMAAS_MAX_ATTEMPTS="2", **HASTY,
    )  # fmt: skip
    await supervisor.says("ready", times=2)
    results = await classified(settings, texts)
    assert [result.id for result in results] == [str(place) for place in range(300)]
    for place, result in enumerate(results):
        if place in places:
            assert result.error is not None
            assert result.error.code == places[place].code
        else:
            assert (result.label, result.error) == ("positive", None)
    messages = await dead_lettered(settings, len(places))
    found = {}
    for message in messages:
        (item,) = sent_in(message, settings).items
        found[int(item.id)] = message.headers["lmaas-error"]
        assert message.headers["lmaas-reason"]
    assert found == {place: kind.code for place, kind in places.items()}
    supervisor.send(signal.SIGTERM)
    assert await supervisor.ended() == 0
    assert await waiting_packs(settings) == 0


async def test_several_poisoned_items_in_one_pack_are_told_apart(
    settings: Settings, start_worker: StartWorker
) -> None:
    texts = [GOOD] * 10
    for place in (0, 4, 9):
        texts[place] += f" {Poison.SEGFAULT}"
    texts[5] = ""
    await start_worker("--processes", "2", module=POISONED)
    results = await classified(settings, texts)
    codes = {place: r.error.code for place, r in enumerate(results) if r.error is not None}
    bad = Code.POISON
    assert codes == {0: bad, 4: bad, 9: bad, 5: Code.EMPTY_TEXT}
    (message,) = await dead_lettered(settings, 1)
    items = sent_in(message, settings).items
    assert [item.id for item in items] == ["0", "4", "9"]


@pytest.mark.parametrize(
    "kinds",
    [
        (Poison.OOM_KILL, Poison.SLEEP),
        (Poison.SLEEP, Poison.OOM_KILL),
        (Poison.HOLD, Poison.EXCEPTION, Poison.SEGFAULT),
        (Poison.EXCEPTION, Poison.SEGFAULT, Poison.HOLD),
    ],
)
async def test_kinds_beside_each_other_in_one_pack_are_dead_lettered_each_with_its_reason(
    settings: Settings, start_worker: StartWorker, kinds: Sequence[Poison]
) -> None:
    texts = [GOOD] * 10
    for place, kind in enumerate(kinds, start=4):
        texts[place] += f" {kind}"
    await start_worker("--processes", "2", module=POISONED, **HASTY)
    results = await classified(settings, texts)
    codes = {place: r.error.code for place, r in enumerate(results) if r.error is not None}
    expected = {place: kind.code for place, kind in enumerate(kinds, start=4)}
    assert codes == expected
    found = {}
    for message in await dead_lettered(settings, len(kinds)):
        (item,) = sent_in(message, settings).items
        found[int(item.id)] = message.headers["lmaas-error"]
        result = results[int(item.id)]
        assert result.error is not None
        assert message.headers["lmaas-reason"] == as_told(result.error, settings).message
    assert found == expected


async def test_an_item_of_a_file_that_is_sent_again_is_one_dead_letter(
    settings: Settings, start_worker: StartWorker
) -> None:
    """Two calls with the same text are two."""
    await start_worker(module=POISONED)
    items = [Item(id="300", text=GOOD), Item(id="301", text=f"{GOOD} {Poison.EXCEPTION}")]
    file = uuid.uuid4()
    for version in (None, "1"):  # to which the resumed run stays
        async with Client(settings) as client:
            request = Request(model="sentiment", items=items, version=version)
            # Both at once, too: each has its answer.
            of_file = client.of_file(file)
            for reply in await asyncio.gather(of_file.run(request), of_file.run(request)):
                assert [r.error and r.error.code for r in reply.results] == [None, Code.INTERNAL]
            await client.run(request)
    assert await depth(settings, settings.names.dead) == 6
    dead_letters = [dead_letter async for page in read(settings, Filter()) for dead_letter in page]
    assert len(dead_letters) == 5


@pytest.mark.parametrize(
    ("items", "kills", "guilty"),
    [
        # A worker; the isolated process over the pack as a whole; over the item.
        pytest.param(4, 3, False, id="in a pack, killed from outside"),
        pytest.param(4, 4, True, id="in a pack, killed again, alone"),
        # A worker; the isolated process over the item, which is all that the pack has.
        pytest.param(1, 2, False, id="alone, killed from outside"),
        pytest.param(1, 3, True, id="alone, killed again"),
    ],
)
async def test_one_kill_over_an_item_does_not_blame_it(
    settings: Settings,
    start_worker: StartWorker,
    tmp_path: Path,
    items: int,
    kills: int,
    guilty: bool,
) -> None:
    file = tmp_path / "kills"
    file.write_bytes(bytes(kills))
    texts = [GOOD] * items
    texts[items // 2] += f" {WORD} {file}"
    await start_worker("--processes", "2", module=("tests.integration.killed",))
    results = await classified(settings, texts)
    assert file.stat().st_size == 0
    expected: list[str] = ["positive"] * items
    if guilty:
        expected[items // 2] = Code.POISON
    assert [r.error.code if r.error else r.label for r in results] == expected
    assert await depth(settings, settings.names.dead) == int(guilty)


@pytest.mark.parametrize(
    ("kills", "guilty"),
    [
        pytest.param(1, False, id="killed from outside"),
        pytest.param(2, True, id="killed again"),
    ],
)
async def test_one_kill_while_a_body_is_decoded_does_not_blame_it(
    settings: Settings, start_worker: StartWorker, tmp_path: Path, kills: int, guilty: bool
) -> None:
    """A worker is killed over it first, so that it is decoded in the isolated process."""
    of_worker, of_decoder = tmp_path / "kills", tmp_path / "decoding.bytes"
    of_worker.write_bytes(bytes(1))
    of_decoder.write_bytes(bytes(kills))
    text = f"{GOOD} {WORD} {of_worker} {DECODED} {of_decoder}"
    await start_worker("--processes", "2", module=("tests.integration.killed",))
    async with Client(settings) as client:
        request = Request(model="sentiment", items=[Item(id="0", text=text)])
        if guilty:
            with pytest.raises(LmaasError, match="ended the process that ran it: signal SIGKILL"):
                await client.run(request)
        else:
            (result,) = (await client.run(request)).results
            assert (result.label, result.error) == ("positive", None)
    assert of_worker.stat().st_size == of_decoder.stat().st_size == 0
    assert await depth(settings, settings.names.dead) == int(guilty)


@pytest.mark.parametrize(
    ("poison", "code", "word"),
    [(Poison.SLEEP, 1, "did not end within 1 s"), (Poison.HOLD, -signal.SIGALRM, "ready")],
)
async def test_a_worker_whose_run_does_not_end_is_ended(
    settings: Settings, start_worker: StartWorker, poison: Poison, code: int, word: str
) -> None:
    stuck = await start_worker(module=POISONED, **HASTY)
    asking = asyncio.create_task(classified(settings, [GOOD, f"{GOOD} {poison}"]))
    assert await stuck.ended() == code
    await stuck.says(word)
    await start_worker(module=POISONED, **HASTY)
    good, bad = await asking
    assert good.label == "positive"
    assert bad.error is not None
    assert bad.error.code == Code.TIME_LIMIT


async def test_the_isolated_process_ends_with_its_worker(
    settings: Settings, start_worker: StartWorker
) -> None:
    first = await start_worker(module=POISONED)
    items = [{"id": "0", "text": f"{GOOD} {Poison.HOLD}"}]
    async with sending(settings) as sender:
        await sender.body(
            "endless", json.dumps({"model": "sentiment", "items": items}).encode(), "short"
        )
        await until(lambda: is_taken(settings))
        await first.kill()
        second = await start_worker(module=POISONED)

        async def has_a_child() -> bool:
            return len(forked_by(second.pid)) == 1

        await until(has_a_child)
        children = forked_by(second.pid)
        await second.kill()

    async def are_gone() -> bool:
        return not psutil.wait_procs(children, timeout=0)[1]

    await until(are_gone)


async def is_taken(settings: Settings) -> bool:
    return await waiting_packs(settings) == 0


async def test_what_never_ends_holds_up_nothing_else_that_came_back(
    settings: Settings, start_worker: StartWorker
) -> None:
    """The worker that had both is ended; the next one isolates both, one after the other."""
    stuck = await start_worker(module=POISONED, LMAAS_PACK_TIMEOUT="1")
    endless = asyncio.create_task(classified(settings, [f"{GOOD} {Poison.SLEEP}"]))
    await until(lambda: is_taken(settings))
    innocent = asyncio.create_task(classified(settings, [GOOD]))
    assert await stuck.ended() == 1
    # From now on an item has this time; and its neighbours wait for a quarter of it.
    await start_worker(module=POISONED, LMAAS_PACK_TIMEOUT="8")
    done, _ = await asyncio.wait([endless, innocent], return_when=asyncio.FIRST_COMPLETED)
    assert done == {innocent}
    (good,), (bad,) = await innocent, await endless
    assert good.label == "positive"
    assert bad.error is not None
    assert bad.error.code == Code.TIME_LIMIT
