"""A bounded number of calls on their way: in order, or as they are completed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from typing import Any, TypeVar

P = TypeVar("P")
R = TypeVar("R")


async def windowed(
    source: AsyncIterable[P],
    run: Callable[[P], Awaitable[R]],
    size: int,
    *,
    ordered: bool = True,
) -> AsyncGenerator[R, None]:
    """`run` of each of the source, at most `size` at a time, fed while results are taken.

    Nothing is read ahead of the window, so memory is bounded by it. The first error of `run` is
    raised in its place and ends what is on its way; one of the source is raised after the results
    of what came before it.
    """
    room = asyncio.Semaphore(size)
    arrivals: asyncio.Queue[asyncio.Task[Any]] = asyncio.Queue()
    under_way: set[asyncio.Task[R]] = set()

    async def feed() -> None:
        await room.acquire()
        async for element in source:
            task = asyncio.ensure_future(run(element))
            under_way.add(task)
            if ordered:
                arrivals.put_nowait(task)
            else:
                task.add_done_callback(arrivals.put_nowait)
            await room.acquire()

    feeder = asyncio.create_task(feed())
    feeder.add_done_callback(arrivals.put_nowait)
    try:
        while under_way or not feeder.done():
            task = await arrivals.get()
            if task is not feeder:
                result = await task
                under_way.discard(task)
                room.release()
                yield result
        await feeder
    finally:
        for task in (feeder, *under_way):
            task.cancel()
        await asyncio.gather(feeder, *under_way, return_exceptions=True)
