"""Secrets that no log, error or traceback shows by accident."""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import msgspec

from lmaas.broker_config.errors import SettingsError
from lmaas.broker_config.masked import MASK, Masked


class Secret:
    """A text that is printed as `***`, and not pickled; whoever needs it calls `reveal`."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        """Raises ValueError for an empty text or what is no text, without quoting it."""
        if not isinstance(text, str) or not text.strip():
            raise ValueError("Expected a secret: a text that is not empty")
        self._text = text.strip()

    def reveal(self) -> str:
        return self._text

    def __eq__(self, other: object) -> bool:
        """Takes the same time wherever the two differ."""
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return f"Secret('{MASK}')"

    def __str__(self) -> str:
        return MASK

    def __reduce_ex__(self, _: object) -> NoReturn:
        raise TypeError("a secret is not pickled or copied")


class Secrets:
    """One secret, or two while they are rotated: in the settings a text or a list of texts."""

    __slots__ = ("all",)

    def __init__(self, given: object) -> None:
        """Raises ValueError for anything else, without quoting it."""
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list | tuple) or not texts:
            raise ValueError("Expected a secret or a list of secrets")
        self.all = tuple(Secret(text) for text in texts)

    def __repr__(self) -> str:
        return f"Secrets('{MASK}')"


class WithSecrets(Masked, msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the settings that has secrets: in it, in the environment, or in a file."""

    #: A text, or a list of two while they are rotated; the first one signs first.
    secret: Secrets | None = None
    #: The variable of the environment with the secret; several, one a line.
    secret_env: str | None = None
    #: The file with the secret; several, one a line.
    secret_file: str | None = None

    def secrets(self, place: str) -> tuple[Secret, ...]:
        """All of them. Raises SettingsError, which begins with `place`, for what is not there."""
        found = list(self.secret.all) if self.secret else []
        if self.secret_env:
            text = os.environ.get(self.secret_env, "")
            found += _lines(text, f"{place}.secret_env: {self.secret_env} is not set")
        if self.secret_file:
            try:
                text = Path(self.secret_file).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise SettingsError(f"{place}.secret_file: {error}") from error
            found += _lines(text, f"{place}.secret_file: {self.secret_file} is empty")
        return tuple(found)


def _lines(text: str, missing: str) -> Iterable[Secret]:
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise SettingsError(missing)
    return map(Secret, lines)
