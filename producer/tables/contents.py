"""The contents of several files, a row each: texts, or bytes with their media types.

What the files are in (a folder, an archive) hands them out one after the other as `Member`s, whose
contents are read when it is their turn; names take memory, contents do not. One that cannot be
read, or is too large, is the error of its row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Final

from lmaas.broker_config.codes import Code
from lmaas.broker_config.errors import DataError
from lmaas.broker_config.media_types import START, of_content
from lmaas.broker_config.messages import ItemError
from lmaas.producer.tables.chunks import CHUNK_BYTES, CHUNK_ROWS, Chunk, Table
from lmaas.producer.tables.taking import PassedOver
from lmaas.producer.tables.unicode import decoded
from lmaas.producer.tables.wanted import Wanted

FILE: Final = "file"
TEXT: Final = "text"
#: A larger file is no text, and none of it is read.
FILE_BYTES: Final = 32 * 1024 * 1024


class Unreadable(Exception):
    """Why the content of one file cannot be had."""


class TooLarge(Exception):
    """A file has more bytes than it may have."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


@dataclass(frozen=True, slots=True)
class Member:
    """A file among several."""

    name: str
    #: All of it, at most so many bytes. Raises Unreadable, and TooLarge without having read more.
    read: Callable[[int], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Several files, in the order of their rows."""

    name: str
    #: From the first one, at every call; of a pipe there is one call.
    members: Callable[[], Iterator[Member]]
    #: Media types of the bytes that are wanted; () for texts.
    taken: tuple[str, ...]
    close: Callable[[], None] = lambda: None
    #: How many there are, or bytes of what they are in; `consumed` has the same unit.
    size: int | None = None
    #: After so many rows.
    consumed: Callable[[int], int] = lambda rows: rows
    #: A checksum of the names, sizes and times.
    listing: str | None = None
    #: What is no item, as far as it was read.
    passed_over: Callable[[], PassedOver | None] = lambda: None


def read(files: Files, wanted: Wanted, encoding: str | None) -> Table:
    """The columns are `file` and, of texts, `text` if it is named in `wanted`.

    Raises DataError when another column is wanted.
    """
    columns = (FILE,) if files.taken else (FILE, TEXT)
    if wanted.text is not None or not files.taken:
        wanted.text_of(columns, files.name)
    wanted.pair_of((TEXT,), files.name, TEXT)
    kept = (FILE,) if wanted.keep is None else wanted.kept_of(columns, files.name)
    rows = _Rows(files, wanted, kept, encoding)
    return Table(
        files.name,
        kept,
        rows.chunks(),
        files.close,
        size=files.size,
        unit="file",
        listing=files.listing,
        passed_over=files.passed_over,
        start_at=rows.start_at,
    )


class _Rows:
    """The chunks of several files."""

    def __init__(
        self, files: Files, wanted: Wanted, kept: tuple[str, ...], encoding: str | None
    ) -> None:
        self._files = files
        self._wanted = wanted
        self._kept = kept
        self._encoding = encoding
        self._start = 0

    def start_at(self, row: int) -> None:
        self._start = row

    def chunks(self) -> Iterator[Chunk]:
        names: list[str] = []
        found = self._contents()
        start = self._start
        for member in islice(self._files.members(), start, None):
            names.append(member.name)
            if self._wanted.any_text:
                found.texts.append(member.name)
            else:
                found.add(member)
            if len(names) == CHUNK_ROWS or found.size >= CHUNK_BYTES:
                yield self._chunk(start, names, found)
                start, names, found = start + len(names), [], self._contents()
        if names:
            yield self._chunk(start, names, found)

    def _contents(self) -> Contents:
        taking = self._wanted.taking
        return Contents(self._files.taken, taking.max_bytes, self._encoding)

    def _chunk(self, start: int, names: list[str], found: Contents) -> Chunk:
        columns = {FILE: names, TEXT: found.texts}
        kept = {name: columns[name] for name in self._kept}
        consumed = self._files.consumed(start + len(names))
        encoded = self._encoding is None and not self._files.taken
        return found.filled(Chunk(start, kept, (), names, {}, consumed, encoded=encoded))


@dataclass(slots=True)
class Contents:
    """Those of files that follow each other."""

    #: Media types of the bytes that are wanted; () for texts.
    taken: tuple[str, ...]
    #: Bytes of an item at most.
    max_bytes: int
    encoding: str | None = None
    #: A text, or bytes, or why there are none.
    texts: list[Any] = field(default_factory=list)
    #: Of bytes, their media types.
    media: list[str | None] = field(default_factory=list)
    #: Why a text could not be read, by its position.
    faults: dict[int, str] = field(default_factory=dict)
    #: Bytes or characters of all of them.
    size: int = 0

    def add(self, member: Member) -> None:
        if self.taken:
            self._add_data(member)
        else:
            self._add_text(member)

    def add_fault(self, fault: str) -> None:
        """Of a row that cannot be read."""
        self.faults[len(self.texts)] = fault
        self.texts.append("")
        self.media.append(None)

    def fail(self, code: Code, message: str) -> None:
        """Of a row that has no file to be read."""
        if not self.taken:
            self.add_fault(message)
            return
        self.texts.append(ItemError(code=code, message=message))
        self.media.append(None)

    def filled(self, chunk: Chunk) -> Chunk:
        """A chunk of as many rows, with these contents."""
        media = self.media if self.taken else None
        return replace(chunk, texts=self.texts, faults=self.faults, media=media)

    def _add_data(self, member: Member) -> None:
        content = data_of(member, self.max_bytes)
        self.texts.append(content)
        if isinstance(content, ItemError):
            self.media.append(None)
            return
        self.media.append(of_content(member.name, content[:START], self.taken))
        self.size += len(content)

    def _add_text(self, member: Member) -> None:
        text, fault = _text(member, self.encoding)
        if fault:
            self.faults[len(self.texts)] = f"file {member.name}: {fault}"
        self.texts.append(text)
        self.size += len(text)


def data_of(member: Member, most: int) -> bytes | ItemError:
    """What a file has, or why it is no item."""
    try:
        return checked(member.read(most), most)
    except TooLarge as error:
        return too_large(error.size, most)
    except Unreadable as error:
        return ItemError(code=Code.UNREADABLE_ROW, message=f"file {member.name}: {error}")


def checked(content: bytes, most: int) -> bytes | ItemError:
    """Bytes that are an item, or why they are none."""
    if not content:
        return ItemError(code=Code.INVALID_ITEM, message="it is empty: there are no bytes in it")
    return too_large(len(content), most) if len(content) > most else content


def too_large(size: int, most: int) -> ItemError:
    """With what to do about it."""
    told = f"{size:,} bytes; the limit is {most:,} (setting max_data_bytes)"
    advice = f"LMAAS_MAX_DATA_BYTES={size} raises it, for the workers as well"
    return ItemError(code=Code.TOO_LARGE, message=f"{told}; {advice}")


def _text(member: Member, encoding: str | None) -> tuple[str, str]:
    """What the file has, and why it cannot be read."""
    try:
        return decoded(member.read(FILE_BYTES), encoding, "it"), ""
    except TooLarge as error:
        return "", f"{error.size:,} bytes; a text has at most {FILE_BYTES >> 20} MiB"
    except (DataError, Unreadable) as error:
        return "", str(error)
