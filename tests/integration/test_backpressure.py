"""Full lanes: who is told, who waits, and how much there ever is of what nobody takes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import sys
from collections.abc import AsyncIterator, Iterator

import psutil
import pytest

import lmaas
from lmaas.broker_config.settings import Settings
from lmaas.producer.batch import Jobs
from lmaas.producer.client import Client
from tests.integration.lanes import LIMIT, having, until, waiting_packs
from tests.integration.sender import Sender, sending
from tests.integration.stage import Stage

pytestmark = pytest.mark.usefixtures("priced", "lanes")

#: Packs more or less than `max_waiting`, because the broker is asked meanwhile.
ABOUT = 2


@pytest.fixture
def narrow(settings: Settings) -> Settings:
    """Lanes of five packs."""
    return having(settings, max_waiting=5, pack_items=1)


async def fill(sender: Sender, most: int = 100) -> lmaas.Busy:
    """Publishes until the lane is full."""
    for number in range(most):
        try:
            await sender.send(f"filler {number}")
        except lmaas.Busy as busy:
            return busy
    raise AssertionError(f"{most} packs are in the lane")


async def test_a_full_lane_takes_no_more_and_says_what_to_do(narrow: Settings) -> None:
    async with sending(narrow) as sender:
        busy = await fill(sender)
    assert 5 - ABOUT <= await waiting_packs(narrow) <= 5 + ABOUT
    assert 0 < busy.retry_after <= 60
    assert isinstance(busy, lmaas.LmaasError)
    for word in ("'instant'", "'sentiment'", "max_waiting", "try again later"):
        assert word in str(busy)


async def test_a_single_call_is_told_at_once_that_the_lane_is_full(narrow: Settings) -> None:
    async with sending(narrow) as sender:
        await fill(sender)
    async with Client(narrow) as client:
        # The first ones find out for the client.
        calls = [
            asyncio.create_task(client.classify("sentiment", f"{number}")) for number in range(20)
        ]
        async with asyncio.timeout(LIMIT):
            done, pending = await asyncio.wait(calls, return_when=asyncio.FIRST_EXCEPTION)
        assert all(isinstance(call.exception(), lmaas.Busy) for call in done)
        with pytest.raises(lmaas.Busy):
            await client.classify("sentiment", "one more")
        for call in pending:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
    assert await waiting_packs(narrow) <= 5 + ABOUT + 5 + ABOUT


async def test_other_lanes_have_room_while_one_is_full(narrow: Settings) -> None:
    async with sending(narrow) as sender:
        await fill(sender)
        before = await waiting_packs(narrow)
        await sender.send("long", 1.0)
    assert await waiting_packs(narrow) == before + 1


async def test_a_lane_that_was_full_takes_packs_again(narrow: Settings) -> None:
    async with sending(narrow) as sender:
        await fill(sender)
        waiting = await waiting_packs(narrow)
        async with Stage().serving(narrow):
            await sender.replies(waiting)

        async def taken() -> bool:
            with contextlib.suppress(lmaas.Busy):
                await sender.send("again")
                return True
            return False

        await until(taken)


async def test_many_texts_wait_for_room_until_a_worker_comes(narrow: Settings) -> None:
    async with Client(having(narrow, window=8)) as client:
        texts = [(str(number), "x") for number in range(60)]
        found = asyncio.create_task(labels(client, texts))

        async def full() -> bool:
            return await waiting_packs(narrow) >= 5 - ABOUT

        await until(full)
        # What one caller has on its way when it asks is not seen by the broker yet.
        assert await waiting_packs(narrow) <= 5 + 8 + ABOUT
        assert not found.done()
        stage = Stage()
        async with stage.serving(narrow), asyncio.timeout(LIMIT):
            assert await found == [name for name, _ in texts]
    assert len(stage.packs) == 60


async def labels(client: Client, texts: list[tuple[str, str]]) -> list[str]:
    return [result.id async for result in client.classify_many("sentiment", texts) if result.label]


async def test_a_job_waits_for_room_until_a_worker_comes(narrow: Settings) -> None:
    async with Jobs(having(narrow, timeout=0.1)) as jobs:
        submitted = asyncio.create_task(jobs.submit("sentiment", ["x"] * 60, job="night"))

        async def full() -> bool:
            return await waiting_packs(narrow) >= 5 - ABOUT

        await until(full)
        assert not (await asyncio.wait([submitted], timeout=0.5))[0]
        stage = Stage()
        async with stage.serving(narrow), asyncio.timeout(LIMIT):
            entry = await submitted
            found = [chunk async for chunk in jobs.results("night")]
    assert len(found) == entry.chunks == 60
    assert sorted(stage.packs, key=int) == [str(number) for number in range(60)]


async def test_who_waits_for_room_gives_up_after_its_time(narrow: Settings) -> None:
    async with sending(narrow) as sender:
        await fill(sender)
    async with Client(having(narrow, timeout=0.5)) as client:
        with pytest.raises((lmaas.Busy, lmaas.TimeLimitExceeded)):
            await labels(client, [(str(number), "x") for number in range(40)])


# --------------------------------------------------------------- flat memory


class Source:
    """Texts of so many characters without end, which counts those that were taken."""

    def __init__(self, length: int = 1_000) -> None:
        self._length = length
        self.taken = 0

    def __iter__(self) -> Iterator[str]:
        for self.taken in itertools.count(1):
            yield f"{self.taken} " + "x" * self._length

    async def slowly(self) -> AsyncIterator[str]:
        for text in self:
            yield text


@pytest.mark.parametrize("kind", ["iterable", "asynchronous"])
async def test_a_source_is_read_no_further_ahead_than_the_window(
    settings: Settings, kind: str
) -> None:
    window = 8
    small = having(settings, window=window, prefetch=4, pack_items=1)
    source, stage = Source(), Stage()
    stage.hold()
    async with stage.serving(small), Client(small) as client:
        texts = source if kind == "iterable" else source.slowly()
        stream = client.classify_many("sentiment", texts, ordered=False)
        async with contextlib.aclosing(stream) as results:
            first = asyncio.create_task(anext(results))
            await stage.began()
            # As many as it wants to have on their way; more would have come by the next answer.
            await until(lambda: on_their_way(small, stage, window))
            assert source.taken <= 2 * window + 2
            for answered in range(1, 50):
                stage.step()
                await (first if answered == 1 else anext(results))
                assert source.taken <= len(stage.packs) + 2 * window + 2
                assert await waiting_packs(small) + len(stage.worker.execution.ready) <= window
            stage.release()


async def on_their_way(settings: Settings, stage: Stage, packs: int) -> bool:
    held = len(stage.worker.execution.ready) + len(stage.packs)
    return await waiting_packs(settings) + held >= packs


@pytest.mark.chaos
async def test_memory_stays_flat_over_thousands_of_packs(settings: Settings) -> None:
    small = having(settings, window=16, pack_items=1)
    source, stage = Source(4_000), Stage()
    async with stage.serving(small), Client(small) as client:
        stream = client.classify_many("sentiment", source)
        async with contextlib.aclosing(stream) as results:
            await answers(results, stage, 1_000)
            before, objects = resident(), live()
            await answers(results, stage, 4_000)
            after = resident()
            # Of what belongs to a pack not even one small object is kept.
            assert live() - objects < 3_000
    assert source.taken >= 5_000
    # Of 16 MB of texts nothing is kept.
    assert after - before < 4_000_000


def resident() -> int:
    """Bytes of memory that this process has."""
    return psutil.Process().memory_info().rss


def live() -> int:
    """Small blocks of memory that hold something; tracemalloc would make all this take 3 times as
    long."""
    gc.collect()
    return sys.getallocatedblocks()


async def answers(results: AsyncIterator[lmaas.Result], stage: Stage, count: int) -> None:
    for _ in range(count):
        await anext(results)
    stage.runs.clear()
    stage.lanes.clear()


# ----------------------------------------------------------------------- end


async def test_the_replies_of_a_client_that_left_stop_nobody(narrow: Settings) -> None:
    """Its packs stay in the lanes; their results queue is gone."""
    async with Client(narrow) as client:
        calls = [asyncio.create_task(client.classify("sentiment", f"{n}")) for n in range(5)]

        async def waits() -> bool:
            return await waiting_packs(narrow) >= 2

        await until(waits)
    await asyncio.gather(*calls, return_exceptions=True)
    stage = Stage()
    async with stage.serving(narrow), Client(narrow) as client:
        assert (await client.classify("sentiment", "x")).label == "positive"
    assert await waiting_packs(narrow) == 0
