"""A stream of texts or items into packs."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator
from itertools import count
from typing import Final

from lmaas.broker_config.messages import Item
from lmaas.broker_config.settings import Settings
from lmaas.producer.entries import Entry, entry_item
from lmaas.producer.packer import Estimate, Packer

Entries = Iterable[Entry] | AsyncIterable[Entry]


async def packs(
    entries: Entries, settings: Settings, estimate: Estimate | None = None
) -> AsyncGenerator[list[Item], None]:
    """Items in packs; see Packer.

    A text without an id gets its place in the stream, from 0. An asynchronous source that
    pauses has its pack closed after `linger` seconds; a plain one is read on the event loop, so
    it should not block for long. An error of the source is raised after what came before it.
    """
    if isinstance(entries, str | bytes):
        raise TypeError("expected an iterable of texts, got one text: put it into a list")
    packer = Packer(settings, estimate)
    add = functools.partial(_added, packer, count(), settings)
    failure = None
    try:
        if isinstance(entries, AsyncIterable):
            async with contextlib.aclosing(_with_pauses(entries, settings)) as source:
                async for entry in source:
                    if pack := add(entry):
                        yield pack
        else:
            for entry in entries:
                if pack := add(entry):
                    yield pack
    except Exception as error:
        failure = error
    if pack := packer.rest():
        yield pack
    if failure is not None:
        raise failure


def _added(packer: Packer, places: Iterator[int], settings: Settings, entry: Entry) -> list[Item]:
    """The pack that this entry fills, or that a pause ends; empty when there is still room."""
    if entry is _PAUSE:
        return packer.rest()
    return packer.add(entry_item(entry, next(places), settings))


_PAUSE: Final = object()
_END: Final = object()


class _Failure:
    def __init__(self, error: Exception) -> None:
        self.error = error


async def _with_pauses(
    entries: AsyncIterable[Entry], settings: Settings
) -> AsyncGenerator[Entry, None]:
    """The entries, and _PAUSE whenever the next one does not come within `linger`.

    The source has a task of its own, because giving up on it would cancel what runs inside it.
    """
    queue: asyncio.Queue[Entry] = asyncio.Queue(settings.pack_items)

    async def read() -> None:
        try:
            async for entry in entries:
                await queue.put(entry)
        except Exception as error:
            await queue.put(_Failure(error))
        else:
            await queue.put(_END)

    reader = asyncio.create_task(read())
    try:
        while True:
            entry = await _next(queue, settings.linger)
            if entry is _PAUSE:
                yield entry
                entry = await queue.get()
            if entry is _END:
                return
            if isinstance(entry, _Failure):
                raise entry.error
            yield entry
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)


async def _next(queue: asyncio.Queue[Entry], linger: float) -> Entry:
    if not queue.empty():
        return queue.get_nowait()
    try:
        async with asyncio.timeout(linger):
            return await queue.get()
    except TimeoutError:
        return _PAUSE
