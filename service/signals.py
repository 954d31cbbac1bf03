"""The first signal asks to stop, the second one forces it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable


def on_signal(stop: Callable[[], object], force: Callable[[], object]) -> None:
    """Call `stop` at the first SIGINT or SIGTERM, and `force` at each further one."""
    calls = iter([stop])

    def received() -> None:
        next(calls, force)()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, received)
