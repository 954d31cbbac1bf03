"""A table with a column of paths (`--path-column`): the rows are the table's, the items are files.

A path counts from the folder of the table, and may not lead out of it, by no `..` and no link,
unless it is said that it may. What a row has of a file is read when it is its turn, and a chunk of
rows whose files are large becomes several.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Any, Final, Protocol, runtime_checkable

from lmaas.broker_config.codes import Code
from lmaas.broker_config.media_types import by_name, fits
from lmaas.producer.tables.chunks import CHUNK_BYTES, Chunk, Table
from lmaas.producer.tables.contents import Contents, Member, Unreadable
from lmaas.producer.tables.folders import file_content
from lmaas.producer.tables.places import Place
from lmaas.producer.tables.wanted import PATH_OPTION, Wanted

_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_OUTSIDE: Final = "it is not below the folder of the table; --outside reads such files, too"


def read(place: Place, wanted: Wanted, opened: Callable[[Wanted], Table]) -> Table:
    """`opened` opens the table itself. Raises DataError as that does."""
    told = ("paths of files", PATH_OPTION)
    table = opened(dataclasses.replace(wanted, text=wanted.path, path=None, told=told))
    root = os.getcwd() if place.piped else os.path.dirname(os.path.abspath(place.path))  # noqa: PTH109, PTH100, PTH120
    rows = _Rows(table, wanted, root, place.dialect.encoding)
    return dataclasses.replace(table, chunks=rows.chunks(), start_at=rows.start_at)


class _Rows:
    def __init__(self, table: Table, wanted: Wanted, root: str, encoding: str | None) -> None:
        self._table = table
        self._taking = wanted.taking
        self._root = root
        self._base = None if wanted.taking.outside else os.path.realpath(root)
        self._encoding = encoding
        self._start = 0

    def start_at(self, row: int) -> None:
        self._start = row

    def chunks(self) -> Iterator[Chunk]:
        given = self._table.chunks
        first = list(islice(given, 1))
        names = (one for chunk in first for one in chunk.texts if isinstance(one, str))
        taken = self._taking.known(names)
        for chunk in chain(first, given):
            yield from self._parts(chunk, taken)

    def _parts(self, chunk: Chunk, taken: tuple[str, ...]) -> Iterator[Chunk]:
        begin = max(0, self._start - chunk.start)
        found = self._contents(taken)
        for position in range(begin, len(chunk)):
            self._add(found, chunk, position)
            end = position + 1
            if found.size >= CHUNK_BYTES or end == len(chunk):
                yield found.filled(_part(chunk, begin, end))
                begin, found = end, self._contents(taken)

    def _contents(self, taken: tuple[str, ...]) -> Contents:
        return Contents(taken, self._taking.max_bytes, self._encoding)

    def _add(self, found: Contents, chunk: Chunk, position: int) -> None:
        path = chunk.texts[position]
        if fault := chunk.faults.get(position):
            found.add_fault(fault)
        elif not isinstance(path, str) or not path or path.isspace():
            found.fail(Code.INVALID_ITEM, "the row has no path of a file")
        elif _URL.match(path):
            found.fail(Code.INVALID_ITEM, f"{path}: only files are read; fetch it first")
        elif (other := _other(path, found.taken)) is not None:
            found.fail(Code.INVALID_ITEM, other)
        else:
            found.add(Member(path, lambda most: self._content(path, most)))

    def _content(self, path: str, most: int) -> bytes:
        if "\0" in path:
            raise Unreadable("no file can be called so")
        return file_content(os.path.join(self._root, path), self._base, most, _OUTSIDE)  # noqa: PTH118


def _other(path: str, taken: tuple[str, ...]) -> str | None:
    """What is wrong with a file that by its name is none that the model takes."""
    found = by_name(path)
    if not taken or found is None or fits(found, taken):
        return None
    return f"{path}: is {found}, and the model takes {', '.join(taken)}"


def _part(chunk: Chunk, begin: int, end: int) -> Chunk:
    """Some rows of a chunk that follow each other; the mark stays with the last ones."""
    columns = {name: _cut(column, begin, end) for name, column in chunk.columns.items()}
    faults = {row - begin: why for row, why in chunk.faults.items() if begin <= row < end}
    return dataclasses.replace(
        chunk,
        start=chunk.start + begin,
        columns=columns,
        texts=chunk.texts[begin:end],
        lines=chunk.lines[begin:end],
        faults=faults,
        mark=chunk.mark if end == len(chunk) else None,
        objects=chunk.objects and chunk.objects[begin:end],
        pairs=chunk.pairs and chunk.pairs[begin:end],
        media=chunk.media and chunk.media[begin:end],
    )


def _cut(column: Iterable[Any], begin: int, end: int) -> Iterable[Any]:
    return column.part(begin, end) if isinstance(column, Parted) else column[begin:end]  # type: ignore[index]


@runtime_checkable
class Parted(Protocol):
    """A column that is no sequence."""

    def part(self, begin: int, end: int) -> Iterable[Any]:
        """Some of its values that follow each other, as a column of its kind."""
        ...
