"""The local heap: the order in which packs are taken, and how waiting for them ends."""

from __future__ import annotations

import asyncio

import pytest

from lmaas.workers.ready_queue import JOIN_ITEMS, JOIN_SECONDS, ReadyQueue

AGEING = 0.1


def put(
    queue: ReadyQueue[str],
    name: str,
    *,
    seconds: float,
    size: int = JOIN_ITEMS,
    arrival: float = 0,
    kind: str = "model",
) -> None:
    queue.put(name, kind=kind, rank=seconds, seconds=seconds, size=size, arrival=arrival)


async def taken(queue: ReadyQueue[str]) -> list[str]:
    async with asyncio.timeout(60):
        return await queue.take()


async def test_the_shortest_is_taken_first() -> None:
    queue: ReadyQueue[str] = ReadyQueue(AGEING)
    for name, seconds in (("long", 3.0), ("short", 0.1), ("medium", 1.0)):
        put(queue, name, seconds=seconds)
    assert [await taken(queue) for _ in range(3)] == [["short"], ["medium"], ["long"]]


async def test_equals_are_taken_as_they_came() -> None:
    queue: ReadyQueue[str] = ReadyQueue(AGEING)
    for name in "abc":
        put(queue, name, seconds=1.0)
    assert [await taken(queue) for _ in range(3)] == [["a"], ["b"], ["c"]]


@pytest.mark.parametrize(("later", "first"), [(9.0, "short"), (10.0, "long"), (11.0, "long")])
async def test_a_second_of_waiting_makes_up_for_ageing_seconds_of_service(
    later: float, first: str
) -> None:
    queue: ReadyQueue[str] = ReadyQueue(ageing=0.25)
    # 2.5 seconds longer: even after waiting 10 seconds (exact in binary), and then it came first.
    put(queue, "long", seconds=3.0, arrival=100.0)
    put(queue, "short", seconds=0.5, arrival=100.0 + later)
    assert await taken(queue) == [first]


async def test_packs_are_joined_up_to_a_number_of_items() -> None:
    queue: ReadyQueue[str] = ReadyQueue(AGEING)
    for name, size in (("a", 100), ("b", 100), ("c", 57), ("d", 56)):
        put(queue, name, seconds=0.001, size=size)
    assert await taken(queue) == ["a", "b"]
    assert await taken(queue) == ["c", "d"]


async def test_packs_of_different_models_are_not_joined_and_keep_their_order() -> None:
    queue: ReadyQueue[str] = ReadyQueue(AGEING)
    for name, kind in (("a1", "a"), ("a2", "a"), ("b1", "b"), ("a3", "a")):
        put(queue, name, seconds=0.0001, size=1, kind=kind)
    assert [await taken(queue) for _ in range(3)] == [["a1", "a2"], ["b1"], ["a3"]]


async def test_packs_are_joined_up_to_some_seconds() -> None:
    """A short pack does not share its fate with a long one."""
    queue: ReadyQueue[str] = ReadyQueue(AGEING)
    put(queue, "short", seconds=JOIN_SECONDS / 10, size=1)
    put(queue, "long", seconds=JOIN_SECONDS, size=1)
    assert await taken(queue) == ["short"]
    assert await taken(queue) == ["long"]


async def test_a_pack_larger_than_the_number_is_taken_alone() -> None:
    queue: ReadyQueue[str] = ReadyQueue(AGEING)
    put(queue, "huge", seconds=0.001, size=4_096)
    put(queue, "next", seconds=0.002, size=1)
    assert await taken(queue) == ["huge"]


async def test_a_taker_waits_for_the_next_entry() -> None:
    queue: ReadyQueue[str] = ReadyQueue(AGEING)
    taking = asyncio.create_task(taken(queue))
    await asyncio.sleep(0)
    assert not taking.done()
    put(queue, "late", seconds=1.0)
    assert await taking == ["late"]


async def test_emptying_gives_everything_and_leaves_nothing() -> None:
    queue: ReadyQueue[str] = ReadyQueue(AGEING)
    for name in "ab":
        put(queue, name, seconds=1.0)
    assert len(queue) == 2
    assert sorted(queue.empty()) == ["a", "b"]
    assert len(queue) == 0
    assert queue.empty() == []


async def test_a_closed_queue_gives_what_is_left_and_then_nothing() -> None:
    queue: ReadyQueue[str] = ReadyQueue(AGEING)
    put(queue, "left", seconds=1.0)
    queue.close()
    assert await taken(queue) == ["left"]
    assert await taken(queue) == []


async def test_closing_ends_the_wait_of_a_taker() -> None:
    queue: ReadyQueue[str] = ReadyQueue(AGEING)
    taking = asyncio.create_task(taken(queue))
    await asyncio.sleep(0)
    queue.close()
    assert await taking == []
