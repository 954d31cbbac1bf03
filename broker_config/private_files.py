"""Files that only their owner can read, and files that nobody else has written."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from lmaas.broker_config.errors import SettingsError

#: What those who are neither the owner nor of the group may do.
_EVERYBODY: Final = 0o007


def write_private(path: Path, content: bytes) -> None:
    """Only the owner can read it, and it is never there in part."""
    with _part(path) as file:
        file.write(content)
    _part_of(path).replace(path)


@contextlib.contextmanager
def held(path: Path, content: bytes) -> Iterator[None]:
    """As `write_private`; then it is there, and locked, for as long as the context lasts.

    The lock goes with this process, also by a kill, after which the file stays.
    """
    import fcntl  # which only POSIX has

    with _part(path) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(content)
        file.flush()
        _part_of(path).replace(path)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def is_held(file: BinaryIO) -> bool:
    """Whether a process holds this file (see `held`), as far as this system can say."""
    if os.name != "posix":
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _part_of(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _part(path: Path) -> BinaryIO:
    """A new file, which is to be at `path`."""
    part = _part_of(path)
    part.unlink(missing_ok=True)
    return os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def opened(setting: str, path: Path) -> BinaryIO:
    """The file, to read. Raises OSError, and SettingsError for what may never end, as a pipe."""
    file = open(path, "rb", opener=_at_once)  # noqa: SIM115 - the caller closes it
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise SettingsError(f"{setting}: {path} is no file")
    return file


def _at_once(path: str, flags: int) -> int:
    """A pipe that nobody writes to does not keep us waiting."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def check_private(setting: str, path: Path, file: BinaryIO) -> None:
    """Raises SettingsError when everybody can read the file, which is open.

    Its group may: so servers that run as different users share a file.
    """
    mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    if os.name == "posix" and mode & _EVERYBODY:
        raise SettingsError(
            f"{setting} {str(path)!r} can be read by everybody on this machine (its mode is "
            f"{mode:04o}): `chmod 600 {path}`, and make a new one if it may have been read"
        )


def check_ours(path: Path, status: os.stat_result) -> None:
    """Raises SettingsError when another user has written the file, or everybody may.

    Ours is what belongs to this user or to root; for who works by sudo also what belongs to who
    called it. Its group may write to it, because some systems give each user a group.
    """
    if os.name != "posix":
        return
    owners = {0, os.geteuid()}
    caller = os.environ.get("SUDO_UID", "")
    if os.geteuid() == 0 and caller.isdecimal():
        owners.add(int(caller))
    trusted = "if you trust it, name it in LMAAS_CONFIG"
    if status.st_uid not in owners:
        raise SettingsError(
            f"{str(path)!r} belongs to another user (number {status.st_uid}), and may have "
            f"commands run as you; {trusted}, or delete it"
        )
    if status.st_mode & stat.S_IWOTH:
        raise SettingsError(
            f"{str(path)!r} can be written by everybody on this machine (its mode is "
            f"{stat.S_IMODE(status.st_mode):04o}), and may have commands run as you: look at it "
            f"and `chmod o-w {path}`, or {trusted}"
        )
