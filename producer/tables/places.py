"""Where rows come from and go to: paths and pipes, their formats, and compressed bytes."""

from __future__ import annotations

import bz2
import contextlib
import errno
import gzip
import io
import logging
import lzma
import os
import stat
import sys
import weakref
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from glob import has_magic
from pathlib import Path
from typing import Any, BinaryIO, Final, Self, cast

from lmaas.broker_config import extras
from lmaas.broker_config.errors import DataError, OptionError
from lmaas.producer.tables import advice
from lmaas.producer.tables.chunks import ENCODING_HINT
from lmaas.producer.tables.dialect import CONTAINERS, FOUND, Dialect
from lmaas.producer.tables.unicode import as_utf8, is_utf16

log = logging.getLogger(__name__)

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
    ".xlsx": "xlsx",
    ".xlsm": "xlsx",
    ".txt": "text",
    ".zip": "zip",
    ".tar": "tar",
}
#: Of these, those that have other files inside.
ARCHIVES: Final = {".zip": "zip", ".tar": "tar"}
#: Suffixes that stand for two.
_SHORT: Final = {".tgz": [".tar", ".gz"], ".tbz2": [".tar", ".bz2"], ".txz": [".tar", ".xz"]}
#: The format of a folder or a pattern of text files.
FILES: Final = "files"
#: What is read and not written.
_READ_ONLY: Final = {"xlsx", FILES, *ARCHIVES.values()}
#: The formats of outputs.
WRITTEN: Final = tuple(sorted({*FORMATS.values()} - _READ_ONLY))
#: Of these, those that may have another encoding than UTF-8.
ENCODED: Final = {"csv", "tsv", "text"}
COMPRESSIONS: Final = (".gz", ".bz2", ".xz", ".zst")
#: Standard input by other names. It is not opened again: it may be a socket, or another user's.
_STANDARD_INPUT: Final = {PIPE, "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"}
#: A longer line means that the file is no file of lines; nothing holds more of it.
LINE_BYTES: Final = 64 * 1024 * 1024

_BUFFER = 1024 * 1024
#: What a damaged compressed file raises; Arrow's own error is a ValueError.
DAMAGED: Final = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError)


@dataclass(frozen=True, slots=True)
class Place:
    """A file, several, or a pipe, and how it is written."""

    #: Of several files: their folder, or a pattern (`reviews/*.txt`).
    path: str
    #: One of the values of FORMATS, or FILES.
    format: str
    #: One of COMPRESSIONS, or "".
    compression: str = ""
    #: Of an input: what its user says about it; of an output: its encoding.
    dialect: Dialect = FOUND
    #: What opens an input that is at its path in another form; anybody can seek in what it gives.
    opening: Callable[[], BinaryIO] | None = None

    @property
    def has_files(self) -> bool:
        """Whether its items are files: of a folder, a pattern or an archive."""
        return self.format == FILES or self.format in ARCHIVES.values()

    @property
    def piped(self) -> bool:
        """Whether it can be read only once: standard input, a FIFO, a device."""
        return self.path == PIPE or _is_stream(self.path)

    @classmethod
    def of(
        cls,
        path: str,
        format: str | None = None,  # noqa: A002
        dialect: Dialect = FOUND,
    ) -> Self:
        """An input, by the suffixes of the path unless a format is given.

        Raises DataError when there is none, or the dialect does not go with it.
        """
        if path in _STANDARD_INPUT:
            path = PIPE
        elif (why := advice.of_url(path)) and not os.path.lexists(path):
            raise DataError(why)
        elif Path(path).is_dir() or (has_magic(path) and not os.path.lexists(path)):
            return cls._of_files(path, format, dialect)
        elif not format and (why := advice.of_suffix(path)):
            raise DataError(why)
        return cls._by_suffix(path, format, dialect, FORMATS, "--format")

    @classmethod
    def to(
        cls,
        path: str,
        format: str | None = None,  # noqa: A002
        encoding: str | None = None,
    ) -> Self:
        """An output, by the suffixes of the path unless a format is given, in UTF-8 unless an
        encoding is.

        Raises DataError when there is none that can be written, or the encoding cannot be.
        """
        _check_no_folder(path)
        if not format and FORMATS.get(Path(path).suffix.lower()) in _READ_ONLY:
            raise OptionError(f"{path}: is read and not written; write .csv, which Excel opens too")
        place = cls._by_suffix(path, format, FOUND, _OUTPUT_FORMATS, "--output-format")
        if encoding is None or (dialect := Dialect(encoding=encoding)).is_utf8:
            return place
        if place.format not in ENCODED:
            raise OptionError(
                f"{path}: --output-encoding is for CSV, TSV and plain text; JSON is UTF-8, and "
                "Parquet has an encoding of its own"
            )
        return replace(place, dialect=dialect)

    @classmethod
    def _of_files(cls, path: str, format: str | None, dialect: Dialect) -> Self:  # noqa: A002
        if format not in {None, "text"}:
            raise DataError(
                f"{path}: of a folder or a pattern each file is one item; name a single file to "
                f"read it as {format}"
            )
        dialect.check(path, FILES)
        return cls(path, FILES, dialect=dialect)

    @classmethod
    def _by_suffix(
        cls,
        path: str,
        format: str | None,  # noqa: A002
        dialect: Dialect,
        formats: dict[str, str],
        option: str,
    ) -> Self:
        stream = path == PIPE or _is_stream(path)
        if not stream and Path(path).is_symlink():
            path = os.path.realpath(path)  # the link stays, and what it names is written
        suffix, compression = suffixes_of(path)
        found = format or formats.get(suffix)
        if found is None and stream:
            found = "text"
        if found is None:
            is_missing = formats is FORMATS and not os.path.lexists(path)  # an output may be
            absent = "there is no such file, and " if is_missing else ""
            raise OptionError(
                f"{path}: {absent}the suffix says no format; use one of {' '.join(formats)} "
                f"(then {' '.join(COMPRESSIONS)}), or say it with {option}"
            )
        if found in CONTAINERS and compression:
            raise OptionError(
                f"{path}: {CONTAINERS[found]} compresses itself; leave out {compression}"
            )
        dialect.check(path, found)
        return cls(path, found, compression, dialect)


_OUTPUT_FORMATS: Final = {
    suffix: name for suffix, name in FORMATS.items() if name not in _READ_ONLY
}


def suffixes_of(name: str) -> tuple[str, str]:
    """That of the format, as `.csv`, and that of the compression; "" where there is none."""
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    suffixes[-1:] = _SHORT.get(suffixes[-1], suffixes[-1:]) if suffixes else []
    compression = suffixes.pop() if suffixes and suffixes[-1] in COMPRESSIONS else ""
    return (suffixes[-1] if suffixes else ""), compression


def _is_stream(path: str) -> bool:
    """Whether it is there and is neither a file nor a folder."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def check_output(place: Place) -> None:
    """Raises DataError when nothing can be written there, as far as that can be told at once."""
    if place.path == PIPE:
        return
    _check_no_folder(place.path)
    if place.piped:
        raise DataError(
            f"{place.path}: is a device or a pipe, which the output cannot take the place of; "
            "write to - and redirect"
        )


def _check_no_folder(path: str) -> None:
    if path.endswith("/") or Path(path).is_dir():
        raise DataError(f"{path}: is a directory; name a file in it")


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
        file = _decompressed(raw, found)
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
        self._told = False

    def go_to(self, number: int, size: int, offset: int) -> None:
        """Go on at a byte of the file, after so many lines and bytes of them."""
        self.source.file.seek(offset)
        self.number, self.bytes = number, size

    def escaped(self, line: bytes, number: int) -> str:
        """The text of a line that is not UTF-8. The first is told: the file may have another
        encoding."""
        if not (self._told or self.source.decoded):
            self._tell(number)
        return line.decode("utf-8", "surrogateescape")

    def _tell(self, number: int) -> None:
        self._told = True
        log.warning(
            "%s: line %d is not UTF-8; its bytes are kept as they are (JSON and Parquet cannot "
            "hold them); %s",
            self.source.name,
            number,
            ENCODING_HINT,
            extra={"action": "not_utf8", "file": self.source.name, "line": number},
        )

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
        except DAMAGED as error:
            raise unreadable(self.source.name, error, f"line {self.number:,}") from error


@contextlib.contextmanager
def damaged(name: str, line: int) -> Iterator[None]:
    """Raises DataError for what reading a damaged file raises."""
    try:
        yield
    except DAMAGED as error:
        raise unreadable(name, error, f"line {line:,}") from error


def unreadable(name: str, error: Exception, after: str = "line 0") -> DataError:
    """One line for what is damaged after that."""
    if isinstance(error, OSError) and error.errno is not None:
        return unusable(name, error)
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(
        f"{name}: damaged or cut off after {after} ({reason}); fetch or compress it again"
    )
