"""The form of the results of a job on disk: a file that only grows, and an index of its chunks.

`ID.ndjson` has a line for each result. `ID.index` has a record for each chunk of the job, which is
written after the chunk's lines: what stands behind the last record is half a chunk, which nobody
has seen. So an offset into the lines that somebody was given stays right, whatever is killed when.

Results of a replay (see `answers.Chunk.amends`) come behind those that they take the place of.

Where there are payload keys, the lines of each chunk are a sealed frame. Offsets are those of the
lines, without what sealing adds. The last record is of a frame without lines then, which says that
the file is whole.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from lmaas.producer.gateway.at_rest.frames import LAST, OVERHEAD, Frames

#: Instead of the number of a chunk: nothing comes after it.
NO_CHUNK: Final = 2**32 - 1


class Record(NamedTuple):
    """One chunk in the file."""

    chunk: int
    amends: bool
    #: The offset behind its last line.
    end: int
    #: By how many the counts of the job grow; failures become fewer when a chunk amends.
    items: int
    failed: int
    #: CRC-32 of its lines as they are in the file.
    checksum: int = 0

    @property
    def is_last(self) -> bool:
        return self.chunk == NO_CHUNK

    @property
    def note(self) -> str:
        """What a frame is bound to."""
        if self.is_last:
            return LAST
        return f"{self.chunk} {self.amends:d} {self.items} {self.failed}"


RECORD: Final = struct.Struct("<I?QIiI")


class Form:
    """How lines are in a file: as they are, or as frames, one for each record."""

    def __init__(self, frames: Frames | None) -> None:
        self._frames = frames

    @property
    def is_sealed(self) -> bool:
        return self._frames is not None

    @property
    def head(self) -> bytes:
        """How the file begins."""
        return b"" if self._frames is None else self._frames.head

    def place(self, number: int, start: int, end: int) -> tuple[int, int]:
        """Offset and size in the file, of the lines of a record from `start` to `end`."""
        if self._frames is None:
            return start, end - start
        return len(self.head) + start + number * OVERHEAD, end - start + OVERHEAD

    def stored(self, lines: bytes, number: int, record: Record) -> tuple[bytes, Record]:
        """What is to be written. Raises SealError."""
        if self._frames is not None:
            lines = self._frames.seal(lines, number, record.note)
        return lines, record._replace(checksum=zlib.crc32(lines))

    def lines(self, stored: bytes, number: int, record: Record) -> bytes:
        """What was written. Raises SealError."""
        if self._frames is None:
            return stored
        return self._frames.open(stored, number, record.note)


def lines_path(folder: Path, job: str) -> Path:
    return folder / f"{job}.ndjson"


def index_path(folder: Path, job: str) -> Path:
    return folder / f"{job}.index"


def name_of(job: str) -> str:
    """What the file of lines is called where it is sealed."""
    return f"results/{job}.ndjson"


def records(index: BinaryIO) -> Iterator[Record]:
    index.seek(0)
    return unpacked(index.read())


def unpacked(content: bytes) -> Iterator[Record]:
    whole = len(content) // RECORD.size * RECORD.size
    return (Record(*fields) for fields in RECORD.iter_unpack(content[:whole]))


def read(file: BinaryIO, offset: int, size: int) -> bytes:
    return os.pread(file.fileno(), max(0, size), offset)
