"""A bounded window of calls: order, bound, errors, and that nothing goes on after the end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmaas.producer.window import windowed


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


async def collected(results: AsyncIterator[int], taken: list[int] | None = None) -> list[int]:
    """All results; `taken` has them too when an error ends it."""
    taken = [] if taken is None else taken
    async with asyncio.timeout(60):
        async for result in results:
            taken.append(result)
    return taken


def finishing_in(order: list[int]) -> Callable[[int], Awaitable[int]]:
    """A `run` whose calls end in this order, as long as all of them are under way."""
    gates = {number: asyncio.Event() for number in order}
    following = dict(zip(order, [*order[1:], None], strict=True))
    gates[order[0]].set()

    async def run(number: int) -> int:
        await gates[number].wait()
        if (after := following[number]) is not None:
            gates[after].set()
        return number

    return run


async def test_results_keep_the_order_of_the_source() -> None:
    run = finishing_in([3, 1, 2, 0])
    assert await collected(windowed(numbers(4), run, 4)) == [0, 1, 2, 3]


async def test_results_come_as_they_are_completed() -> None:
    run = finishing_in([3, 1, 2, 0])
    assert await collected(windowed(numbers(4), run, 4, ordered=False)) == [3, 1, 2, 0]


@given(st.integers(0, 40), st.integers(1, 8), st.integers(1, 9), st.booleans(), st.randoms())
@settings(deadline=None, max_examples=50)
def test_no_more_than_the_window_are_under_way_or_read(
    count: int, size: int, heavy: int, ordered: bool, source: object
) -> None:
    under_way, most, read = 0, 0, 0

    async def counted() -> AsyncIterator[int]:
        nonlocal read
        for number in range(count):
            read += 1
            yield number

    def places(number: int) -> int:
        return min(1 + number % heavy, size)

    async def run(number: int) -> int:
        nonlocal under_way, most
        under_way += places(number)
        most = max(most, under_way)
        for _ in range(source.randrange(4)):  # type: ignore[attr-defined]
            await asyncio.sleep(0)
        under_way -= places(number)
        return number

    async def main() -> None:
        taken = []
        async for result in windowed(counted(), run, size, places, ordered=ordered):
            assert read <= len(taken) + 1 + size
            taken.append(result)
        assert sorted(taken) == list(range(count))
        assert not ordered or taken == list(range(count))

    asyncio.run(main())
    assert most <= size


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_source_that_pauses_holds_no_result_back(ordered: bool) -> None:
    more = asyncio.Event()

    async def pausing() -> AsyncIterator[int]:
        yield 1
        await more.wait()
        yield 2

    async def run(number: int) -> int:
        return number

    async with contextlib.aclosing(windowed(pausing(), run, 8, ordered=ordered)) as results:
        async with asyncio.timeout(60):
            assert await anext(results) == 1
            more.set()
            assert await anext(results) == 2


@pytest.mark.parametrize("ordered", [True, False])
async def test_an_error_of_a_call_ends_everything(ordered: bool) -> None:
    cancelled = []
    all_began = asyncio.Event()

    async def run(number: int) -> int:
        if number == 1:
            await all_began.wait()
            raise LookupError("one")
        if number == 4:
            all_began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(number)
            raise
        return number

    async def from_one() -> AsyncIterator[int]:
        for number in range(1, 100):
            yield number

    with pytest.raises(LookupError, match="one"):
        await collected(windowed(from_one(), run, 4, ordered=ordered))
    assert sorted(cancelled) == [2, 3, 4]


async def test_an_error_keeps_its_place_in_the_order() -> None:
    async def run(number: int) -> int:
        if number == 2:
            raise LookupError
        await asyncio.sleep(0)
        return number

    taken: list[int] = []
    with pytest.raises(LookupError):
        await collected(windowed(numbers(5), run, 5), taken)
    assert taken == [0, 1]


@pytest.mark.parametrize("ordered", [True, False])
async def test_an_error_of_the_source_comes_after_the_results_of_what_came_before(
    ordered: bool,
) -> None:
    async def failing() -> AsyncIterator[int]:
        yield 0
        yield 1
        raise LookupError("source")

    taken: list[int] = []
    with pytest.raises(LookupError, match="source"):
        await collected(windowed(failing(), finishing_in([1, 0]), 8, ordered=ordered), taken)
    assert taken == ([0, 1] if ordered else [1, 0])


async def test_closing_early_cancels_what_is_under_way_and_reads_no_more() -> None:
    read, cancelled = [], []

    async def source() -> AsyncIterator[int]:
        for number in range(100):
            read.append(number)
            yield number

    async def run(number: int) -> int:
        try:
            if number:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(number)
            raise
        return number

    results = windowed(source(), run, 3)
    assert await anext(results) == 0
    before = len(read)
    await results.aclose()
    assert len(read) == before
    assert set(cancelled) <= set(read) - {0}
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_empty_source_has_no_results() -> None:
    assert await collected(windowed(numbers(0), finishing_in([0]), 3)) == []
