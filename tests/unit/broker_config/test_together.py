"""What runs together fails as one of it does, and leaves nothing running."""

from __future__ import annotations

import asyncio

import pytest

from lmaas.broker_config.together import all_of, first_of


class Waiting:
    """Waits for ever, and notes that it was cancelled."""

    cancelled = False

    async def run(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


async def fail() -> None:
    raise OSError("the reason")


async def test_the_error_itself_is_raised_and_the_others_are_cancelled() -> None:
    other = Waiting()
    with pytest.raises(OSError, match="the reason"):
        await all_of(other.run(), fail())
    assert other.cancelled


async def test_all_and_first() -> None:
    other = Waiting()
    await all_of(asyncio.sleep(0), asyncio.sleep(0.001))
    await first_of(other.run(), asyncio.sleep(0))
    assert other.cancelled


async def test_who_is_cancelled_cancels_all() -> None:
    both = Waiting(), Waiting()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await all_of(*(one.run() for one in both))
    assert all(one.cancelled for one in both)
