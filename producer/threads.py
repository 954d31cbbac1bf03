"""Blocking work beside the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")


async def beside(work: Callable[[], T]) -> T:
    """Run in a thread that nobody has to wait for: a read of a pipe may last forever."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(outcome: Callable[[], None]) -> None:
        if not done.done():
            outcome()

    def run() -> None:
        try:
            value = work()
            outcome = partial(done.set_result, value)
        except Exception as error:
            outcome = partial(done.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, outcome)

    threading.Thread(target=run, name="lmaas-read", daemon=True).start()
    return await done


async def settled(work: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
    """Run in a thread, to its end even when cancelled: half a write helps nobody."""
    task = asyncio.create_task(asyncio.to_thread(work, *args, **kwargs))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


async def opened(work: Callable[[], T], close: Callable[[T], object]) -> T:
    """Run in a thread what opens something; if that is cancelled, it is closed."""
    opening = asyncio.create_task(asyncio.to_thread(work))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        with contextlib.suppress(Exception):
            close(await opening)
        raise
