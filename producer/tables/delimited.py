"""CSV and TSV with a header: UTF-8, `\\n` at line ends, CSV quoted where it must be.

Bytes that are no UTF-8 are kept as they were; a row whose text has some gets an error. Of a row
that cannot be read the error has all the text, and the rows around it go on. Columns are told by
their position: names may be there twice, and need not be UTF-8.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from lmaas.broker_config.errors import DataError
from lmaas.producer.tables import dialect as dialects
from lmaas.producer.tables.cells import cell, to_bytes, to_utf8
from lmaas.producer.tables.chunks import (
    CHUNK_BYTES,
    CHUNK_ROWS,
    Answers,
    Chunk,
    Table,
    kept_columns,
)
from lmaas.producer.tables.dialect import Dialect
from lmaas.producer.tables.inputs import Input
from lmaas.producer.tables.quoting import clipped, shown
from lmaas.producer.tables.records import Lookahead, Records, allow_long_values
from lmaas.producer.tables.wanted import Wanted, distinct

#: The delimiter is found in so many lines or bytes at the beginning.
SAMPLE_LINES: Final = 200
SAMPLE_BYTES: Final = 256 * 1024

_Row = Sequence[str | None]


def read(source: Input, wanted: Wanted, dialect: Dialect, *, tabs: bool = False) -> Table:
    """The table of an input; `tabs` is for TSV, where quotes are text unless it says otherwise
    or is UTF-16: that is Excel's "Unicode text", which has them as CSV does.

    Raises DataError when there is no header, not the wanted columns, or no delimiter found.
    """
    allow_long_values()
    lines = Lookahead(source)
    quotes = (not tabs or source.utf16) if dialect.quotes is None else dialect.quotes
    delimiter = _told(lines, dialect.delimiter) or _found(lines, wanted, tabs=tabs, quotes=quotes)
    # Who says that there are quotes has seen them: what they enclose is taken as it is.
    records = Records(lines, delimiter, quotes=quotes, suspicious=dialect.quotes is None)
    titles = _header(records)
    names = [shown(title) for title in titles]
    text = names.index(wanted.text_of(names, source.name))
    named = wanted.pair_of(names, source.name, names[text])
    pair = None if named is None else names.index(named)
    keep = set(wanted.kept_of(names, source.name))
    kept = [position for position, name in enumerate(names) if name in keep]
    keys = distinct(names)
    return Table(
        source.name,
        tuple(keys[position] for position in kept),
        _chunks(records, len(names), text, pair, {keys[position]: position for position in kept}),
        source.close,
        source.size,
        delimiter=delimiter,
        quotes=quotes,
        titles={keys[position]: titles[position] for position in kept},
        decoded=source.decoded,
        skip=records.skip,
    )


def _told(lines: Lookahead, named: str | None) -> str | None:
    """The delimiter that the user names, or else the first line, which then is no row."""
    told = dialects.told("".join(lines.first(1, SAMPLE_BYTES)))
    if told:
        lines.skip()
    return named or told


def _found(lines: Lookahead, wanted: Wanted, *, tabs: bool, quotes: bool) -> str:
    """Raises DataError when it cannot be told."""
    sample = lines.first(SAMPLE_LINES, SAMPLE_BYTES)
    if tabs:
        header = next((line for line in sample if line.strip("\r\n")), "")
        if "\t" not in header and any(each in header for each in dialects.DELIMITERS):
            raise DataError(
                f"{lines.name}: there is no tab in the header; say what is between the columns, "
                "for example with --delimiter ';', or --delimiter tab if there is only one"
            )
        return "\t"
    found = dialects.found(sample, wanted.names(), quotes=quotes, whole=lines.ended)
    if found is None:
        raise DataError(
            f"{lines.name}: cannot tell what is between the columns; say it, for example with "
            "--delimiter ';' or --delimiter tab"
        )
    return found


def _header(records: Records) -> list[str]:
    """The names as they are in the file; raises DataError."""
    name = records.lines.name
    header, line, fault = next(iter(records), ([], 0, None))
    if fault:
        text = records.lines.held_text(1)
        why = fault.removesuffix(text) + clipped(text)
        raise DataError(f"{name}: the header cannot be read: {why}")
    if not header:
        raise DataError(f"{name}: the file is empty; the first line must name the columns")
    if any("\0" in column for column in header):
        raise DataError(
            f"{name}: line {line}: the header has NUL bytes; if this is UTF-16 without a byte "
            "order mark, say --encoding utf-16-le"
        )
    records.expect(len(header))
    return header


def _chunks(
    records: Records, width: int, text: int, pair: int | None, positions: dict[str, int]
) -> Iterator[Chunk]:
    start, full = records.start, records.lines.given_bytes
    table: list[_Row] = []
    lines: list[int] = []
    faults: dict[int, str] = {}

    def chunk() -> Chunk:
        columns = list(zip(*table, strict=True))
        by_name = {name: columns[position] for name, position in positions.items()}
        consumed, mark = records.lines.position(), records.lines.mark(start + len(table))
        return Chunk(
            start,
            by_name,
            columns[text],
            lines,
            faults,
            consumed,
            mark,
            encoded=not records.lines.decoded,
            pairs=None if pair is None else columns[pair],
        )

    for row, line, fault in records:
        if fault:
            faults[len(table)] = fault
            table.append(([*row] + [None] * width)[:width])
        else:
            table.append(row)
        lines.append(line)
        if len(table) == CHUNK_ROWS or records.lines.given_bytes >= full + CHUNK_BYTES:
            yield chunk()
            start, full = start + len(table), records.lines.given_bytes
            table, lines, faults = [], [], {}
    if table:
        yield chunk()


class Delimited:
    """Rows with a character between their fields.

    With quotes, a value that has the delimiter, a quote or a line break is quoted. Without, values
    are written as they are: no column of such an input has a delimiter or a line break, and in an
    error they become `\\t` and `\\n`.
    """

    def __init__(
        self, table: Table, results: tuple[str, ...], delimiter: str, *, quotes: bool = True
    ) -> None:
        self._table = table
        self._results = results
        self._delimiter = delimiter
        self._field = self._quoted if quotes else _escaped
        self._bytes = to_utf8 if table.decoded else to_bytes

    def header(self) -> bytes:
        titles = self._table.titles
        names = [*(titles.get(name, name) for name in self._table.columns), *self._results]
        return self._bytes(self._delimiter.join(map(self._field, names)) + "\n")

    def rows(self, chunk: Chunk, answers: Answers) -> bytes:
        # The csv module writes the same at 14 µs a review instead of 2: it looks at each character.
        columns = [*kept_columns(self._table, chunk), *answers.columns()]
        field = self._field
        fields = [[field(value) for value in column] for column in columns]
        lines = map(self._delimiter.join, zip(*fields, strict=True))
        # Line by line: one wide character would widen a string of all lines.
        encoded = self._bytes
        return b"".join([encoded(line + "\n") for line in lines])

    def _quoted(self, value: object) -> str:
        text = value if type(value) is str else cell(value)
        if self._delimiter in text or '"' in text or "\n" in text or "\r" in text:
            return f'"{text.replace(chr(34), chr(34) * 2)}"'
        return text

    def finish(self, partial: Path) -> Path:
        return partial


def _escaped(value: object) -> str:
    text = value if type(value) is str else cell(value)
    return text.replace("\t", "\\t").replace("\n", "\\n")
