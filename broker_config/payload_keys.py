"""The file of payload keys, read anew when it changes: a rotation needs no restart."""

from __future__ import annotations

import functools
import logging
import os
import stat
import time
from pathlib import Path
from typing import Final, NamedTuple

from lmaas.broker_config import extras
from lmaas.broker_config.errors import SettingsError
from lmaas.broker_config.private_files import opened
from lmaas.broker_config.sealing import Keyring, parsed

log = logging.getLogger(__name__)

#: Seconds between two looks at whether the file has changed.
LOOK: Final = 1.0
#: Bytes of a file at most.
LARGEST: Final = 64 * 1024
#: What nobody but the owner of the file may do.
_OTHERS: Final = 0o077


class _State(NamedTuple):
    """By what a change is seen."""

    inode: int
    size: int
    modified: int
    changed: int


class KeyFile:
    """The keys of a file, as it is now; what it was while it cannot be used."""

    def __init__(self, path: Path) -> None:
        """Raises SettingsError: the file is not there, others may read it, or a line is wrong."""
        self._path = path
        self._keyring, self._state = _read(path)
        self._looked = time.monotonic()
        self._told = ""

    def keyring(self, needed: str | None = None) -> Keyring:
        """With the key of this id, if it has come into the file a moment ago."""
        if time.monotonic() - self._looked >= LOOK or (needed and needed not in self._keyring):
            self._look()
        return self._keyring

    def _look(self) -> None:
        self._looked = time.monotonic()
        try:
            if _state(self._path.stat()) != self._state:
                self._keyring, self._state = _read(self._path)
                self._told = ""
                log.info("%r of %s", self._keyring, self._path, extra={"action": "payload_keys"})
        except (OSError, SettingsError) as error:
            if str(error) != self._told:  # once, and not at each message
                self._told = str(error)
                log.warning(
                    "the payload keys stay as they were: %s", error,
                    extra={"action": "payload_keys"},
                )  # fmt: skip


def key_file(path: str) -> KeyFile:
    """One for each file in a process. Raises SettingsError."""
    return _of_process(str(Path(path).absolute()), os.getpid())


@functools.cache
def _of_process(path: str, _: int) -> KeyFile:
    return KeyFile(Path(path))


def _state(found: os.stat_result) -> _State:
    return _State(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _read(path: Path) -> tuple[Keyring, _State]:
    if problem := extras.lacking("cryptography"):
        raise SettingsError(f"payload_keys: {problem}")
    try:
        with opened("payload_keys", path) as file:
            found = os.fstat(file.fileno())
            _check(path, found)
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise SettingsError(f"payload_keys: {path}: {error.strerror}") from error
    if len(content) > LARGEST:
        raise SettingsError(f"payload_keys: {path} has more than {LARGEST:,} bytes: no such file")
    try:
        return Keyring(parsed(content.decode("utf-8-sig"))), _state(found)
    except UnicodeDecodeError:
        raise SettingsError(f"payload_keys: {path} is no text") from None
    except ValueError as error:
        raise SettingsError(f"payload_keys: {path}: {error}") from error


def _check(path: Path, found: os.stat_result) -> None:
    """Raises SettingsError unless only its owner can read it."""
    if os.name == "posix" and found.st_mode & _OTHERS:
        raise SettingsError(
            f"payload_keys: {path} can be used by others than its owner (mode "
            f"{stat.S_IMODE(found.st_mode):04o}): chmod 600 {path}"
        )
