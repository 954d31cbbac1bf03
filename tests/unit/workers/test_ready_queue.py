"""The local heap: the order in which packs are taken, and how waiting for them ends."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.ready_queue import AGEING, ReadyQueue


async def taken(queue: ReadyQueue[str], size: int) -> list[str]:
    async with asyncio.timeout(5):
        return await queue.take(size)


async def test_the_shortest_is_taken_first() -> None:
    queue: ReadyQueue[str] = ReadyQueue()
    for name, seconds in (("long", 3.0), ("short", 0.1), ("medium", 1.0)):
        queue.put(name, seconds=seconds, size=1, arrival=0.0)
    assert await taken(queue, 3) == ["short", "medium", "long"]


async def test_equals_are_taken_as_they_came() -> None:
    queue: ReadyQueue[str] = ReadyQueue()
    for name in "abc":
        queue.put(name, seconds=1.0, size=1, arrival=5.0)
    assert await taken(queue, 3) == ["a", "b", "c"]


@pytest.mark.parametrize(("later", "first"), [(9.0, "short"), (10.0, "long"), (11.0, "long")])
async def test_a_second_of_waiting_makes_up_for_ageing_seconds_of_service(
    later: float, first: str
) -> None:
    queue: ReadyQueue[str] = ReadyQueue(ageing=0.25)
    # 2.5 seconds longer: even after waiting 10 seconds (exact in binary), and then it came first.
    queue.put("long", seconds=3.0, size=1, arrival=100.0)
    queue.put("short", seconds=0.5, size=1, arrival=100.0 + later)
    assert (await taken(queue, 1)) == [first]


@given(st.lists(st.floats(1e-6, 60), min_size=1, max_size=30), st.floats(0, 1e6))
def test_an_entry_is_passed_only_by_those_that_came_within_its_patience(
    costs: list[float], start: float
) -> None:
    """Nothing starves: who came `seconds / AGEING` later cannot pass, however short it is."""
    queue: ReadyQueue[int] = ReadyQueue()
    oldest = max(costs)
    queue.put(-1, seconds=oldest, size=1, arrival=start)
    for number, seconds in enumerate(costs):
        queue.put(number, seconds=seconds, size=1, arrival=start + oldest / AGEING + 1)
    assert asyncio.run(queue.take(1)) == [-1]


async def test_packs_are_joined_up_to_the_size() -> None:
    queue: ReadyQueue[str] = ReadyQueue()
    for name, size in (("a", 100), ("b", 100), ("c", 57), ("d", 56)):
        queue.put(name, seconds=1.0, size=size, arrival=0.0)
    assert await taken(queue, 256) == ["a", "b"]
    assert await taken(queue, 256) == ["c", "d"]


async def test_a_pack_larger_than_the_size_is_taken_alone() -> None:
    queue: ReadyQueue[str] = ReadyQueue()
    queue.put("huge", seconds=1.0, size=4_096, arrival=0.0)
    queue.put("next", seconds=2.0, size=1, arrival=0.0)
    assert await taken(queue, 256) == ["huge"]


async def test_a_taker_waits_for_the_next_entry() -> None:
    queue: ReadyQueue[str] = ReadyQueue()
    taking = asyncio.create_task(taken(queue, 1))
    await asyncio.sleep(0)
    assert not taking.done()
    queue.put("late", seconds=1.0, size=1, arrival=0.0)
    assert await taking == ["late"]


async def test_emptying_gives_everything_and_leaves_nothing() -> None:
    queue: ReadyQueue[str] = ReadyQueue()
    for name in "ab":
        queue.put(name, seconds=1.0, size=1, arrival=0.0)
    assert len(queue) == 2
    assert sorted(queue.empty()) == ["a", "b"]
    assert len(queue) == 0
    assert queue.empty() == []


async def test_a_closed_queue_gives_what_is_left_and_then_nothing() -> None:
    queue: ReadyQueue[str] = ReadyQueue()
    queue.put("left", seconds=1.0, size=1, arrival=0.0)
    queue.close()
    assert await taken(queue, 1) == ["left"]
    assert await taken(queue, 1) == []


async def test_closing_ends_the_wait_of_a_taker() -> None:
    queue: ReadyQueue[str] = ReadyQueue()
    taking = asyncio.create_task(taken(queue, 1))
    await asyncio.sleep(0)
    queue.close()
    assert await taking == []
