"""The results of a batch job into a file, in the order in which its items were submitted."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from lmaas.broker_config.errors import DataError, OptionError
from lmaas.broker_config.messages import MSGPACK, Result, decode_reply, encode
from lmaas.producer.answers import merged
from lmaas.producer.batch import Jobs
from lmaas.producer.checkpoint import PartialFile
from lmaas.producer.rows import label_of
from lmaas.producer.submitted import Submitted
from lmaas.producer.tables import (
    PIPE,
    Answers,
    Chunk,
    Encoding,
    Place,
    Table,
    encoding,
    footer,
)
from lmaas.producer.tables.cells import ranking
from lmaas.producer.tables.wanted import check_names
from lmaas.producer.threads import beside

#: Items and how many of them failed.
Counts = tuple[int, int]
_UNRANKED: Final = ("label", "score", "error")
_RANKED: Final = ("label", "score", "scores", "error")


async def collect(
    jobs: Jobs,
    job: str,
    target: Place,
    report: Callable[[int], None] | None = None,
    submitted: Submitted | None = None,
) -> Counts:
    """Wait for every result, write them, and only then let the broker forget them.

    `report` gets the number of items after each chunk. Chunks wait on disk, so that memory
    stays flat. With `submitted`, the results come behind the columns of that. Raises JobError, and
    DataError when the file cannot be written, or `submitted` is not what was submitted.
    """
    if target.path == PIPE:
        raise OptionError("a job is collected into a file: name it with -o")
    if submitted is not None:
        # Before anything is waited for, too.
        items = (await jobs.progress(job)).entry.items
        await beside(lambda: submitted.check_rows(job, items))
    # The file is opened first: what cannot be written should not be waited for.
    with _spool(target) as file, PartialFile(target) as partial:
        places = await _spooled(jobs, job, file, report)
        results = _Results(file, places)
        pairs = _alone(results.parts()) if submitted is None else _beside(submitted, job, results)
        with pairs as (table, chunks):
            counts = _written(table, chunks, partial, target, results.names(submitted))
    await jobs.remove(job)
    return counts


@contextlib.contextmanager
def _spool(target: Place) -> Iterator[BinaryIO]:
    try:
        with tempfile.TemporaryFile(dir=Path(target.path).parent) as file:
            yield file
    except OSError as error:
        raise DataError(f"{target.path}: {error.strerror}; choose another folder") from error


async def _spooled(
    jobs: Jobs, job: str, file: BinaryIO, report: Callable[[int], None] | None
) -> list[tuple[int, int]]:
    """Offset and size of each chunk's reply in the file, in the order of the job."""
    places: dict[int, tuple[int, int]] = {}
    items = 0
    async with contextlib.aclosing(jobs.results(job, keep=True)) as chunks:
        async for chunk in chunks:
            reply = chunk.reply
            if chunk.amends:
                results = merged(_read(file, places[chunk.number]), reply.results)
                reply = msgspec.structs.replace(reply, results=results)
            else:
                items += len(reply.results)
            places[chunk.number] = (file.seek(0, os.SEEK_END), file.write(encode(reply)))
            if report:
                report(items)
    return [places[number] for number in sorted(places)]


class _Results:
    """The results of a job, in its order."""

    def __init__(self, file: BinaryIO, places: list[tuple[int, int]]) -> None:
        self._file = file
        self._places = places
        #: Whether the job was submitted with `top_k`.
        self.ranked = any(result.scores for part in islice(self.parts(), 1) for result in part)

    def parts(self) -> Iterator[list[Result]]:
        """As they came: those of a pack."""
        return (_read(self._file, place) for place in self._places)

    def names(self, submitted: Submitted | None) -> tuple[str, ...]:
        names = _RANKED if self.ranked else _UNRANKED
        return tuple((submitted.prefix if submitted else "") + name for name in names)


_Pairs = tuple[Table, Iterable[tuple[Chunk, list[Result]]]]


@contextlib.contextmanager
def _alone(parts: Iterable[list[Result]]) -> Iterator[_Pairs]:
    """Rows that have nothing but an id."""

    def pairs() -> Iterator[tuple[Chunk, list[Result]]]:
        start = 0
        for part in parts:
            ids = [result.id for result in part]
            numbers = range(start, start + len(ids))
            yield Chunk(start, {"id": ids}, texts=ids, lines=numbers, faults={}), part
            start += len(ids)

    yield Table("results", ("id",), iter(()), lambda: None), pairs()


def write_results(parts: Iterator[list[Result]], target: Place) -> Counts:
    """Write results, pack by pack, into a file with the columns id, label, score and error.

    Those that have scores get a column for them. Raises DataError.
    """
    begin = list(islice(parts, 1))
    ranked = any(result.scores for part in begin for result in part)
    names = _RANKED if ranked else _UNRANKED
    with PartialFile(target) as partial, _alone(chain(begin, parts)) as (table, chunks):
        return _written(table, chunks, partial, target, names)


def encoded_results(
    parts: Iterator[list[Result]], target: Place
) -> tuple[Encoding, Iterator[bytes]]:
    """The bytes that `write_results` would write, for who keeps them in another way.

    What comes first is how they are encoded. Raises DataError.
    """
    begin = list(islice(parts, 1))
    names = _RANKED if any(result.scores for part in begin for result in part) else _UNRANKED
    with _alone(chain(begin, parts)) as (table, chunks):
        rows = encoding(target, table, names)

    def pieces() -> Iterator[bytes]:
        yield rows.header()
        for chunk, results in chunks:
            yield rows.rows(chunk, _answers(results, ranked=names is _RANKED))
        yield footer(target)

    return rows, pieces()


@contextlib.contextmanager
def _beside(submitted: Submitted, job: str, results: _Results) -> Iterator[_Pairs]:
    """The rows of the input."""
    table = submitted.open()
    try:
        items = chain.from_iterable(results.parts())
        yield submitted.kept(table), submitted.paired(table, job, items)
    finally:
        table.close()


def _written(
    table: Table,
    chunks: Iterable[tuple[Chunk, list[Result]]],
    partial: PartialFile,
    target: Place,
    names: tuple[str, ...],
) -> Counts:
    check_names(table.name, table.columns, names)
    rows = encoding(target, table, names)
    partial.start(rows.header())
    items = failures = 0
    for chunk, results in chunks:
        answers = _answers(results, ranked=len(names) > len(_UNRANKED))
        partial.write(rows.rows(chunk, answers))
        items += len(results)
        failures += sum(result.error is not None for result in results)
    partial.write(footer(target))
    partial.finish(rows.finish)
    return items, failures


def _read(file: BinaryIO, place: tuple[int, int]) -> list[Result]:
    offset, size = place
    file.seek(offset)
    return decode_reply(file.read(size), MSGPACK).results


def _answers(results: list[Result], *, ranked: bool) -> Answers:
    return Answers(
        [label_of(result) for result in results],
        [result.score for result in results],
        [str(result.error) if result.error else None for result in results],
        [ranking(result.scores) if result.scores else None for result in results]
        if ranked
        else None,
    )
