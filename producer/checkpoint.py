"""Output that appears only when it is complete, and that a later run can go on with.

While a run writes `out.csv`, its rows are in `out.csv.partial` and what is needed to go on is in
`out.csv.partial.json`, which is only ever replaced by a newer one after its rows are on disk.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol, Self

import msgspec

from lmaas.broker_config.errors import DataError
from lmaas.producer.tables.chunks import Mark
from lmaas.producer.tables.compression import compressor
from lmaas.producer.tables.file_errors import reason, unusable
from lmaas.producer.tables.places import Place, check_output

#: A compressed output gets a member of its own at every checkpoint, and for this many bytes.
MEMBER_BYTES: Final = 4 * 1024 * 1024


class State(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What a run has done so far, as far as it is on disk."""

    #: What may not change between a run and its resumption, in words -> value.
    fingerprint: dict[str, Any]
    rows: int = 0
    failed: int = 0
    #: The first failures, for the last line of the run.
    failures: list[str] = []
    #: The version that answered; None before the first answer.
    version: str | None = None
    #: The queue that its packs were answered to, on their way through a broker.
    results: str | None = None
    #: Bytes of the partial file that belong to these rows.
    offset: int = 0
    #: Where the next row begins in the input, where that is known.
    mark: Mark | None = None


class Output(Protocol):
    """Where the bytes of a run go."""

    def write(self, data: bytes) -> None: ...
    def checkpoint(self, state: State) -> None: ...
    def finish(self, convert: Callable[[Path], Path]) -> None: ...
    def close(self) -> None: ...


class Pipe:
    """Standard output: what is written is gone, so there is nothing to resume."""

    def __init__(self) -> None:
        self._file = sys.stdout.buffer

    def write(self, data: bytes) -> None:
        """Raises DataError, and BrokenPipeError when the reader has left."""
        try:
            self._file.write(data)
            self._file.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise unusable("standard output", error) from error

    def checkpoint(self, state: State) -> None:
        """Nothing can be kept."""

    def finish(self, convert: Callable[[Path], Path]) -> None:
        """Everything was written already."""

    def close(self) -> None:
        """Standard output belongs to the process."""


class PartialFile:
    """A file in the making, beside the place where it will be. Every method raises DataError."""

    def __init__(self, target: Place) -> None:
        """Nobody else may write to it; raises before any work is done."""
        self.target = Path(target.path)
        self.path = partial_path(target.path)
        self._compress = compressor(target.compression)
        self._members = bool(target.compression)
        self._waiting = bytearray()
        check_output(target)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            # Not truncated yet: it may belong to a run that goes on.
            self._file: BinaryIO = os.fdopen(os.open(self.path, flags, 0o666), "r+b")
        except OSError as error:
            if error.errno == errno.ELOOP:  # by which others of the folder would have our rows
                raise DataError(f"{self.path} is a link; delete it") from error
            raise _refused(self.target, error) from error
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise DataError(f"{self.path}: another run is writing it; wait for its end") from error

    def start(self, header: bytes) -> None:
        """Begin with nothing but the header."""
        with self._told():
            state_path(self.target).unlink(missing_ok=True)
            self._file.truncate(0)
        self.write(header)

    def go_on(self, state: State) -> None:
        """Drop what was written after the checkpoint, and append to the rest."""
        size = os.fstat(self._file.fileno()).st_size
        if size < state.offset:
            raise DataError(
                f"{self.path}: has {size:,} bytes and should have {state.offset:,}; "
                "run without --resume to start over"
            )
        with self._told():
            self._file.truncate(state.offset)
            self._file.seek(state.offset)

    def write(self, data: bytes) -> None:
        if not self._members:
            with self._told():
                self._file.write(data)
            return
        self._waiting += data
        if len(self._waiting) >= MEMBER_BYTES:
            self._end_member()

    def _end_member(self) -> None:
        if self._waiting:
            with self._told():
                self._file.write(self._compress(bytes(self._waiting)))
            self._waiting.clear()

    def checkpoint(self, state: State) -> None:
        """Have everything on disk, then say so in the state file. Sets `state.offset`."""
        self._end_member()
        with self._told():
            self._file.flush()
            os.fsync(self._file.fileno())
            state.offset = self._file.tell()
            _replace(state_path(self.target), msgspec.json.encode(state))

    def finish(self, convert: Callable[[Path], Path]) -> None:
        """Let the complete file appear: the partial one, or what `convert` makes of it."""
        self._end_member()
        with self._told():
            self._file.flush()
            if self._members and not self._file.tell():
                self._file.write(self._compress(b""))  # an empty file is no compressed one
                self._file.flush()
            whole = convert(self.path)
            descriptor = os.open(whole, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            whole.replace(self.target)
            self.path.unlink(missing_ok=True)
            state_path(self.target).unlink(missing_ok=True)
            _sync_folder(self.target.parent)

    def close(self) -> None:
        # What a full disk refused is refused again here, and was told before.
        with contextlib.suppress(OSError):
            self._file.close()
        # Without a checkpoint nobody can go on with it.
        if not state_path(self.target).exists():
            with contextlib.suppress(OSError):
                self.path.unlink()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise _refused(self.target, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def partial_path(target: Path | str) -> Path:
    return Path(f"{target}.partial")


def state_path(target: Path | str) -> Path:
    return Path(f"{target}.partial.json")


def left(target: Path | str) -> State | None:
    """The state of a run that did not end, or None when nothing of one can be used."""
    if not partial_path(target).is_file():
        return None
    try:
        return msgspec.json.decode(state_path(target).read_bytes(), type=State)
    except (OSError, msgspec.DecodeError):
        return None


def check_same(then: dict[str, Any], now: dict[str, Any], target: str) -> None:
    """Raises DataError naming the first thing that changed; what is None is not known."""
    for what, value in now.items():
        before = then.get(what)
        if value is not None and before is not None and before != value:
            raise DataError(
                f"{target}: cannot resume, as {what} was {before!r} and is {value!r}; "
                "run without --resume to start over"
            )


def _replace(path: Path, content: bytes) -> None:
    fresh = path.with_name(path.name + ".new")
    try:
        fresh.unlink(missing_ok=True)  # of a run that was killed, or a link of somebody else
        with fresh.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refused(target: Path, error: OSError) -> DataError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return DataError(
            f"{target}: {reason(error)}; free some space and try again (where there is "
            "--resume, with it)"
        )
    if not target.parent.is_dir():
        return DataError(f"{target}: there is no folder {str(target.parent)!r}; create it first")
    return unusable(target, error)
