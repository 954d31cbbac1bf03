"""Running a coroutine for a command: on uvloop where it is installed, and stoppable."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run to the end, from the main thread.

    The first SIGINT or SIGTERM cancels the coroutine, which then may tidy up, and is raised as
    KeyboardInterrupt; the second ends the process.
    """
    with (
        contextlib.closing(coroutine),  # where it was never begun, Python would complain
        asyncio.Runner(loop_factory=_loop_factory()) as runner,
    ):
        return runner.run(_stoppable(coroutine))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if importlib.util.find_spec("uvloop") is None:
        return None
    import uvloop

    return uvloop.new_event_loop


async def _stoppable(coroutine: Coroutine[Any, Any, T]) -> T:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(coroutine)
    stopped = False

    def stop(number: int) -> None:
        nonlocal stopped
        if stopped:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        stopped = True
        task.cancel()

    for number in _SIGNALS:
        loop.add_signal_handler(number, stop, number)
    try:
        return await task
    except asyncio.CancelledError:
        if stopped:
            raise KeyboardInterrupt from None
        raise
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
