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
    places: Callable[[P], int] = lambda _: 1,
    *,
    ordered: bool = True,
) -> AsyncGenerator[R, None]:
    """`run` of each of the source, at most `size` at a time, fed while results are taken.

    One may take several `places` of the window. Nothing but one that waits for these is read ahead
    of the window, so memory is bounded by it. The first error of `run` is
    raised in its place and ends what is on its way; one of the source is raised after the results
    of what came before it.
    """
    room = asyncio.Semaphore(size)
    arrivals: asyncio.Queue[asyncio.Task[Any]] = asyncio.Queue()
    #: With the places that each takes.
    under_way: dict[asyncio.Task[R], int] = {}

    async def feed() -> None:
        await room.acquire()
        async for element in source:
            taken = min(places(element), size)
            for _ in range(taken - 1):
                await room.acquire()
            task = asyncio.ensure_future(run(element))
            under_way[task] = taken
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
                for _ in range(under_way.pop(task)):
                    room.release()
                yield result
        await feeder
    finally:
        for task in (feeder, *under_way):
            task.cancel()
        await asyncio.gather(feeder, *under_way, return_exceptions=True)
