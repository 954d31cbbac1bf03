"""Folders of files, and patterns (`reviews/*.txt`): a file is a row.

`file` is the name as it is below the folder, or below the part of the pattern that has no `*`, `?`
or `[`; by it the rows are ordered. A folder is read with its sub-folders; what begins with a dot,
links to folders, and what is no file (a FIFO, a socket) are passed over. A file that cannot be read
is the error of its row, and so is a link that leads out of the folder.
"""

from __future__ import annotations

import glob
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Final

from lmaas.broker_config.errors import DataError
from lmaas.producer.tables import contents
from lmaas.producer.tables.chunks import Table
from lmaas.producer.tables.contents import Files, Member, TooLarge, Unreadable
from lmaas.producer.tables.file_errors import reason, unusable
from lmaas.producer.tables.places import ARCHIVES, FORMATS, Place
from lmaas.producer.tables.quoting import quoted
from lmaas.producer.tables.taking import NO_FILE, Sieve
from lmaas.producer.tables.wanted import Wanted

_OUTSIDE: Final = "it is a link that leads out of the folder; --outside reads such files, too"


def read(place: Place, wanted: Wanted) -> Table:
    """The columns are `file` and, of texts, `text` if it is named in `wanted`.

    Raises DataError when there are no files that the model takes, a folder cannot be read, or a
    second text is wanted.
    """
    path = place.path
    pattern = None if Path(path).is_dir() else path
    root, rest = (path, "") if pattern is None else _parts(pattern)
    names = sorted(set(_below(root) if pattern is None else _matching(root, rest)))
    taken = wanted.taking.known(names)
    sieve = Sieve(path, taken, hidden=pattern is not None)  # a pattern says itself what it means
    found, checksum = _listed(root, names, sieve)
    if not found:
        raise _nothing(path, names, sieve, is_folder=pattern is None)
    if not taken:
        _check_texts(path, found)
    sieve.tell()
    base = None if wanted.taking.outside else os.path.realpath(root)

    def members() -> Iterator[Member]:
        for name in found:
            # A folder is read through no links to folders: only the file itself may be one.
            inside = pattern is None and not os.path.islink(os.path.join(root, name))  # noqa: PTH114, PTH118
            yield _member(root, name, None if inside else base)

    files = Files(
        name=path,
        members=members,
        taken=taken,
        size=len(found),
        listing=checksum,
        passed_over=sieve.passed_over,
    )
    return contents.read(files, wanted, place.dialect.encoding)


def covers(source: Place, target: str) -> bool:
    """Whether a file would be one of the source's, the next time that it is read."""
    path = os.path.abspath(source.path)  # noqa: PTH100 - a pattern is no Path
    file = PurePath(os.path.realpath(target))
    if os.path.isdir(path):  # noqa: PTH112
        return file.is_relative_to(os.path.realpath(path))
    return file.match(path)


def _listed(root: str, names: list[str], sieve: Sieve) -> tuple[list[str], str]:
    """Those that are items, and a checksum of their names, sizes and times."""
    digest = hashlib.sha256()
    found = []
    for name in names:
        if not sieve.takes(name):
            continue
        file = _stat(os.path.join(root, name))  # noqa: PTH118 - 100,000 of them
        if file is not None and not stat.S_ISREG(file.st_mode):
            if not stat.S_ISDIR(file.st_mode):
                sieve.count(NO_FILE, name)
            continue
        about = (name, file and file.st_size, file and file.st_mtime_ns)
        digest.update(repr(about).encode("utf-8", "backslashreplace"))
        found.append(name)
    return found, digest.hexdigest()


def _nothing(path: str, names: list[str], sieve: Sieve, *, is_folder: bool) -> DataError:
    if names and sieve.has_others:
        return sieve.nothing()
    what = "is a folder, and there is no file in it" if is_folder else "no file has such a name"
    return DataError(f"{path}: {what}")


def _parts(pattern: str) -> tuple[str, str]:
    """The folder whose name has no magic, and the rest of the pattern."""
    parts = PurePath(pattern).parts
    first = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    return str(PurePath(*parts[:first])), str(PurePath(*parts[first:]))


def _below(root: str, inner: str = "") -> Iterator[str]:
    """The names of all that is no folder, and of hidden ones. Raises DataError where a folder
    cannot be read.
    """
    folder = Path(root, inner)
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except OSError as error:
        raise unusable(folder, error) from error
    for entry in found:
        name = f"{inner}{entry.name}"
        if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
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
    tables = set(FORMATS) - {".txt"} - ARCHIVES.keys()
    if all(os.path.splitext(name)[1].lower() in tables for name in names):  # noqa: PTH122
        what = "is a folder that " if Path(path).is_dir() else ""
        raise DataError(
            f"{path}: {what}has tables and no texts; name one of them, for example "
            f"{quoted(names[0])}"
        )


def _member(root: str, name: str, base: str | None) -> Member:
    path = os.path.join(root, name)  # noqa: PTH118
    return Member(name, lambda most: file_content(path, base, most, _OUTSIDE))


def file_content(path: str, base: str | None, most: int, outside: str) -> bytes:
    """All of a regular file, at most `most` bytes; `base` is the real path of its folder.

    Raises TooLarge, and Unreadable: with `outside`, when the file is not below that folder (with
    None it need not be).
    """
    if base is not None:
        path = os.path.realpath(path)
        if not is_below(path, base):
            raise Unreadable(outside)
    try:
        with open(path, "rb", buffering=0, opener=_at_once) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise Unreadable("it is no file")
            if status.st_size > most:
                raise TooLarge(status.st_size)
            return file.read()
    except OSError as error:
        raise Unreadable(reason(error)) from error


def is_below(path: str, base: str) -> bool:
    """Of two real paths."""
    return path.startswith(base.rstrip(os.sep) + os.sep)


def _at_once(path: str, flags: int) -> int:
    """Without waiting for a FIFO's other end."""
    return os.open(path, flags | os.O_NONBLOCK)
