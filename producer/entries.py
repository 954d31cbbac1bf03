"""What a caller gives, as an item that can be sent; what cannot has an error. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from lmaas.broker_config.codes import Code
from lmaas.broker_config.headers import shortened
from lmaas.broker_config.item_errors import content_error, item_error, pair_item, text_item
from lmaas.broker_config.messages import Item, ItemError, plain
from lmaas.broker_config.settings import Settings

#: A text, a pair of an id and a text, or an Item; what is none of them gets an error as its result.
Entry = Any

_BAD_ID: Final = ItemError(code=Code.INVALID_ITEM, message="the id is not valid UTF-8")


def entry_item(entry: Entry, place: int, limits: Settings) -> Item:
    """Of an entry of a stream; what has no id gets its place in the stream as one."""
    if isinstance(entry, Item):
        return _checked(entry, limits)
    has_id = isinstance(entry, tuple) and len(entry) == 2
    item_id, text = entry if has_id else (place, entry)
    name = _name(item_id)
    readable = _readable(name)
    if readable != name:
        return Item(id=readable, error=_BAD_ID)
    return text_item(name, text, limits.max_item_bytes)


def single_item(given: object, limits: Settings) -> Item:
    """Of a text, which gets the id "0", or an Item."""
    if isinstance(given, Item):
        return _checked(given, limits)
    return text_item("0", given, limits.max_item_bytes)


def _checked(item: Item, limits: Settings) -> Item:
    """An Item as a worker will read it: a caller may have put anything into it."""
    name = _name(item.id)
    readable = _readable(name)
    if readable != name:
        return Item(id=readable, error=_BAD_ID)
    text, pair = plain(item.text), plain(item.text_pair)
    if item.error is not None or item.data is not None or item.tensors is not None:
        return _as_read(msgspec.structs.replace(item, id=name, text=text, text_pair=pair), limits)
    if pair is None:
        return text_item(name, text, limits.max_item_bytes)
    return pair_item(name, text, pair, limits.max_item_bytes)


def _as_read(item: Item, limits: Settings) -> Item:
    try:
        # Before anything is copied.
        error = content_error(item, limits.max_item_bytes, limits.largest_data)
        if error is None:
            item = msgspec.msgpack.decode(msgspec.msgpack.encode(item), type=Item)
            error = item_error(item, limits.max_item_bytes, limits.largest_data)
    except (AttributeError, OverflowError, RecursionError, TypeError, ValueError) as problem:
        words = shortened(f"it cannot be sent: {problem}")
        error = ItemError(code=Code.INVALID_ITEM, message=words)
    return Item(id=item.id, error=error) if error else item


def _name(item_id: object) -> str:
    """The id as a `str`, of a subclass too, whose own conversion may give something else."""
    name = plain(item_id)
    return name if isinstance(name, str) else str.__str__(str(name))


def _readable(name: str) -> str:
    """With escapes for what UTF-8 does not have."""
    return name.encode("utf-8", "backslashreplace").decode()
