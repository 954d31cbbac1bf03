"""Reading the results of a job, also while they come; `result_format` says in which form."""

from __future__ import annotations

import contextlib
import os
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

import msgspec

from lmaas.broker_config.codes import Code
from lmaas.broker_config.errors import SealError
from lmaas.broker_config.messages import Result
from lmaas.producer.answers import merged
from lmaas.producer.gateway.at_rest.frames import HEAD
from lmaas.producer.gateway.at_rest.keeping import AtRest
from lmaas.producer.gateway.jobs.result_format import (
    RECORD,
    Form,
    Record,
    index_path,
    lines_path,
    name_of,
    read,
    unpacked,
)

_result: Final = msgspec.json.Decoder(Result)


class ResultReader:
    """What is in the file of one job, which may still grow.

    Its methods raise OSError, and SealError.
    """

    def __init__(self, folder: Path, job: str, at_rest: AtRest) -> None:
        with contextlib.ExitStack() as stack:
            self._lines = stack.enter_context(lines_path(folder, job).open("rb"))
            self._index = stack.enter_context(index_path(folder, job).open("rb", buffering=0))
            self._name = name_of(job)
            self._form = Form(at_rest.frames(read(self._lines, 0, HEAD), self._name))
            #: Behind each record.
            self._ends = array("Q")
            self._last: tuple[int, bytes] = (-1, b"")
            stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._lines.close()
        self._index.close()

    def read(self, offset: int, size: int) -> bytes:
        """Some of these bytes of the lines, at least one; none: the file was cut."""
        if not self._form.is_sealed:
            return read(self._lines, offset, size)
        number = bisect_right(self._ends, offset)
        if number == len(self._ends):
            self._look()
            number = bisect_right(self._ends, offset)
        if number == len(self._ends):
            return b""
        start = offset - self._start(number)
        return self._content(number)[start : start + size]

    def chunks(self) -> dict[int, list[int]]:
        """The records of each chunk, the first one first, for `results`.

        Raises SealError when the file was not written to its end.
        """
        self._look()
        found: dict[int, list[int]] = {}
        for number in range(len(self._ends)):
            found.setdefault(self._record(number).chunk, []).append(number)
        self.check_end()
        return found

    def results(self, number: int) -> list[Result]:
        """Of a record."""
        return _result.decode_lines(self._content(number))

    def check_end(self) -> None:
        """Raises SealError when a file of a job that has ended was cut, as far as that is seen."""
        if not self._form.is_sealed:
            return
        self._look()
        number, end = len(self._ends), self._start(len(self._ends))
        content = read(self._index, number * RECORD.size, RECORD.size)
        last = next(unpacked(content), None)
        if last is None:
            raise SealError(f"{self._name}: its end is missing", Code.SEAL_BROKEN)
        self._form.lines(read(self._lines, *self._form.place(number, end, end)), number, last)

    def _look(self) -> None:
        """For records that came since the last look."""
        known = len(self._ends)
        size = os.fstat(self._index.fileno()).st_size
        new = unpacked(read(self._index, known * RECORD.size, size))
        self._ends.extend(record.end for record in new if not record.is_last)

    def _record(self, number: int) -> Record:
        content = read(self._index, number * RECORD.size, RECORD.size)
        return Record(*RECORD.unpack(content))

    def _start(self, number: int) -> int:
        return self._ends[number - 1] if number else 0

    def _content(self, number: int) -> bytes:
        if self._last[0] != number:
            place = self._form.place(number, self._start(number), self._ends[number])
            stored = read(self._lines, *place)
            self._last = (number, self._form.lines(stored, number, self._record(number)))
        return self._last[1]


def end_of(folder: Path, job: str) -> int:
    """The offset up to which there are whole chunks; 0 when there is no file."""
    try:
        with index_path(folder, job).open("rb") as index:
            records = os.fstat(index.fileno()).st_size // RECORD.size
            if not records:
                return 0
            last = read(index, (records - 1) * RECORD.size, RECORD.size)
    except FileNotFoundError:
        return 0
    return Record(*RECORD.unpack(last)).end


def in_order(folder: Path, job: str, at_rest: AtRest) -> Iterator[list[Result]]:
    """The results of each chunk in the order of the job, replays in the places of failures.

    The job has ended. Raises OSError, and SealError.
    """
    with ResultReader(folder, job, at_rest) as reader:
        for _, numbers in sorted(reader.chunks().items()):
            first, *later = (reader.results(number) for number in numbers)
            yield merged(first, (result for results in later for result in results))
