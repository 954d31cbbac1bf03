"""Reads and replaces files of a folder that somebody else may have filled.

Only plain files below the folder are read. No link is followed: it may lead anywhere. Nothing else
is opened either: a pipe is waited for, and a device may never end, or begin to do something.
"""

from __future__ import annotations

import contextlib
import os
import stat
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from lmaas.broker_config.errors import ModelDamaged


def is_plain_name(name: str) -> bool:
    """Whether it names a file below a folder, in one way only: no `..`, no `a//b`, no `./a`."""
    path = PurePosixPath(name)
    return (
        name not in ("", ".")
        and not path.is_absolute()
        and path.as_posix() == name
        and ".." not in path.parts
        and name.isprintable()
    )


def read_plain(folder: Path, name: str, most: int) -> bytes:
    """All of a file that has at most `most` bytes; `name` is a plain one.

    The folder itself may be a link: its place is the choice of whoever runs this. Raises
    ModelDamaged for what is no plain file, is larger, or changes meanwhile, and OSError.
    """
    path = folder / name
    with _opened(folder, name) as descriptor, open(descriptor, "rb", closefd=False) as file:
        size = os.fstat(descriptor).st_size
        if size > most:
            raise ModelDamaged(f"{path}: it has {size:,} bytes, of which at most {most:,} are read")
        content = file.read(size + 1)
    if len(content) != size:
        raise ModelDamaged(f"{path}: it changed while it was read; copy the version again")
    return content


def write_whole(path: Path, content: bytes) -> None:
    """Whoever reads the file meanwhile has the old one or the new one. Raises OSError."""
    fresh = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        fresh.write_bytes(content)
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _opened(folder: Path, name: str) -> Iterator[int]:
    """The descriptor of a plain file, reached folder by folder."""
    *between, last = PurePosixPath(name).parts
    with contextlib.ExitStack() as stack:

        def entered(name: str | Path, flags: int, parent: int | None) -> int:
            descriptor = os.open(name, flags | os.O_CLOEXEC, dir_fd=parent)
            stack.callback(os.close, descriptor)
            return descriptor

        parent = entered(folder, os.O_RDONLY | os.O_DIRECTORY, None)
        place = folder
        for part in between:
            place /= part
            _check(place, part, parent, stat.S_ISDIR, "no folder")
            parent = entered(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, parent)
        _check(place / last, last, parent, stat.S_ISREG, "not a file")
        # Whoever puts something else there in this moment is found out below: O_NONBLOCK waits for
        # no pipe.
        found = entered(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY, parent)
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise ModelDamaged(f"{place / last}: not a file; copy the version again")
        yield found


def _check(
    path: Path, name: str, parent: int, is_right: Callable[[int], bool], otherwise: str
) -> None:
    """Before it is opened, which is not without consequences for every device."""
    mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
    if stat.S_ISLNK(mode):
        raise ModelDamaged(
            f"{path}: a link, and none is followed; copy the version again, without links"
        )
    if not is_right(mode):
        raise ModelDamaged(f"{path}: {otherwise}; copy the version again")
