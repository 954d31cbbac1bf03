"""CSV and TSV with a header: quoted where it must be, UTF-8, `\\n` at line ends.

Bytes that are no UTF-8 are kept as they were; a row whose text has some gets an error.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lmaas.broker_config.errors import DataError
from lmaas.producer.tables.chunks import (
    CHUNK_BYTES,
    CHUNK_ROWS,
    Answers,
    Chunk,
    Table,
    Wanted,
    cell,
    kept_columns,
    to_bytes,
)
from lmaas.producer.tables.places import Input, Lines

#: Characters of one field; the parser holds four bytes for each.
FIELD_CHARACTERS: Final = 16 * 1024 * 1024

_Row = list[str | None]


def read(source: Input, wanted: Wanted, delimiter: str) -> Table:
    """Raises DataError when there is no header, or not the wanted columns."""
    rows = _Rows(source, delimiter)
    header = rows.header()
    text = header.index(wanted.text_of(header, source.name))
    kept = wanted.kept_of(header, source.name)
    chunks = _chunks(rows, header, text, kept)
    return Table(source.name, kept, chunks, source.close, source.size)


class _Rows:
    """Rows one after the other, each with its first line and what is wrong with it."""

    def __init__(self, source: Input, delimiter: str) -> None:
        # The limit is one for the process; ours only ever raises it.
        csv.field_size_limit(max(csv.field_size_limit(), FIELD_CHARACTERS))
        self.source = source
        self.lines = Lines(source)
        decoded = (line.decode("utf-8", "surrogateescape") for line in self.lines)
        self._reader = csv.reader(decoded, delimiter=delimiter, strict=True)

    def header(self) -> list[str]:
        name = self.source.name
        try:
            header = next((row for row in self._reader if row), None)
        except csv.Error as error:
            raise DataError(f"{name}: line 1: the header cannot be read ({error})") from error
        if header is None:
            raise DataError(f"{name}: the file is empty; the first line must name the columns")
        for column in header:
            if header.count(column) > 1:
                raise DataError(f"{name}: line 1: column {column!r} is there twice; rename one")
        return [to_bytes(column).decode("utf-8", "replace") for column in header]

    def __iter__(self) -> Iterator[tuple[_Row, int, str | None]]:
        reader = self._reader
        while True:
            line = reader.line_num + 1
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield [], line, self._fault(line, error)
                continue
            if row:  # an empty line is no row
                yield row, line, None  # type: ignore[misc]

    def _fault(self, line: int, error: csv.Error) -> str:
        if "field limit" in str(error):
            raise DataError(
                f"{self.source.name}: line {line}: a field is longer than "
                f"{FIELD_CHARACTERS >> 20} Mi characters; is its closing quote missing?"
            ) from error
        if "unexpected end" in str(error):
            swallowed = self._reader.line_num - line + 1
            return f"line {line}: the quote is never closed ({swallowed:,} lines to the end)"
        return f"line {line}: {error}"


def _chunks(rows: _Rows, header: list[str], text: int, kept: tuple[str, ...]) -> Iterator[Chunk]:
    width = len(header)
    start, full = 0, rows.lines.bytes
    table: list[_Row] = []
    lines: list[int] = []
    faults: dict[int, str] = {}

    def chunk() -> Chunk:
        columns = list(zip(*table, strict=True))
        by_name = {name: columns[header.index(name)] for name in kept}
        return Chunk(start, by_name, columns[text], lines, faults, rows.source.position())

    for row, line, fault in rows:
        if fault or len(row) != width:
            faults[len(table)] = fault or (
                f"line {line}: expected {width} columns, found {len(row)}"
            )
            row = (row + [None] * width)[:width]  # noqa: PLW2901
        table.append(row)
        lines.append(line)
        if len(table) == CHUNK_ROWS or rows.lines.bytes >= full + CHUNK_BYTES:
            yield chunk()
            start, full = start + len(table), rows.lines.bytes
            table, lines, faults = [], [], {}
    if table:
        yield chunk()


class Delimited:
    """Rows with a character between their fields."""

    def __init__(self, table: Table, results: tuple[str, ...], delimiter: str) -> None:
        self._table = table
        self._results = results
        self._delimiter = delimiter

    def header(self) -> bytes:
        names = map(self._field, (*self._table.columns, *self._results))
        return to_bytes(self._delimiter.join(names) + "\n")

    def rows(self, chunk: Chunk, answers: Answers) -> bytes:
        # The csv module writes the same at 14 µs a review instead of 2: it looks at each character.
        columns = [*kept_columns(self._table, chunk), *answers.columns()]
        fields = [[self._field(value) for value in column] for column in columns]
        lines = map(self._delimiter.join, zip(*fields, strict=True))
        # Line by line: one wide character would widen a string of all lines.
        return b"".join([to_bytes(line + "\n") for line in lines])

    def _field(self, value: object) -> str:
        text = value if type(value) is str else cell(value)
        if self._delimiter in text or '"' in text or "\n" in text or "\r" in text:
            return f'"{text.replace(chr(34), chr(34) * 2)}"'
        return text

    def finish(self, partial: Path) -> Path:
        return partial
