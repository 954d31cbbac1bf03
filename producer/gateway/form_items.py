"""A call as a form (multipart/form-data): each text and each file of it is an item."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import BodyPartReader, web

from lmaas.broker_config.codes import Code
from lmaas.broker_config.messages import Item, ItemError
from lmaas.producer.gateway.app_keys import SETTINGS
from lmaas.producer.gateway.bodies import content, too_large
from lmaas.producer.gateway.calls import check_count
from lmaas.producer.gateway.failures import HttpError
from lmaas.producer.gateway.forms import (
    FIELDS,
    content_of,
    media_type_of,
    name_of,
    parts,
    text_of,
)

#: Names of parts that belong to items.
ID: Final = "id"
TEXT: Final = "text"
PAIR: Final = "text_pair"
FILE: Final = "file"

#: Charset of a text -> codec. No others: some of Python's take the square of a text's length.
_CODECS: Final = {
    "utf-8": "utf-8-sig",  # a file may begin with a byte order mark, which is not of its text
    "utf8": "utf-8-sig",
    "us-ascii": "ascii",
    "iso-8859-1": "latin-1",
    "windows-1252": "cp1252",
}


class FormCall:
    """What has been read of a form, in its order."""

    def __init__(self) -> None:
        #: What is said of the call, by name.
        self.said: dict[str, str] = {}
        self.items: list[Item] = []
        #: That of the item which comes next.
        self._id: str | None = None
        #: Whether the part before is a text, which may have a second one.
        self._is_text = False

    def say(self, name: str, value: str) -> None:
        """Raises HttpError: 413 or 422."""
        if name in self.said:
            raise _invalid(f"the form has two fields {name!r}; send one")
        self.said[name] = value
        if len(self.said) > FIELDS:
            raise HttpError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "too_large",
                f"the form has more than {FIELDS} fields that are no items",
            )

    def name(self, given: str) -> None:
        """The item that comes next has this id. Raises HttpError 422."""
        if self._id is not None:
            raise _invalid(f"no item follows field `id` {self._id!r}: it comes before its item")
        self._id, self._is_text = given, False

    def add(self, content: bytes, named: str, media_type: str | None, charset: str | None) -> None:
        """An item: a text in this charset, or bytes when that is None.

        `named` is the name of its file, or "".
        """
        item_id = self._id if self._id is not None else named or str(len(self.items))
        self._id, self._is_text = None, charset is not None
        if charset is None:
            self.items.append(Item(id=item_id, data=content, media_type=media_type))
            return
        text = _decoded(content, charset)
        if isinstance(text, ItemError):
            self.items.append(Item(id=item_id, error=text))
        else:
            self.items.append(Item(id=item_id, text=text))

    def pair(self, content: bytes, charset: str) -> None:
        """The second text of the item before. Raises HttpError 422."""
        if not self._is_text:
            raise _invalid("field `text_pair` follows no text: it comes right after the first one")
        self._is_text = False
        item, second = self.items[-1], _decoded(content, charset)
        if isinstance(second, ItemError):
            error = ItemError(code=second.code, message=f"text_pair: {second.message}")
            self.items[-1] = Item(id=item.id, error=item.error or error)
        elif item.error is None:
            self.items[-1] = msgspec.structs.replace(item, text_pair=second)

    def check_end(self) -> None:
        """Raises HttpError 422 for a form that lacks an item."""
        if self._id is not None:
            raise _invalid(f"no item follows field `id` {self._id!r}: it comes before its item")
        if not self.items:
            raise _invalid("the form has no item; send texts as fields `text`, and files")


async def form_call(request: web.Request) -> FormCall:
    """Read to its end. Raises HttpError: 400, 413, 415 or 422.

    The body may be as large, and have as many items, as one in JSON.
    """
    call, settings, body = FormCall(), request.app[SETTINGS], content(request)

    def check(_size: int) -> None:
        if body.total_bytes > settings.max_body_bytes:
            raise too_large(settings.max_body_bytes)

    async for part in parts(request):
        check(0)
        name, is_file = name_of(part.name), part.filename is not None
        if is_file and name in {ID, PAIR}:
            raise _invalid(f"field `{name}` has a file name; only items are files")
        if is_file or name in {TEXT, FILE}:
            check_count(len(call.items) + 1, settings)
            charset = _charset(part) if _is_text(part, name) else None
            item = await content_of(part, check)
            call.add(item, name_of(part.filename), media_type_of(part), charset)
        elif name == PAIR:
            call.pair(await content_of(part, check), _charset(part))
        elif name == ID:
            call.name(await text_of(part))
        else:
            call.say(name, await text_of(part))
    call.check_end()
    return call


def _is_text(part: BodyPartReader, name: str) -> bool:
    media_type = media_type_of(part)
    return media_type == "text/plain" or (media_type is None and name == TEXT)


def _charset(part: BodyPartReader) -> str:
    return name_of(part.get_charset("utf-8")).lower()


def _decoded(content: bytes, charset: str) -> str | ItemError:
    codec = _CODECS.get(charset)
    if codec is None:
        told = f"the charset {charset!r} of this text is not read; send it in UTF-8"
        return ItemError(code=Code.INVALID_ITEM, message=told)
    try:
        return content.decode(codec)
    except UnicodeDecodeError as error:
        told = f"not valid {charset} at byte {error.start}"
        return ItemError(code=Code.INVALID_UTF8, message=told)


def _invalid(told: str) -> HttpError:
    return HttpError(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", told)
