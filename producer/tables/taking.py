"""Which of several files are items of a model, by their names. Pure.

What is hidden, or what systems leave behind (Thumbs.db, __MACOSX), is none. A model that takes
bytes is given the files of its media types, and those whose names say nothing; one that takes texts
is given all but pictures, sounds and the like.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, Self

import msgspec

from lmaas.broker_config import media_types
from lmaas.broker_config.errors import DataError
from lmaas.broker_config.messages import ModelCard
from lmaas.broker_config.settings import DATA_BYTES

log = logging.getLogger(__name__)

#: What systems leave in folders and archives, in small letters.
_LEFT: Final = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx"}
_HIDDEN: Final = "hidden or of the system"
#: Of what is neither a file nor a folder.
NO_FILE: Final = "no files"
#: Reasons that a message names.
_NAMED: Final = 3
#: Any bytes: of a model of which nobody knows what it takes, where the files are pictures.
_ANYTHING: Final = ("*/*",)


@dataclass(frozen=True, slots=True)
class Taking:
    """What a model takes of the contents of files."""

    #: Media types of bytes, as `image/png` or `image/*`; () takes texts. None: nobody knows, and
    #: the files' names tell.
    media_types: tuple[str, ...] | None = None
    #: Bytes of an item's data at most.
    max_bytes: int = DATA_BYTES
    #: Whether links, and paths in a table, may lead out of their folder.
    outside: bool = False

    @classmethod
    def of(cls, card: ModelCard | None, max_bytes: int, *, outside: bool = False) -> Self:
        """By what a worker says of the model; None where no worker says anything."""
        named = None if card is None else tuple(card.media_types)
        return cls(named, max_bytes, outside)

    def known(self, names: Iterable[str]) -> tuple[str, ...]:
        """The media types of bytes; () for texts."""
        if self.media_types is not None:
            return self.media_types
        found = {media_types.by_name(name) for name in names if not is_left(name)} - {None}
        return _ANYTHING if found and all(map(media_types.is_media, found)) else ()


class PassedOver(msgspec.Struct, frozen=True):
    """Files that are no items of the model."""

    files: int
    #: How many of each kind, and the first of them.
    reasons: str


#: By the files' names.
AS_NAMED: Final = Taking()


class Sieve:
    """Takes the files that are items, and counts the others."""

    def __init__(self, place: str, taken: tuple[str, ...], *, hidden: bool = False) -> None:
        """`taken` are the media types of bytes; () for texts. `hidden`: whether it takes hidden
        ones.
        """
        self._place = place
        self._hidden = hidden
        self._taken = taken
        self._others: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def takes(self, name: str) -> bool:
        """Whether it is an item; else it is counted."""
        if is_left(name) and not (self._hidden and _is_hidden(name)):
            self.count(_HIDDEN, name)
            return False
        found = media_types.by_name(name)
        if self._taken:
            fits = found is None or media_types.fits(found, self._taken)
        else:
            fits = not media_types.is_media(found)
        if not fits:
            self.count(f"of {found}", name)
        return fits

    def count(self, reason: str, name: str) -> None:
        """One that is passed over, as it is `reason`."""
        self._others[reason] += 1
        self._first.setdefault(reason, name)

    @property
    def has_others(self) -> bool:
        """Whether anything was passed over."""
        return bool(self._others)

    def passed_over(self) -> PassedOver | None:
        """What was passed over until now, if anything was."""
        return PassedOver(self._others.total(), self._counts()) if self._others else None

    def tell(self) -> None:
        """Say it in the log."""
        if found := self.passed_over():
            log.warning(
                "%s: passed over: %s",
                self._place,
                found.reasons,
                extra={"action": "passed_over", "files": found.files},
            )

    def nothing(self) -> DataError:
        """For a place that has files, and no item among them."""
        wanted = f"bytes of {', '.join(self._taken)}" if self._taken else "texts"
        return DataError(
            f"{self._place}: the model takes {wanted}, and there are only others: {self._counts()}"
        )

    def _counts(self) -> str:
        every = sorted(self._others.items(), key=lambda pair: (-pair[1], pair[0]))
        reasons = every[:_NAMED]
        told = [f"{count:,} {reason} ({_shown(self._first[reason])})" for reason, count in reasons]
        more = sum(count for _, count in every[_NAMED:])
        return ", ".join(told) + (f", and {more:,} of other kinds" if more else "")


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") and part != ".." for part in PurePosixPath(name).parts)


def is_left(name: str) -> bool:
    """Whether it is hidden, or was left behind by a system."""
    parts = PurePosixPath(name).parts
    return _is_hidden(name) or any(part.lower() in _LEFT for part in parts)


def _shown(name: str) -> str:
    readable = name.encode("utf-8", "backslashreplace").decode()
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in readable)
