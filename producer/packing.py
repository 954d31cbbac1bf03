"""A stream of texts into packs of items."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from typing import Any, Final

import msgspec

from lmaas.broker_config.codes import Code
from lmaas.broker_config.messages import Item, ItemError, plain, text_item
from lmaas.broker_config.settings import Settings
from lmaas.producer.packer import Estimate, Packer

#: A text, a pair of an id and a text, or an Item; what is no text gets an error as its result.
Entry = Any
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
    reader, packer = _Reader(settings), Packer(settings, estimate)
    failure = None
    try:
        if isinstance(entries, AsyncIterable):
            async with contextlib.aclosing(_with_pauses(entries, settings)) as source:
                async for entry in source:
                    pauses = entry is _PAUSE
                    if pack := packer.rest() if pauses else packer.add(reader.read(entry)):
                        yield pack
        else:
            for entry in entries:
                if pack := packer.add(reader.read(entry)):
                    yield pack
    except Exception as error:
        failure = error
    if pack := packer.rest():
        yield pack
    if failure is not None:
        raise failure


class _Reader:
    """Makes items of entries, and numbers what has no id."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._place = 0

    def read(self, entry: Entry) -> Item:
        item = self._checked(entry) if isinstance(entry, Item) else self._item(entry)
        self._place += 1
        return item

    def _item(self, entry: Entry) -> Item:
        is_pair = isinstance(entry, tuple) and len(entry) == 2
        item_id, text = entry if is_pair else (self._place, entry)
        name = _name(item_id)
        readable = _readable(name)
        if readable != name:
            return Item(id=readable, error=_BAD_ID)
        return text_item(name, text, self._settings.max_item_bytes)

    def _checked(self, item: Item) -> Item:
        """An item that somebody made, which nothing has looked into."""
        if item.error is None and item.data is None and item.tensor is None:
            return self._item((item.id, item.text))
        try:
            msgspec.msgpack.encode(item)
        except (TypeError, ValueError, OverflowError) as error:
            fault = ItemError(code=Code.INVALID_ITEM, message=f"it cannot be sent: {error!r}")
            return Item(id=_readable(_name(item.id)), error=fault)
        return item


def _name(item_id: object) -> str:
    """The id as a `str`, of a subclass too, whose own conversion may give something else."""
    name = plain(item_id)
    return name if isinstance(name, str) else str.__str__(str(name))


def _readable(name: str) -> str:
    """With escapes for what UTF-8 does not have."""
    return name.encode("utf-8", "backslashreplace").decode()


_BAD_ID: Final = ItemError(code=Code.INVALID_ITEM, message="the id is not valid UTF-8")
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
