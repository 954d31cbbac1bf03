"""Which worker gets a pack, with two of them: one that works and one that is held."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lmaas.broker_config.errors import TopologyMismatch
from lmaas.broker_config.local_node import LocalNode
from lmaas.broker_config.scheduling import LANES, lane
from lmaas.broker_config.settings import Settings
from lmaas.producer.client import Client
from lmaas.workers.prefetch import Prefetch
from lmaas.workers.worker import Worker
from tests.integration.lanes import LIMIT, depth, having, make_lanes, until, waiting_packs
from tests.integration.sender import Sender, sending
from tests.integration.stage import Stage

pytestmark = pytest.mark.usefixtures("priced")

#: Milliseconds, in the place of a minute, that a pack may wait in a worker's own lane.
SOON = 300


@contextlib.asynccontextmanager
async def pair(settings: Settings) -> AsyncIterator[tuple[Stage, Stage]]:
    """Two workers, the first of which is held."""
    held, free = Stage("held"), Stage("free")
    held.hold()
    async with held.serving(settings), free.serving(settings):
        yield held, free


async def send_all(sender: Sender, count: int, seconds: float = 0.001) -> list[str]:
    names = [f"pack {number}" for number in range(count)]
    for name in names:
        await sender.send(name, seconds)
    return names


# ----------------------------------------------------------------- prefetch


@pytest.mark.parametrize("seconds", [0.001, 0.01, 0.1, 1.0, 5.0])
async def test_a_worker_that_is_added_gets_all_that_the_held_one_has_not_taken(
    settings: Settings, sender: Sender, seconds: float
) -> None:
    most = Prefetch().wanted(lane(seconds))
    names = await send_all(sender, 2 * most + 10, seconds)
    held, free = Stage("held"), Stage("free")
    held.hold()
    async with held.serving(settings):
        await held.began()
        async with free.serving(settings):
            await free.began(len(names) - most)
            hoard = len(held.packs) + len(held.worker.execution.ready)
            assert hoard <= most
            replies = await sender.replies(len(names) - hoard)
            assert {reply.worker for reply in replies.values()} == {"free"}
            held.release()
            await sender.replies(hoard)
    assert sorted(held.packs + free.packs) == sorted(names)


async def test_a_worker_holds_more_of_a_lane_while_it_is_alone(
    settings: Settings, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmaas.workers.consumer.TUNING_INTERVAL", 0.0)
    first, second = Stage("first"), Stage("second")

    async def held_ahead(seconds: float) -> int:
        """By the first one, after it has run some packs."""
        for number in range(10):
            await sender.send(f"{number}", seconds)
            await sender.reply()
            assert first.consumer._tuning
            await first.consumer._tuning
        return next(x.prefetch for x in first.consumer._lanes if x.name == lane(seconds))

    async with first.serving(settings):
        alone = await held_ahead(0.03)
        async with second.serving(settings):
            assert await held_ahead(0.03) < alone


async def test_short_packs_pass_by_a_worker_that_runs_a_long_one(
    settings: Settings, sender: Sender
) -> None:
    held, free = Stage("held"), Stage("free")
    held.hold()
    async with held.serving(settings):
        await sender.send("long", 1.0)
        await held.began()
        async with free.serving(settings):
            most = Prefetch().wanted("instant")
            await send_all(sender, 3 * most)
            await free.began(2 * most)
            held.release()
            await sender.replies(3 * most + 1)


# -------------------------------------------------------------- round robin


@pytest.fixture
def dealt(settings: Settings) -> Settings:
    return having(settings, balance="round_robin")


async def test_round_robin_deals_to_a_held_worker_as_to_any(
    dealt: Settings, sender: Sender
) -> None:
    async with pair(dealt) as (held, free):
        names = await send_all(sender, 100)
        await sender.replies(50)
        assert len(free.packs) == 50
        assert await waiting_packs(dealt) == 0
        held.release()
        await sender.replies(50)
    assert sorted(held.packs + free.packs) == sorted(names)


async def test_what_was_dealt_to_a_worker_that_stops_is_answered_by_the_other(
    dealt: Settings, sender: Sender
) -> None:
    held, free = Stage("held"), Stage("free")
    held.hold()
    async with free.serving(dealt), held.serving(dealt):
        names = await send_all(sender, 100)
        await sender.replies(50)
        begun = len(held.packs)
        held.worker.stop()
        # It hands back what it has not begun, while it runs the first.
        await sender.replies(50 - begun)
        held.release()
        await sender.replies(begun)
    assert sorted(held.packs + free.packs) == sorted(names)
    assert len(held.packs) == begun


async def test_what_was_dealt_to_a_worker_that_is_killed_is_answered_by_the_other(
    dealt: Settings, sender: Sender
) -> None:
    held, free = Stage("held"), Stage("free")
    held.hold()
    async with free.serving(dealt), killable(held, dealt) as running:
        await send_all(sender, 100)
        await sender.replies(50)
        running.cancel()
        await sender.replies(50)
    assert len(free.packs) == 100


@contextlib.asynccontextmanager
async def killable(stage: Stage, settings: Settings) -> AsyncIterator[asyncio.Task[None]]:
    """A worker to be cancelled: it then hands nothing back, and leaves all to the broker."""
    started = asyncio.Event()
    running = asyncio.create_task(stage.cast(settings).run(started))
    try:
        async with asyncio.timeout(LIMIT):
            await started.wait()
        yield running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        stage.release()


# ------------------------------------------------------------------- random


@pytest.fixture
async def random(node: LocalNode, settings: Settings) -> Settings:
    """On a broker that has the plugin for certain."""
    random = having(settings, broker_url=node.url, balance="random")
    await make_lanes(random)
    return random


async def own_depth(settings: Settings, worker: str, lane: str = "instant") -> int | None:
    return await depth(settings, settings.names.own_lane("sentiment", lane, worker))


async def test_random_gives_some_packs_to_each_worker(random: Settings) -> None:
    first, second = Stage("first"), Stage("second")
    async with sending(random) as sender, first.serving(random), second.serving(random):
        names = await send_all(sender, 200)
        await sender.replies(200)
    assert sorted(first.packs + second.packs) == sorted(names)
    assert min(len(first.packs), len(second.packs)) > 40


async def test_random_serves_callers_and_packs_of_every_lane(random: Settings) -> None:
    async with Stage("only").serving(random) as only, sending(random) as sender:
        for name, seconds in zip(LANES, (0.001, 0.01, 0.1, 1.0, 5.0), strict=True):
            await sender.send(name, seconds)
        await sender.replies(5)
        async with Client(random) as client:
            assert (await client.classify("sentiment", "x")).label == "positive"
        await sender.raw("misplaced", 5.0, "instant")
        await sender.replies(1)
    assert only.lanes == {
        **dict(zip(LANES, LANES, strict=True)),
        "0": "instant",
        "misplaced": "huge",
    }


async def test_random_without_any_worker_waits_in_the_lane_of_all(random: Settings) -> None:
    async with sending(random) as sender:
        await send_all(sender, 5)
        assert await waiting_packs(random) == 5
        async with Stage().serving(random):
            await sender.replies(5)


async def test_what_a_held_worker_was_chosen_for_goes_to_the_other_in_time(
    random: Settings,
) -> None:
    most = 2 * Prefetch().wanted("medium")  # of its own lane, and of the lane of all
    async with sending(random) as sender, pair(random) as (held, free):
        names = await send_all(sender, 100, 0.1)
        await free.began(len(names) - most)
        held.release()
        await sender.replies(len(names))
    assert sorted(held.packs + free.packs) == sorted(names)


async def test_what_waits_for_a_random_worker_that_is_killed_is_answered_by_the_other(
    random: Settings,
) -> None:
    held, free = Stage("held"), Stage("free")
    held.hold()
    async with (
        sending(random) as sender,
        free.serving(random),
        killable(held, random) as running,
    ):
        await send_all(sender, 100)
        await held.began()
        running.cancel()
        await sender.replies(100)
    assert len(free.packs) == 100


@pytest.mark.parametrize("end", ["drained", "killed"])
async def test_packs_published_after_a_random_worker_has_gone_are_answered(
    random: Settings, end: str
) -> None:
    gone, left = Stage("gone"), Stage("left")
    async with sending(random) as sender, left.serving(random):
        if end == "drained":
            async with gone.serving(random):
                pass
        else:
            async with killable(gone, random):
                pass
        sent, enough = 0, time.monotonic() + 3 * SOON / 1000  # looking would keep its lanes
        while time.monotonic() < enough:
            await sender.send(f"pack {sent}")
            sent += 1
        async with asyncio.timeout(LIMIT):
            assert len(await sender.replies(sent)) == sent


async def test_a_random_worker_that_comes_back_finds_its_own_lanes(random: Settings) -> None:
    stage = Stage("same")
    for _ in range(2):
        async with stage.serving(random), sending(random) as sender:
            await send_all(sender, 5)
            await sender.replies(5)


async def test_under_random_what_workers_have_no_room_for_counts_as_waiting(
    random: Settings,
) -> None:
    narrow = having(random, max_waiting=5, prefetch=3)
    stage = Stage()
    stage.hold()
    async with stage.serving(narrow), sending(narrow) as sender:
        try:
            with pytest.raises(Exception, match="max_waiting"):
                await send_all(sender, 50)
        finally:
            stage.release()
            await until(lambda: is_own_empty(narrow, "stage"))


async def is_own_empty(settings: Settings, worker: str) -> bool:
    return not await own_depth(settings, worker)


async def test_a_broker_without_the_plugin_ends_a_random_worker_with_its_name(
    rabbitmq: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmaas.broker_config.node_folder.PLUGIN", "")
    async with LocalNode(tmp_path / "plain") as plain:
        random = having(settings, broker_url=plain.url, balance="random")
        with pytest.raises(TopologyMismatch, match="rabbitmq-plugins enable rabbitmq_random"):
            await Worker(random).run()
        # And the others need none.
        async with Stage().serving(having(random, balance="prefetch")):
            pass
