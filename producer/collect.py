"""The results of a batch job into a file, in the order in which its items were submitted."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from lmaas.broker_config.errors import DataError
from lmaas.broker_config.messages import MSGPACK, Result, decode_reply, encode
from lmaas.producer.answers import merged
from lmaas.producer.batch import Jobs
from lmaas.producer.checkpoint import PartialFile
from lmaas.producer.tables import Answers, Chunk, Place, Table, encoding, footer
from lmaas.producer.tables.chunks import ranking

#: Items and how many of them failed.
Counts = tuple[int, int]
_COLUMNS: Final = ("id",)


async def collect(
    jobs: Jobs, job: str, target: Place, report: Callable[[int], None] | None = None
) -> Counts:
    """Wait for every result, write them, and only then let the broker forget them.

    `report` gets the number of items after each chunk. Chunks wait on disk, so that memory
    stays flat. Raises JobError, and DataError when the file cannot be written.
    """
    if target.piped:
        raise DataError("a job is collected into a file: name it with -o")
    # The file is opened first: what cannot be written should not be waited for.
    with _spool(target) as file, PartialFile(target) as partial:
        places = await _spooled(jobs, job, file, report)
        counts = _written(file, places, partial, target)
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


def _written(
    file: BinaryIO, places: list[tuple[int, int]], partial: PartialFile, target: Place
) -> Counts:
    table = Table("results", _COLUMNS, iter(()), lambda: None)
    items = failures = 0
    ranked = _is_ranked(file, places)
    names = ("label", "score", "scores", "error") if ranked else ("label", "score", "error")
    rows = encoding(target, table, names)
    partial.start(rows.header())
    for place in places:
        results = _read(file, place)
        partial.write(rows.rows(_chunk(items, results), _answers(results, ranked=ranked)))
        items += len(results)
        failures += sum(result.error is not None for result in results)
    partial.write(footer(target))
    partial.finish(rows.finish)
    return items, failures


def _is_ranked(file: BinaryIO, places: list[tuple[int, int]]) -> bool:
    """Whether the job was submitted with `top_k`."""
    return any(result.scores for place in places[:1] for result in _read(file, place))


def _read(file: BinaryIO, place: tuple[int, int]) -> list[Result]:
    offset, size = place
    file.seek(offset)
    return decode_reply(file.read(size), MSGPACK).results


def _chunk(start: int, results: list[Result]) -> Chunk:
    ids = [result.id for result in results]
    return Chunk(start, {"id": ids}, texts=ids, lines=range(start, start + len(ids)), faults={})


def _answers(results: list[Result], *, ranked: bool) -> Answers:
    return Answers(
        [result.label for result in results],
        [result.score for result in results],
        [str(result.error) if result.error else None for result in results],
        [ranking(result.scores) if result.scores else None for result in results]
        if ranked
        else None,
    )
