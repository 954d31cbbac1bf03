"""Items as callers write them in a body, and the items that they are."""

from __future__ import annotations

import contextlib
from typing import Final, Generic, Protocol, TypeVar

import msgspec

from lmaas.broker_config.codes import Code
from lmaas.broker_config.messages import Item, ItemError, Tensor


class GivenItem(msgspec.Struct, forbid_unknown_fields=True):
    """One thing to classify, as callers write it: exactly one of `text`, `data` or `tensors`."""

    #: Without one, its place in the list, from 0.
    id: str | None = None
    text: str | None = None
    #: The second one of a pair of texts.
    text_pair: str | None = None
    #: Bytes in base64, as of a picture.
    data: bytes | None = None
    media_type: str | None = None
    #: Ready-made inputs of the model, by name.
    tensors: dict[str, Tensor] | None = None


#: Where the values of a tensor are, in msgspec's words.
_VALUES: Final = "`$.tensors[...].data`"

Strict = TypeVar("Strict", bound="_Items")
Loose = TypeVar("Loose", bound="_RawItems")


class _Items(Protocol):
    items: list[str | GivenItem]


class _RawItems(Protocol):
    items: list[msgspec.Raw]


class Body(Generic[Strict, Loose]):
    """Decodes a call at once; only if that fails, item by item.

    Its items are made afterwards, when it is known that they are not too many.
    """

    def __init__(self, strict: type[Strict], loose: type[Loose]) -> None:
        """The same structure, with items, and with each of its items unread."""
        self._strict = msgspec.json.Decoder(strict)
        self._loose = msgspec.json.Decoder(loose)
        self._item = msgspec.json.Decoder(str | GivenItem)

    def decode(self, body: bytes) -> Strict | Loose:
        try:
            return self._strict.decode(body)
        except msgspec.ValidationError:
            return self._loose.decode(body)

    def items(self, call: Strict | Loose) -> list[Item]:
        """One that is wrong has its error."""
        return [self._one(place, given) for place, given in enumerate(call.items)]

    def _one(self, place: int, given: str | GivenItem | msgspec.Raw) -> Item:
        if not isinstance(given, msgspec.Raw):
            return _item(place, given)
        raw = given
        try:
            return _item(place, self._item.decode(raw))
        except msgspec.DecodeError as error:
            fault = ItemError(code=Code.INVALID_ITEM, message=_told(error))
            return Item(id=_name(raw) or str(place), error=fault)


def _told(error: msgspec.DecodeError) -> str:
    """What is wrong, and where; of lists of numbers what is to be done with them."""
    words = str(error)
    if words.endswith(_VALUES):
        words += "; it is base64 of their bytes; POST /v2/models/NAME/infer takes lists"
    return words


class _Named(msgspec.Struct):
    """What else an item has does not matter."""

    id: str | None = None


def _name(raw: msgspec.Raw) -> str | None:
    """The id of an item that is wrong, where that can be read."""
    with contextlib.suppress(msgspec.DecodeError):
        return msgspec.json.decode(raw, type=_Named).id
    return None


def _item(place: int, given: str | GivenItem) -> Item:
    own = None if isinstance(given, str) else given.id
    return named(str(place) if own is None else own, given)


def named(name: str, given: str | GivenItem) -> Item:
    """What was given, with this id."""
    if isinstance(given, str):
        return Item(id=name, text=given)
    return Item(
        id=name,
        text=given.text,
        text_pair=given.text_pair,
        data=given.data,
        media_type=given.media_type,
        tensors=given.tensors,
    )
