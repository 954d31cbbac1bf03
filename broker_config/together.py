"""Coroutines that run together and fail as one does, with the error itself.

A TaskGroup raises groups of errors, and Python 3.11.2 wraps even the one that an `except*` picks
out of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def all_of(*work: Coroutine[Any, Any, None]) -> None:
    """Until all have ended. What one raises ends the others, and is raised."""
    await _until(asyncio.FIRST_EXCEPTION, work)


async def first_of(*work: Coroutine[Any, Any, None]) -> None:
    """Until one of them ends, or raises; the others are cancelled."""
    await _until(asyncio.FIRST_COMPLETED, work)


async def _until(when: str, work: tuple[Coroutine[Any, Any, None], ...]) -> None:
    tasks = [asyncio.create_task(one) for one in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=when)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
