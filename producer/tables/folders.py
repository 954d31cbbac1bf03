"""Folders of text files, and patterns (`reviews/*.txt`): a file is a row, `file` and `text`.

`file` is the name as it is below the folder, or below the part of the pattern that has no `*`, `?`
or `[`; by it the rows are ordered. A folder is read with its sub-folders; what begins with a dot,
links to folders, and what is no file (a FIFO, a socket) are passed over. A file that cannot be read
is the error of its row. Names take memory, contents do not: they are read when it is their turn.
"""

from __future__ import annotations

import glob
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final

from lmaas.broker_config.errors import DataError
from lmaas.producer.tables.chunks import CHUNK_BYTES, CHUNK_ROWS, Chunk, Table, Wanted, quoted
from lmaas.producer.tables.places import FORMATS, Place, reason, unusable
from lmaas.producer.tables.unicode import decoded

FILE: Final = "file"
TEXT: Final = "text"
#: A larger file is no text, and none of it is read.
FILE_BYTES: Final = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Listing:
    root: str
    #: Below the root, in order.
    names: list[str]
    checksum: str


def read(place: Place, wanted: Wanted) -> Table:
    """The columns are `file` and, if it is named in `wanted`, `text`.

    Raises DataError when there are no files, a folder cannot be read, or a second text is wanted.
    """
    wanted.text_of((FILE, TEXT), place.path)
    wanted.pair_of((TEXT,), place.path, TEXT)
    kept = (FILE,) if wanted.keep is None else wanted.kept_of((FILE, TEXT), place.path)
    listing = _listed(place.path)
    return Table(
        place.path,
        kept,
        _chunks(listing, kept, place.dialect.encoding),
        lambda: None,
        size=len(listing.names),
        unit="file",
        listing=listing.checksum,
    )


def covers(source: Place, target: str) -> bool:
    """Whether a file would be one of the source's, the next time that it is read."""
    path = os.path.abspath(source.path)  # noqa: PTH100 - a pattern is no Path
    file = PurePath(os.path.realpath(target))
    if os.path.isdir(path):  # noqa: PTH112
        return file.is_relative_to(os.path.realpath(path))
    return file.match(path)


def _listed(path: str) -> _Listing:
    pattern = None if Path(path).is_dir() else path
    root, rest = (path, "") if pattern is None else _parts(pattern)
    names = _below(root) if pattern is None else _matching(root, rest)
    digest = hashlib.sha256()
    found = []
    for name in sorted(set(names)):
        file = _stat(os.path.join(root, name))  # noqa: PTH118 - 100,000 of them
        if file is not None and not stat.S_ISREG(file.st_mode):
            continue
        about = (name, file and file.st_size, file and file.st_mtime_ns)
        digest.update(repr(about).encode("utf-8", "backslashreplace"))
        found.append(name)
    if not found:
        what = (
            "is a folder, and there is no file in it"
            if pattern is None
            else "no file has such a name"
        )
        raise DataError(f"{path}: {what}")
    _check_texts(path, found)
    return _Listing(root, found, digest.hexdigest())


def _parts(pattern: str) -> tuple[str, str]:
    """The folder whose name has no magic, and the rest of the pattern."""
    parts = PurePath(pattern).parts
    first = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    return str(PurePath(*parts[:first])), str(PurePath(*parts[first:]))


def _below(root: str, inner: str = "") -> Iterator[str]:
    """The names of all that is no folder. Raises DataError where a folder cannot be read."""
    folder = Path(root, inner)
    try:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise unusable(folder, error) from error
    for entry in visible:
        name = f"{inner}{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            yield from _below(root, name + "/")
        else:
            yield name


def _matching(root: str, pattern: str) -> Iterator[str]:
    # Not Path.glob: it has names that begin with a dot, too.
    return glob.iglob(pattern, root_dir=root, recursive=True)  # noqa: PTH207


def _stat(path: str) -> os.stat_result | None:
    """None where the file cannot be looked at: that will be the error of its row."""
    try:
        return os.stat(path)  # noqa: PTH116 - 100,000 of them
    except OSError:
        return None


def _check_texts(path: str, names: list[str]) -> None:
    """Raises DataError when all of them are tables: rows of those are wanted, and no texts."""
    tables = set(FORMATS) - {".txt"}
    if all(os.path.splitext(name)[1].lower() in tables for name in names):  # noqa: PTH122
        what = "is a folder that " if Path(path).is_dir() else ""
        raise DataError(
            f"{path}: {what}has tables and no texts; name one of them, for example "
            f"{quoted(names[0])}"
        )


def _chunks(listing: _Listing, kept: tuple[str, ...], encoding: str | None) -> Iterator[Chunk]:
    start = size = 0
    texts: list[str] = []
    faults: dict[int, str] = {}

    def chunk() -> Chunk:
        end = start + len(texts)
        names = listing.names[start:end]
        columns = {FILE: names, TEXT: texts}
        cells = {name: columns[name] for name in kept}
        return Chunk(start, cells, texts, names, faults, end, encoded=encoding is None)

    for name in listing.names:
        text, fault = _text(os.path.join(listing.root, name), encoding)  # noqa: PTH118
        if fault:
            faults[len(texts)] = f"file {name}: {fault}"
        texts.append(text)
        size += len(text)
        if len(texts) == CHUNK_ROWS or size >= CHUNK_BYTES:
            yield chunk()
            start, size, texts, faults = start + len(texts), 0, [], {}
    if texts:
        yield chunk()


def _text(path: str, encoding: str | None) -> tuple[str, str]:
    """What the file has, and why it cannot be read."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123
            size = os.fstat(file.fileno()).st_size
            if size > FILE_BYTES:
                return "", f"{size:,} bytes; a text has at most {FILE_BYTES >> 20} MiB"
            data = file.read()
    except OSError as error:
        return "", reason(error)
    try:
        return decoded(data, encoding, "it"), ""
    except DataError as error:
        return "", str(error)
