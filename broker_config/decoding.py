"""A request from the bytes of its body, which anybody may have written. Pure.

What decoding may cost is bounded by what is counted before it: bytes, items, and in JSON, which
does not say how long its lists are, what separates one value from the next.
"""

from __future__ import annotations

import functools
import json
import operator
import re
import sys
from collections.abc import Callable
from typing import Annotated, Any, Final

import msgspec

from lmaas.broker_config.codes import Code
from lmaas.broker_config.errors import MessageError
from lmaas.broker_config.headers import MAX_NAME, shortened
from lmaas.broker_config.item_errors import item_error
from lmaas.broker_config.messages import (
    JSON,
    MSGPACK,
    Item,
    ItemError,
    Options,
    Request,
    known_language,
)

#: Bytes of a body that one call of a decoder is done with in milliseconds, whatever is in it; and
#: of a larger one, in a language that says beforehand how many items come.
SMALL: Final = 64 * 1024
COUNTED: Final = 1024 * 1024
#: Strings, commas and opening brackets of JSON for each item that a pack may have, on average; an
#: item with a text has 7, one with three tensors of two dimensions 42.
TOKENS_AN_ITEM: Final = 48

_TOKENS: Final = (b'"', b",", b"[", b"{")
#: A string, ended or not, or one of the others, and what is before it. The quantifiers give nothing
#: back, so that the time is linear in the bytes.
_TOKEN: Final = rb'[^",\[{]*+(?:"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[,\[{])'

_tensors: Final = operator.attrgetter("tensors")

#: How msgspec says that there are too many items.
_TOO_LONG: Final = "length <="

#: A request, and the error of each position in its items that cannot be run.
Decoded = tuple[Request, dict[int, ItemError]]
_Convert = Callable[[Any, Any], Any]


class _Envelope(msgspec.Struct, forbid_unknown_fields=True):
    """A request whose items are not looked at yet, so that one bad item spoils nothing else."""

    model: str
    items: list[Any]
    version: str | None = None
    options: Options = Options()


class _Identified(msgspec.Struct):
    id: str


class _Decoders:
    """Of packs of at most so many items; MessagePack is refused before the first is decoded."""

    def __init__(self, max_items: int) -> None:
        limit = msgspec.Meta(max_length=max_items)
        whole = _with_items(Annotated[list[Item], limit])
        self.raw = msgspec.msgpack.Decoder(_with_items(Annotated[list[msgspec.Raw], limit]))
        self.whole: dict[str, Any] = {
            JSON: msgspec.json.Decoder(whole),
            MSGPACK: msgspec.msgpack.Decoder(whole),
        }


def _with_items(kind: Any) -> Any:
    return msgspec.defstruct(
        "Envelope", [("items", kind)], bases=(_Envelope,), forbid_unknown_fields=True
    )


_decoders = functools.cache(_Decoders)

#: For small bodies: straight into the structure.
_AT_ONCE: Final[dict[str, msgspec.json.Decoder[Request] | msgspec.msgpack.Decoder[Request]]] = {
    JSON: msgspec.json.Decoder(Request),
    MSGPACK: msgspec.msgpack.Decoder(Request),
}


def takes_long(body: bytes, content_type: str | None) -> bool:
    """Whether one call of a decoder may take more than milliseconds.

    Raises MessageError for a language that is neither JSON nor MessagePack.
    """
    return len(body) > (COUNTED if known_language(content_type) == MSGPACK else SMALL)


def decode_at_once(
    body: bytes,
    content_type: str | None,
    *,
    max_item_bytes: int,
    max_items: int,
    max_data_bytes: int | None = None,
) -> Decoded | None:
    """What one call of a decoder makes of a request; None when it needs a closer look.

    It takes milliseconds at most. Raises MessageError when nothing of the body can be used.
    """
    if takes_long(body, content_type):
        return None
    kind = known_language(content_type)
    try:
        if len(body) <= SMALL:
            request = _AT_ONCE[kind].decode(body)
        else:
            envelope = _decoders(max_items).whole[kind].decode(body)
            request = _request(envelope, envelope.items)
            if any(map(_tensors, request.items)):
                return None  # the strings in them are counted one by one
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return _checked(request, {}, max_items, max_item_bytes, max_data_bytes)


def decode_request(
    body: bytes,
    content_type: str | None,
    *,
    max_item_bytes: int,
    max_items: int,
    max_data_bytes: int | None = None,
    max_bytes: int = sys.maxsize,
) -> Decoded:
    """A request, and the error of each position in `items` that cannot be run.

    The limits of an item are as in `item_error`, those of the pack are `max_items` and `max_bytes`.
    Raises MessageError when nothing of the body can be used.
    """
    kind = known_language(content_type)
    check_size(body, max_bytes)
    if kind == JSON and len(body) > SMALL:
        _check_tokens(body, max_items)
    try:
        envelope = _decoders(max_items).whole[kind].decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        request, faults = _decode_item_by_item(body, kind, max_items)
    else:
        request, faults = _request(envelope, envelope.items), {}
    return _checked(request, faults, max_items, max_item_bytes, max_data_bytes)


def check_size(body: bytes, max_bytes: int) -> None:
    """Raises MessageError when a body has more bytes than a pack may have."""
    if len(body) > max_bytes:
        raise MessageError(
            f"the pack has {len(body):,} bytes; the limit is {max_bytes:,} (setting max_pack_bytes)"
        )


def _check_tokens(body: bytes, max_items: int) -> None:
    """Raises MessageError for JSON of more parts than so many items have. Needs no memory."""
    if has_more_tokens(body, TOKENS_AN_ITEM * max_items):
        raise MessageError(
            f"the pack has more parts than {max_items:,} items have (setting max_pack_items)"
        )


def has_more_tokens(body: bytes, limit: int) -> bool:
    """Whether JSON has more strings, commas and opening brackets; without decoding any of it."""
    if sum(map(body.count, _TOKENS)) <= limit:
        return False
    # Most of them may be in texts, where they do not count.
    return _more_tokens_than(limit).match(body) is not None


@functools.cache
def _more_tokens_than(limit: int) -> re.Pattern[bytes]:
    return re.compile(b"(?:%b){%d}+" % (_TOKEN, limit + 1), re.DOTALL)


def _checked(
    request: Request,
    faults: dict[int, ItemError],
    max_items: int,
    max_item_bytes: int,
    max_data_bytes: int | None,
) -> Decoded:
    """With the errors of the items that no model can run. Raises MessageError."""
    if not request.items:
        raise MessageError("the pack has no items")
    _check_count(len(request.items), max_items)
    # Each item's error names them.
    if len(request.model) > MAX_NAME or len(request.version or "") > MAX_NAME:
        raise MessageError(f"the names of models and versions have up to {MAX_NAME} characters")
    for position, item in enumerate(request.items):
        if position not in faults and (fault := item_error(item, max_item_bytes, max_data_bytes)):
            faults[position] = fault
    return request, faults


def _check_count(items: int, max_items: int) -> None:
    if items > max_items:
        raise _too_many(f"{items:,}", max_items)


def _too_many(items: str, max_items: int) -> MessageError:
    return MessageError(
        f"the pack has {items} items; the limit is {max_items:,} (setting max_pack_items)"
    )


def _request(envelope: Any, items: list[Item]) -> Request:
    return Request(
        model=envelope.model, items=items, version=envelope.version, options=envelope.options
    )


def _decode_item_by_item(body: bytes, kind: str, max_items: int) -> Decoded:
    try:
        envelope, convert = (
            _open_json(body) if kind == JSON else _open_msgpack(body, _decoders(max_items))
        )
    except (ValueError, RecursionError) as error:
        if _TOO_LONG in str(error):
            raise _too_many("too many", max_items) from error
        raise MessageError(f"not a request: {_words(error)}") from error
    _check_count(len(envelope.items), max_items)
    items: list[Item] = []
    faults: dict[int, ItemError] = {}
    for position, raw in enumerate(envelope.items):
        try:
            item = convert(raw, Item)
            _check_sendable(item.id, item.error)
            items.append(item)
        except ValueError as error:
            items.append(Item(id=_id_of(raw, convert) or f"#{position}"))
            faults[position] = ItemError(code=Code.INVALID_ITEM, message=_words(error))
    return _request(envelope, items), faults


def _open_msgpack(body: bytes, decoders: _Decoders) -> tuple[_Envelope, _Convert]:
    envelope = decoders.raw.decode(body)
    return envelope, lambda raw, kind: msgspec.msgpack.decode(raw, type=kind)


def _open_json(body: bytes) -> tuple[_Envelope, _Convert]:
    # The standard library reads lone surrogates, and with surrogateescape bytes that are no
    # UTF-8: they then spoil the text they are in and not the pack.
    content = json.loads(body.decode("utf-8", "surrogateescape"))
    envelope = msgspec.convert(content, _Envelope)
    _check_sendable(envelope.model, envelope.version)
    return envelope, msgspec.convert


def _check_sendable(*parts: Any) -> None:
    """Raises ValueError for what the reply repeats and could not carry: a lone surrogate."""
    msgspec.msgpack.encode(parts)


def _words(error: Exception) -> str:
    """What the error says, which can quote a lone surrogate, as a reply can carry it."""
    return shortened(str(error))


def _id_of(raw: Any, convert: _Convert) -> str | None:
    try:
        return str(convert(raw, _Identified).id.encode().decode())
    except ValueError:
        return None
