"""The results of a job as they come: a file that only grows, and an index of its chunks.

`ID.ndjson` has a line for each result. `ID.index` has a record for each chunk of the job, which is
written after the chunk's lines: what stands behind the last record is half a chunk, which nobody
has seen. So an offset into the lines that somebody was given stays right, whatever is killed when.

Results of a replay (see `answers.Chunk.amends`) come behind those that they take the place of.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, Self

import msgspec

from lmaas.broker_config.messages import Result
from lmaas.producer.answers import Chunk, merged
from lmaas.producer.gateway.state.jobs import Counts, Failed

#: So many failures are told of a job.
SHOWN: Final = 10

_lines: Final = msgspec.json.Encoder().encode_lines
_result: Final = msgspec.json.Decoder(Result)


class Record(NamedTuple):
    """One chunk in the file."""

    chunk: int
    amends: bool
    #: The offset behind its last line.
    end: int
    #: By how many the counts of the job grow; failures become fewer when a chunk amends.
    items: int
    failed: int
    #: CRC-32 of its lines.
    checksum: int


_RECORD: Final = struct.Struct("<I?QIiI")


class Held(Exception):
    """Another process writes the file."""


class ResultFile:
    """The file of one job, to be written by one. Opening it cuts off what is half of a chunk."""

    def __init__(self, folder: Path, job: str) -> None:
        """Raises Held, and OSError."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            self._lines = stack.enter_context(_opened(lines_path(folder, job)))
            self._index = stack.enter_context(_opened(index_path(folder, job)))
            try:
                fcntl.flock(self._index, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Held(f"results of job {job} are being written") from error
            self._known: set[tuple[int, int]] = set()
            self._end = self._done = self._failed = 0
            self._errors: list[Failed] = []
            self._recover()
            stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Others may write it from now on."""
        self._lines.close()
        self._index.close()

    def _recover(self) -> None:
        whole = 0
        for record in _records(self._index):
            content = _read(self._lines, self._end, record.end - self._end)
            if zlib.crc32(content) != record.checksum or self._end + len(content) != record.end:
                break
            self._count(record, content)
            whole += 1
        self._index.truncate(whole * _RECORD.size)
        self._lines.truncate(self._end)

    def _count(self, record: Record, content: bytes) -> None:
        self._known.add(_identity(record))
        self._end = record.end
        self._done += record.items
        self._failed += record.failed
        if record.failed > 0 and len(self._errors) < SHOWN:
            found = (_result.decode(line) for line in content.splitlines() if b'"error":' in line)
            failed = [Failed(one.id, one.error) for one in found if one.error is not None]
            self._errors += failed[: SHOWN - len(self._errors)]

    @property
    def counts(self) -> Counts:
        """How far the job is."""
        return Counts(self._done, self._failed, self._errors if self._failed else [])

    def append(self, chunk: Chunk) -> None:
        """Add a chunk, unless it is there. Raises OSError; the file has to be opened anew then."""
        results = chunk.reply.results
        content = _lines(results)
        failed = sum(result.error is not None for result in results)
        record = Record(
            chunk.number,
            chunk.amends,
            self._end + len(content),
            items=0 if chunk.amends else len(results),
            failed=failed - len(results) if chunk.amends else failed,
            checksum=zlib.crc32(content),
        )
        if _identity(record) in self._known:
            return
        _write(self._lines, content)
        _write(self._index, _RECORD.pack(*record))
        self._count(record, content)

    def sync(self) -> None:
        """Returns when everything is on disk. Raises OSError."""
        os.fsync(self._lines.fileno())
        os.fsync(self._index.fileno())


def _identity(record: Record) -> tuple[int, int]:
    """A chunk is there once; of amendments the same ones are."""
    return record.chunk, record.checksum if record.amends else -1


def _opened(path: Path) -> BinaryIO:
    # Without a buffer: what is written can be read by others at once, and in this order.
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+b", buffering=0)


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    return os.pread(file.fileno(), max(0, size), offset)


def _write(file: BinaryIO, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


def _records(index: BinaryIO) -> Iterator[Record]:
    index.seek(0)
    content = index.read()
    whole = len(content) // _RECORD.size * _RECORD.size
    return (Record(*fields) for fields in _RECORD.iter_unpack(content[:whole]))


def lines_path(folder: Path, job: str) -> Path:
    return folder / f"{job}.ndjson"


def index_path(folder: Path, job: str) -> Path:
    return folder / f"{job}.index"


def end_of(folder: Path, job: str) -> int:
    """The offset up to which there are whole chunks; 0 when there is no file."""
    try:
        with index_path(folder, job).open("rb") as index:
            records = os.fstat(index.fileno()).st_size // _RECORD.size
            if not records:
                return 0
            last = _read(index, (records - 1) * _RECORD.size, _RECORD.size)
    except FileNotFoundError:
        return 0
    return Record(*_RECORD.unpack(last)).end


def in_order(folder: Path, job: str) -> Iterator[list[Result]]:
    """The results of each chunk in the order of the job, replays in the places of failures."""
    places: dict[int, list[tuple[int, int]]] = {}
    start = 0
    with index_path(folder, job).open("rb") as index:
        for record in _records(index):
            places.setdefault(record.chunk, []).append((start, record.end - start))
            start = record.end
    with lines_path(folder, job).open("rb") as file:
        for number in sorted(places):
            first, *later = (_results(_read(file, *place)) for place in places[number])
            yield merged(first, (result for results in later for result in results))


def _results(content: bytes) -> list[Result]:
    return _result.decode_lines(content)


def remove(folder: Path, jobs: Iterable[str]) -> None:
    """Delete everything that there is of these jobs."""
    for job in jobs:
        for path in folder.glob(f"{job}.*"):
            path.unlink(missing_ok=True)
