"""What of a text may be logged, or put into a dead letter: as a function of the user's says."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from lmaas.broker_config.errors import SettingsError
from lmaas.broker_config.messages import Item, ItemError, Request
from lmaas.broker_config.settings import Settings

#: In the place of a text for which the function has failed.
WITHHELD: Final = "(withheld)"


class Redaction:
    """The setting `redact`; without it everything stays as it is."""

    def __init__(self, settings: Settings) -> None:
        """Raises SettingsError when there is no such function, or it fails over an empty text."""
        self._hook = _hook(settings.redact) if settings.redact else None

    @property
    def is_used(self) -> bool:
        return self._hook is not None

    def text(self, text: str) -> str:
        """What may be shown of it. Never raises: what the function fails over is withheld."""
        if self._hook is None:
            return text
        try:
            shown = self._hook(text)
            shown.encode()  # what messages and logs can have
        except Exception:  # whatever it is, its words may have the text
            return WITHHELD
        return shown if type(shown) is str else WITHHELD

    def error(self, error: ItemError) -> ItemError:
        """With what may be shown of its words."""
        if self._hook is None:
            return error
        return ItemError(code=error.code, message=self.text(error.message))

    def request(self, request: Request, faults: Mapping[int, ItemError]) -> Request:
        """With what may be shown of ids and texts, and nothing of bytes and tensors."""
        items = [self._item(item, faults.get(place)) for place, item in enumerate(request.items)]
        return msgspec.structs.replace(request, items=items)

    def _item(self, item: Item, fault: ItemError | None) -> Item:
        error = fault or item.error
        content = None if fault else item.text
        pair = None if fault else item.text_pair
        return Item(
            id=self.text(item.id),
            text=None if content is None else self.text(content),
            text_pair=None if pair is None else self.text(pair),
            media_type=item.media_type,
            error=None if error is None else self.error(error),
        )


def _hook(name: str) -> Callable[[str], str]:
    """Of `package.module:function`. Raises SettingsError."""
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise SettingsError(
            f"the setting redact is {name!r}; it must look like package.module:function"
        )
    try:
        hook = getattr(importlib.import_module(module), function)
    except ImportError as error:
        raise SettingsError(
            f"the setting redact names {module!r}, which cannot be imported: {error}; install it "
            "where this runs, or name its folder in PYTHONPATH"
        ) from error
    except AttributeError as error:
        raise SettingsError(
            f"the setting redact names {function!r}, which {module} does not have"
        ) from error
    except Exception as error:
        raise SettingsError(
            f"the setting redact names {module!r}, which fails when it is imported: "
            f"{type(error).__name__}: {error}"
        ) from error
    try:
        shown = hook("")
    except Exception as error:
        raise SettingsError(
            f"the setting redact: {name} fails over an empty text: {type(error).__name__}: {error}"
        ) from error
    if type(shown) is not str:
        raise SettingsError(
            f"the setting redact: {name} returns {type(shown).__name__}; it must return a str"
        )
    return hook  # type: ignore[no-any-return]
