"""For what nobody tells: looked at again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

#: Seconds between two looks.
POLL: Final = 0.02


async def until(condition: Callable[[], Awaitable[bool]], pause: float = POLL) -> None:
    """Returns when it holds."""
    while not await condition():  # noqa: ASYNC110 - there is no event
        await asyncio.sleep(pause)
