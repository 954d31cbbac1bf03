"""From what a webhook says to items, by JMESPath; pure."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl

import jmespath
import msgspec
from jmespath.exceptions import JMESPathError
from jmespath.functions import Functions

from lmaas.broker_config.codes import Code
from lmaas.broker_config.errors import SettingsError
from lmaas.broker_config.messages import Item, ItemError
from lmaas.producer.gateway.bodies import FORM
from lmaas.producer.gateway.failures import HttpError

#: The field of a form with JSON in it, as GitHub and Slack send.
_PAYLOAD: Final = "payload"
#: What the functions of JMESPath raise for values that they do not expect, besides its own.
_FAILURES: Final = (JMESPathError, ArithmeticError, LookupError, TypeError, ValueError)


#: Characters of an error of JMESPath that are told; it may quote the body.
_LONGEST: Final = 300
_KNOWN: Final = frozenset(Functions.FUNCTION_TABLE)


class Expression:
    """One JMESPath expression of the settings."""

    def __init__(self, text: str, place: str) -> None:
        """Raises SettingsError, which begins with `place`, when it is none."""
        self._place = place
        try:
            self._compiled = jmespath.compile(text)
        except JMESPathError as error:
            raise SettingsError(f"{place} is no JMESPath: {_line(error)}") from error
        if unknown := sorted(_functions(self._compiled.parsed) - _KNOWN):
            raise SettingsError(f"{place}: JMESPath has no function {unknown[0]}()")

    def of(self, value: Any) -> Any:
        """What it finds; None: nothing. Raises ValueError in words."""
        try:
            return self._compiled.search(value)
        except RecursionError as error:
            raise ValueError(f"{self._place}: the body is nested too deeply") from error
        except _FAILURES as error:
            raise ValueError(f"{self._place}: {_line(error)}") from error


class Items:
    """The expressions of one hook: from a body to items."""

    def __init__(self, items: str, text: str, name: str | None, place: str) -> None:
        """Raises SettingsError for what is no JMESPath."""
        self._items = Expression(items, f"{place}.items")
        self._text = Expression(text, f"{place}.text")
        self._name = Expression(name, f"{place}.id") if name else None
        self._place = place

    def __call__(self, body: Any) -> list[Item]:
        """An item whose text or id cannot be had carries an error; the others are as they are.

        Raises HttpError (422) when it cannot be said what the items are.
        """
        try:
            found = self._items.of(body)
        except ValueError as error:
            raise _unprocessable(str(error)) from error
        if found is None:
            raise _unprocessable(f"{self._place}.items finds nothing in the body")
        if found is False:
            return []
        given = found if isinstance(found, list) else [found]
        return [self._item(place, one) for place, one in enumerate(given)]

    def _item(self, place: int, value: Any) -> Item:
        name = str(place)
        try:
            if self._name is not None:
                name = self._identified(self._name.of(value))
            text = self._text.of(value)
        except ValueError as error:
            return _wrong(name, str(error))
        if not isinstance(text, str):
            return _wrong(name, f"{self._place}.text gives {_kind(text)}; it must be a text")
        return Item(id=name, text=text)

    def _identified(self, value: Any) -> str:
        if isinstance(value, str):
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        raise ValueError(f"{self._place}.id gives {_kind(value)}; it must be a text or a number")


def parsed(body: bytes, content_type: str) -> Any:
    """What a body says: JSON, or a form. Raises HttpError: 400."""
    if content_type == FORM and not body.lstrip().startswith((b"{", b"[")):
        return _form(body)
    return _json(body)


def _form(body: bytes) -> Any:
    try:
        fields = dict(parse_qsl(body.decode(), strict_parsing=True, keep_blank_values=True))
    except ValueError as error:
        raise HttpError(HTTPStatus.BAD_REQUEST, "malformed", f"no form: {error}") from error
    return _json(fields[_PAYLOAD].encode()) if _PAYLOAD in fields else fields


def _json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HttpError(HTTPStatus.BAD_REQUEST, "malformed", f"no JSON: {error}") from error


def _functions(tree: Any) -> set[str]:
    """The names of those that an expression calls."""
    called = {tree["value"]} if tree["type"] == "function_expression" else set()
    return called.union(
        *(_functions(child) for child in tree["children"] if isinstance(child, dict))
    )


def _wrong(name: str, message: str) -> Item:
    return Item(id=name, error=ItemError(code=Code.INVALID_ITEM, message=message))


def _unprocessable(message: str) -> HttpError:
    return HttpError(HTTPStatus.UNPROCESSABLE_ENTITY, "unmapped", message)


def _kind(value: Any) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list():
            return "a list"
        case _:
            return "an object"


def _line(error: Exception) -> str:
    """What an error says, without the line that points into the expression, and not too long."""
    lines = [line.strip() for line in str(error).splitlines()[:2]]
    return " ".join(lines)[:_LONGEST] or type(error).__name__
