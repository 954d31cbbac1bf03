"""Writing the results of a job as they come; `result_format` says in which form."""

from __future__ import annotations

import contextlib
import fcntl
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Final, Self

import msgspec

from lmaas.broker_config.messages import Result
from lmaas.producer.answers import Chunk
from lmaas.producer.gateway.at_rest.frames import HEAD
from lmaas.producer.gateway.at_rest.keeping import AtRest
from lmaas.producer.gateway.jobs.result_format import (
    NO_CHUNK,
    RECORD,
    Form,
    Record,
    index_path,
    lines_path,
    name_of,
    read,
    records,
)
from lmaas.producer.gateway.jobs.result_sealing import seal
from lmaas.producer.gateway.state.jobs import Counts, Failed

#: So many failures are told of a job.
SHOWN: Final = 10

_lines: Final = msgspec.json.Encoder().encode_lines
_result: Final = msgspec.json.Decoder(Result)


class Held(Exception):
    """Another process writes the file."""


class ResultFile:
    """The file of one job, to be written by one. Opening it cuts off what is half of a chunk."""

    def __init__(self, folder: Path, job: str, at_rest: AtRest) -> None:
        """Raises Held, OSError, and SealError."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._known: set[tuple[int, int]] = set()
        self._number = self._end = self._done = self._failed = 0
        self._errors: list[Failed] = []
        with contextlib.ExitStack() as stack:
            self._open(folder, job, stack)
            if self._is_begun and seal(folder, job, at_rest, self._lines, self._index):
                self._open(folder, job, stack)
            self._form = self._begin(job, at_rest)
            self._recover()
            self._files = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Others may write it from now on."""
        self._files.close()

    def _open(self, folder: Path, job: str, stack: contextlib.ExitStack) -> None:
        self._lines = stack.enter_context(_opened(lines_path(folder, job)))
        self._index = stack.enter_context(_opened(index_path(folder, job)))
        try:
            fcntl.flock(self._index, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Held(f"results of job {job} are being written") from error

    @property
    def _is_begun(self) -> bool:
        return all(os.fstat(file.fileno()).st_size for file in (self._lines, self._index))

    def _begin(self, job: str, at_rest: AtRest) -> Form:
        name = name_of(job)
        if self._is_begun:
            return Form(at_rest.frames(read(self._lines, 0, HEAD), name))
        self._lines.truncate(0)
        self._index.truncate(0)
        form = Form(at_rest.new_frames(name) if at_rest.is_sealed else None)
        _write(self._lines, form.head)
        return form

    def _recover(self) -> None:
        for record in records(self._index):
            offset, size = self._form.place(self._number, self._end, record.end)
            stored = read(self._lines, offset, size)
            if zlib.crc32(stored) != record.checksum or len(stored) != size or record.is_last:
                break
            self._count(record, self._form.lines(stored, self._number, record))
        self._index.truncate(self._number * RECORD.size)
        self._lines.truncate(self._form.place(self._number, self._end, self._end)[0])

    def _count(self, record: Record, lines: bytes) -> None:
        self._known.add(_identity(record.chunk, record.amends, lines))
        self._number += 1
        self._end = record.end
        self._done += record.items
        self._failed += record.failed
        if record.failed > 0 and len(self._errors) < SHOWN:
            found = (_result.decode(line) for line in lines.splitlines() if b'"error":' in line)
            failed = [Failed(one.id, one.error) for one in found if one.error is not None]
            self._errors += failed[: SHOWN - len(self._errors)]

    @property
    def counts(self) -> Counts:
        """How far the job is."""
        return Counts(self._done, self._failed, self._errors if self._failed else [])

    def append(self, chunk: Chunk) -> None:
        """Add a chunk, unless it is there.

        Raises OSError and SealError; the file has to be opened anew then.
        """
        results = chunk.reply.results
        lines = _lines(results)
        if _identity(chunk.number, chunk.amends, lines) in self._known:
            return
        failed = sum(result.error is not None for result in results)
        record = Record(
            chunk.number,
            chunk.amends,
            self._end + len(lines),
            items=0 if chunk.amends else len(results),
            failed=failed - len(results) if chunk.amends else failed,
        )
        self._count(self._put(record, lines), lines)

    def _put(self, record: Record, lines: bytes) -> Record:
        stored, record = self._form.stored(lines, self._number, record)
        _write(self._lines, stored)
        _write(self._index, RECORD.pack(*record))
        return record

    def finish(self) -> None:
        """Nothing more comes. Returns when everything is on disk.

        Raises OSError and SealError.
        """
        if self._form.is_sealed:
            self._put(Record(NO_CHUNK, False, self._end, 0, 0), b"")
        os.fsync(self._lines.fileno())
        os.fsync(self._index.fileno())


def _identity(chunk: int, amends: bool, lines: bytes) -> tuple[int, int]:
    """A chunk is there once; of amendments the same ones are."""
    return chunk, zlib.crc32(lines) if amends else -1


def _opened(path: Path) -> BinaryIO:
    # Without a buffer: what is written can be read by others at once, and in this order.
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+b", buffering=0)


def _write(file: BinaryIO, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


def remove(folder: Path, jobs: Iterable[str]) -> None:
    """Delete everything that there is of these jobs."""
    for job in jobs:
        for path in folder.glob(f"{job}.*"):
            path.unlink(missing_ok=True)
