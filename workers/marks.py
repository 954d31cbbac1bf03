"""What was served, so that nothing older is served after it: against roll-backs.

Older versions and older statements on which version answers were signed too. What answers who names
no version is therefore never older than what did so before, by the moment of its signature. A
process knows what it served itself; with a file, also what others that use it served before.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import msgspec

from lmaas.broker_config.errors import ModelDamaged, SettingsError


class Marks:
    """By model: the moment of the newest signature by which a version answered by default."""

    def __init__(self, path: Path | None = None) -> None:
        """Without a file, of this process. Raises SettingsError when the file cannot be used."""
        self._path = path
        self._times: dict[str, int] = {}
        try:
            self._update({})
        except ModelDamaged as error:
            raise SettingsError(str(error)) from error

    def check(self, model: str, version: str, time: int) -> None:
        """Raises ModelDamaged when something newer was served, or nobody can know."""
        self._update({})
        newest = self._times.get(model, 0)
        if time < newest:
            raise ModelDamaged(
                f"rolled back: it was signed at {moment(time)}, and what answered before at "
                f"{moment(newest)}; if that is wanted, `lmaas models activate {model} {version} "
                "--sign FILE` signs it anew"
            )

    def advance(self, model: str, time: int) -> None:
        """That something of this moment answers now. Raises ModelDamaged if it is not kept."""
        if time > self._times.get(model, 0):
            self._update({model: time})

    def _update(self, times: dict[str, int]) -> None:
        """What is newer in the file, here or in `times` counts. Raises ModelDamaged."""
        self._times = _newest(self._times, times)
        if self._path is None:
            return
        try:
            with _locked(self._path) as file:
                kept = msgspec.json.decode(file.read() or b"{}", type=dict[str, int])
                self._times = _newest(self._times, kept)
                if self._times != kept:
                    _rewrite(file, msgspec.json.encode(self._times))
        except msgspec.DecodeError as error:
            raise ModelDamaged(
                f"model_marks {str(self._path)!r}: it does not hold what was served: {error}; "
                "name another file, or delete it, and with it the protection against roll-backs"
            ) from error
        except OSError as error:
            raise ModelDamaged(
                f"model_marks {str(self._path)!r}: {error.strerror}; name a file that workers may "
                "write"
            ) from error


def moment(time: int) -> str:
    """Milliseconds since 1970 for people."""
    return datetime.fromtimestamp(time / 1000, UTC).isoformat(" ", "milliseconds")[:-6] + " UTC"


def _newest(first: dict[str, int], second: dict[str, int]) -> dict[str, int]:
    return {key: max(first.get(key, 0), second.get(key, 0)) for key in first | second}


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """The file, made if need be, which no other process has meanwhile."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def _rewrite(file: BinaryIO, content: bytes) -> None:
    """In one write, of which a process that is killed has done all or nothing."""
    file.seek(0)
    file.write(content)
    file.truncate()
    file.flush()
    os.fsync(file.fileno())
