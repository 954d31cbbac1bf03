"""Why an item cannot be classified by any model: the same words on every way in. Pure."""

from __future__ import annotations

import math
import struct
from typing import Final

from lmaas.broker_config.codes import Code
from lmaas.broker_config.headers import shortened
from lmaas.broker_config.messages import DATATYPES, Item, ItemError, Tensor, plain

#: Values of a tensor: the bytes of more could not be counted in 63 bits, so that no array holds
#: them; not even one that has none, because another dimension is 0.
MAX_VALUES: Final = 2**59
#: Bytes of a datatype that nobody knows, in the words about it.
_SHOWN: Final = 32

#: What JSON calls the types that it has.
_KINDS: Final = {
    type(None): "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    list: "an array",
    dict: "an object",
}
_LENGTH: Final = struct.Struct("<I")


def item_error(item: Item, max_bytes: int, max_data_bytes: int | None = None) -> ItemError | None:
    """Why an item cannot be run by any model, or None.

    Its data may have `max_data_bytes`, or as many as its texts and tensors where that is None.
    """
    if item.error is not None:
        return item.error
    if item.text is not None and item.data is None and item.tensors is None:
        if item.text_pair is None:
            return text_error(item.text, max_bytes)
        return pair_error(item.text, item.text_pair, max_bytes)
    if sum(part is not None for part in (item.text, item.data, item.tensors)) != 1:
        return _invalid("an item needs exactly one of text, data, tensors")
    if item.text_pair is not None:
        return _invalid("text_pair is the second of two texts: it comes with text only")
    return content_error(item, max_bytes, max_data_bytes) or _tensors_error(item)


def text_item(item_id: str, text: object, max_bytes: int) -> Item:
    """An item of whatever a sender has where a text should be; what is no text has an error."""
    if type(text) is not str:
        text = plain(text)
    error = text_error(text, max_bytes)
    if error is not None:
        return Item(id=item_id, error=error)
    return Item(id=item_id, text=text)  # type: ignore[arg-type]  # text_error saw that it is str


def pair_item(item_id: str, text: object, pair: object, max_bytes: int) -> Item:
    """As `text_item`, of two texts."""
    text, pair = plain(text), plain(pair)
    error = pair_error(text, pair, max_bytes)
    if error is not None:
        return Item(id=item_id, error=error)
    return Item(id=item_id, text=text, text_pair=pair)  # type: ignore[arg-type]  # they are str


def text_error(text: object, max_bytes: int) -> ItemError | None:
    """Why a text cannot be classified, or None.

    What is of a subclass of `str` has to be made `plain` before.
    """
    if type(text) is not str:
        kind = _KINDS.get(type(text), type(text).__name__)
        return ItemError(code=Code.NOT_TEXT, message=f"expected a text, got {kind}")
    if not text or text.isspace():
        return ItemError(code=Code.EMPTY_TEXT, message="the text is empty")
    if not text.isascii():
        try:
            size = len(text.encode())
        except UnicodeEncodeError as error:
            return ItemError(
                code=Code.INVALID_UTF8,
                message=f"not valid UTF-8 at character {error.start}",
            )
    else:
        size = len(text)
    return size_error(size, max_bytes)


def pair_error(text: object, pair: object, max_bytes: int) -> ItemError | None:
    """As `text_error`, of two texts, which have the limit together."""
    if error := text_error(text, max_bytes):
        return error
    if error := text_error(pair, max_bytes):
        return ItemError(code=error.code, message=f"text_pair: {error.message}")
    return size_error(len(f"{text}{pair}".encode()), max_bytes)


def content_error(item: Item, max_bytes: int, max_data_bytes: int | None) -> ItemError | None:
    """For an item with more bytes than its kind may have."""
    if item.data is None or max_data_bytes is None:
        return size_error(item.size, max_bytes)
    return size_error(item.size, max_data_bytes, "max_data_bytes")


def size_error(size: int, max_bytes: int, setting: str = "max_item_bytes") -> ItemError | None:
    """For an item with more bytes than it may have."""
    if size <= max_bytes:
        return None
    return ItemError(
        code=Code.TOO_LARGE,
        message=f"{size:,} bytes; the limit is {max_bytes:,} (setting {setting})",
    )


def _tensors_error(item: Item) -> ItemError | None:
    for name, tensor in (item.tensors or {}).items():
        if problem := _problem(tensor):
            return _invalid(f"tensor {name!r}: {problem}")
    return None


def _problem(tensor: Tensor) -> str | None:
    """What is wrong with a tensor's type, its shape or the bytes of its values, or None."""
    kind, shape, data = tensor.datatype, tensor.shape, tensor.data
    if kind not in DATATYPES:
        known = ", ".join(DATATYPES)
        return f"its datatype {shortened(kind, _SHOWN)!r} is none of {known}"
    if math.prod(side for side in shape if side) > MAX_VALUES:
        return f"no array can have its shape {shape}"
    count = math.prod(shape)
    if kind == "BYTES":
        if _are_strings(data, count):
            return None
        return (
            f"its {len(data):,} bytes are not the {count:,} values of its shape {shape}: each of "
            "BYTES is a length (32 bits, little-endian) and so many bytes"
        )
    size = count * DATATYPES[kind]
    if len(data) == size:
        return None
    return f"its data has {len(data):,} bytes; {kind} of its shape {shape} has {size:,}"


def _are_strings(data: bytes, count: int) -> bool:
    """Whether these are so many strings, each after its length."""
    start = 0
    for _ in range(count):
        if start + _LENGTH.size > len(data):
            return False
        start += _LENGTH.size + _LENGTH.unpack_from(data, start)[0]
    return start == len(data)


def _invalid(message: str) -> ItemError:
    return ItemError(code=Code.INVALID_ITEM, message=message)
