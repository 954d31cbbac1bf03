"""Inputs as bytes: opened, decompressed, and as UTF-8."""

from __future__ import annotations

import io
import os
import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from lmaas.broker_config.errors import DataError
from lmaas.producer.tables import advice
from lmaas.producer.tables.compression import decompressed
from lmaas.producer.tables.file_errors import DAMAGED, unreadable, unusable
from lmaas.producer.tables.places import PIPE, Place
from lmaas.producer.tables.unicode import as_utf8, is_utf16

_BUFFER = 1024 * 1024


@dataclass(slots=True)
class Input:
    """Decompressed bytes of a file or of standard input, as UTF-8."""

    name: str
    file: BinaryIO
    #: The file as it is on disk; None for a pipe.
    raw: BinaryIO | None
    size: int | None
    #: Whether it had another encoding.
    decoded: bool = False
    #: Whether that was UTF-16.
    utf16: bool = False

    def offset(self) -> int | None:
        """The byte that is read next, where the file can be read from there as well."""
        return self.file.tell() if self.file is self.raw and self.file.seekable() else None

    def position(self) -> int:
        """Bytes of the file on disk that were read so far; 0 for a pipe."""
        return 0 if self.raw is None else self.raw.tell()

    def close(self) -> None:
        # A thread may hang in a read of a pipe; closing would wait for it.
        if self.raw is not None:
            self.file.close()
            self.raw.close()


def open_input(place: Place) -> Input:
    """Its bytes as UTF-8. Raises DataError when there is nothing to read."""
    source = open_bytes(place)
    name, file, encoding = source.name, source.file, place.dialect.encoding
    try:
        start = cast("io.BufferedReader", file).peek(1)
        if why := advice.of_start(name, start, encoded=encoding is not None):
            raise DataError(why)
        source.utf16 = is_utf16(start, encoding)
        source.file = as_utf8(file, encoding, name)
    except DAMAGED as error:
        source.close()
        raise unreadable(name, error) from error
    except DataError:
        source.close()
        raise
    source.decoded = source.file is not file
    return source


def open_bytes(place: Place, compression: Callable[[bytes], str] = lambda _start: "") -> Input:
    """Its bytes as they are, decompressed; `compression` says by the first ones how, where the
    place does not.

    Raises DataError when there is nothing to read.
    """
    name = "standard input" if place.path == PIPE else place.path
    raw = _open(place)
    try:
        size = None if place.piped else _size(place, raw)
        if size == 0:
            raise DataError(f"{place.path}: the file is empty")
        found = place.compression or compression(cast("io.BufferedReader", raw).peek(1))
        file = decompressed(raw, found)
    except DAMAGED as error:
        raw.close()
        raise unreadable(name, error) from error
    except DataError:
        raw.close()
        raise
    return Input(name, file, None if size is None else raw, size)


def _size(place: Place, file: BinaryIO) -> int:
    if place.opening is None:
        return os.fstat(file.fileno()).st_size
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return size


def open_file(place: Place) -> BinaryIO:
    """One that is no pipe, as it is. Raises DataError when it cannot be opened."""
    try:
        if place.opening is not None:
            return place.opening()
        return Path(place.path).open("rb", buffering=_BUFFER)
    except OSError as error:
        raise unusable(place.path, error) from error


def _open(place: Place) -> BinaryIO:
    if not place.piped:
        return open_file(place)
    try:
        if place.path == PIPE:
            # Not sys.stdin: the interpreter locks it at exit, and a thread may hang in it.
            return open(sys.stdin.fileno(), "rb", buffering=_BUFFER, closefd=False)
        descriptor = os.open(place.path, os.O_RDONLY | os.O_CLOEXEC)
        pipe = open(descriptor, "rb", buffering=_BUFFER, closefd=False)  # noqa: SIM115
        # Not before the thread that may hang in it has let it go: the number would be another's.
        weakref.finalize(pipe, os.close, descriptor).atexit = False
        return pipe
    except OSError as error:
        raise unusable(place.path, error) from error
