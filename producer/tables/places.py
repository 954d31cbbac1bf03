"""Where rows come from and go to: paths and pipes, their formats, and compressed bytes."""

from __future__ import annotations

import bz2
import contextlib
import errno
import gzip
import io
import lzma
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

from lmaas.broker_config import extras
from lmaas.broker_config.errors import DataError
from lmaas.producer.tables.dialect import FOUND, Dialect
from lmaas.producer.tables.unicode import as_utf8

#: The name of standard input and output.
PIPE: Final = "-"
#: Suffix -> format.
FORMATS: Final = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".txt": "text",
}
COMPRESSIONS: Final = (".gz", ".bz2", ".xz", ".zst")
#: A longer line means that the file is no file of lines; nothing holds more of it.
LINE_BYTES: Final = 64 * 1024 * 1024

_BUFFER = 1024 * 1024
#: What a damaged compressed file raises; Arrow's own error is a ValueError.
_DAMAGED = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError)


@dataclass(frozen=True, slots=True)
class Place:
    """A file, or a pipe, and how it is written."""

    path: str
    #: One of the values of FORMATS.
    format: str
    #: One of COMPRESSIONS, or "".
    compression: str = ""
    #: Of an input: what its user says about it.
    dialect: Dialect = FOUND

    @property
    def piped(self) -> bool:
        return self.path == PIPE

    @classmethod
    def of(
        cls,
        path: str,
        format: str | None = None,  # noqa: A002
        dialect: Dialect = FOUND,
    ) -> Self:
        """By the suffixes of the path, unless a format is given.

        Raises DataError when there is none, or the dialect does not go with it.
        """
        if path == PIPE:
            dialect.check(path, format or "text")
            return cls(path, format or "text", dialect=dialect)
        if Path(path).is_symlink():
            path = os.path.realpath(path)  # the link stays, and what it names is written
        suffixes = [suffix.lower() for suffix in Path(path).suffixes]
        compression = suffixes.pop() if suffixes and suffixes[-1] in COMPRESSIONS else ""
        found = format or (FORMATS.get(suffixes[-1]) if suffixes else None)
        if found is None:
            raise DataError(
                f"{path}: the suffix says no format; use one of {' '.join(FORMATS)} "
                f"(then {' '.join(COMPRESSIONS)}), or --format / --output-format"
            )
        if found == "parquet" and compression:
            raise DataError(f"{path}: Parquet compresses itself; leave out {compression}")
        dialect.check(path, found)
        return cls(path, found, compression, dialect)


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
    """Raises DataError when there is nothing to read."""
    if place.piped:
        # Not sys.stdin: the interpreter locks it at exit, and a thread may hang in it.
        pipe = open(sys.stdin.fileno(), "rb", buffering=_BUFFER, closefd=False)  # noqa: SIM115
        name = "standard input"
        try:
            text = as_utf8(pipe, place.dialect.encoding, name)
        except OSError as error:  # it is closed, for one
            raise unusable(name, error) from error
        return Input(name, text, None, None, decoded=text is not pipe)
    raw = _open(place.path)
    size = os.fstat(raw.fileno()).st_size
    if not size and Path(place.path).is_file():
        raw.close()
        raise DataError(f"{place.path}: the file is empty")
    try:
        file = _decompressed(raw, place.compression)
        text = as_utf8(file, place.dialect.encoding, place.path)
    except _DAMAGED as error:
        raw.close()
        raise _unreadable(place.path, error) from error
    except DataError:
        raw.close()
        raise
    return Input(place.path, text, raw, size, decoded=text is not file)


def _open(path: str) -> BinaryIO:
    try:
        return Path(path).open("rb", buffering=_BUFFER)
    except OSError as error:
        raise unusable(path, error) from error


def unusable(path: Path | str, error: OSError) -> DataError:
    """One line for what the operating system refused."""
    advice = {
        errno.ENOENT: "; check the path",
        errno.EISDIR: "; name a file in it",
        errno.EACCES: "; change its permissions or choose another place",
    }.get(error.errno or 0, "")
    return DataError(f"{path}: {reason(error)}{advice}")


def reason(error: OSError) -> str:
    """The operating system's words, without what others put around them."""
    return (os.strerror(error.errno) if error.errno else str(error)).lower()


def _decompressed(raw: BinaryIO, compression: str) -> BinaryIO:
    stream: Any
    match compression:
        case ".gz":
            stream = gzip.GzipFile(fileobj=raw)
        case ".bz2":
            stream = bz2.BZ2File(raw)
        case ".xz":
            stream = lzma.LZMAFile(raw)  # noqa: SIM115
        case ".zst":
            stream = arrow("zstd").CompressedInputStream(raw, "zstd")
        case _:
            return raw
    return io.BufferedReader(stream, _BUFFER)


def compressor(compression: str) -> Callable[[bytes], bytes]:
    """Bytes -> one complete member; members after each other are a valid file.

    Levels are for speed: of 1.3 kB reviews, gzip 1 takes 13 µs each and 6 takes 63 µs to save
    another seventh.
    """
    match compression:
        case ".gz":
            return lambda data: zlib.compress(data, level=1, wbits=31)
        case ".bz2":
            return bz2.compress
        case ".xz":
            return lambda data: lzma.compress(data, preset=1)
        case ".zst":
            codec = arrow("zstd").Codec("zstd")
            return lambda data: bytes(codec.compress(data, asbytes=True))
        case _:
            return bytes


def arrow(purpose: str) -> Any:
    """The pyarrow module, which only this and Parquet need; raises DataError without it."""
    try:
        import pyarrow
    except ImportError as error:
        raise DataError(f"{purpose} needs pyarrow: {extras.command('files')}") from error
    return pyarrow


class Lines:
    """The lines of an input as bytes, with their line ends; counts them and their bytes."""

    def __init__(self, source: Input, number: int = 0) -> None:
        """`number` lines were read before."""
        self.source = source
        self.number = number
        self.bytes = 0

    def go_to(self, number: int, size: int, offset: int) -> None:
        """Go on at a byte of the file, after so many lines and bytes of them."""
        self.source.file.seek(offset)
        self.number, self.bytes = number, size

    def __iter__(self) -> Iterator[bytes]:
        """Raises DataError where the file is damaged or has no lines."""
        readline = self.source.file.readline
        try:
            while line := readline(LINE_BYTES):
                if len(line) == LINE_BYTES:
                    raise DataError(
                        f"{self.source.name}: line {self.number + 1} is longer than "
                        f"{LINE_BYTES >> 20} MiB; is this a file of lines?"
                    )
                self.number += 1
                self.bytes += len(line)
                yield line
        except _DAMAGED as error:
            raise _unreadable(self.source.name, error, self.number) from error


@contextlib.contextmanager
def damaged(name: str, line: int) -> Iterator[None]:
    """Raises DataError for what reading a damaged file raises."""
    try:
        yield
    except _DAMAGED as error:
        raise _unreadable(name, error, line) from error


def _unreadable(name: str, error: Exception, line: int = 0) -> DataError:
    if isinstance(error, OSError) and error.errno is not None:
        return unusable(name, error)
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(
        f"{name}: damaged or cut off after line {line:,} ({reason}); fetch or compress it again"
    )
