"""Where rows come from and go to: paths and pipes, their formats and their compression."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from glob import has_magic
from pathlib import Path
from typing import BinaryIO, Final, Self

from lmaas.broker_config.errors import DataError, OptionError
from lmaas.producer.tables import advice
from lmaas.producer.tables.compression import COMPRESSIONS
from lmaas.producer.tables.dialect import CONTAINERS, FOUND, Dialect

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
#: Standard input by other names. It is not opened again: it may be a socket, or another user's.
_STANDARD_INPUT: Final = {PIPE, "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"}


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
