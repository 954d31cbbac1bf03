"""Rows of a file, some at a time, whatever its format is, and the answers for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import msgspec

from lmaas.broker_config.errors import DataError
from lmaas.broker_config.messages import LABEL_SEPARATOR
from lmaas.producer.tables.quoting import quoted
from lmaas.producer.tables.taking import PassedOver

#: A chunk ends at this many rows, or with the row that brings it to this many bytes.
CHUNK_ROWS: Final = 1024
CHUNK_BYTES: Final = 4 * 1024 * 1024


class Mark(msgspec.Struct, frozen=True):
    """A place between two rows of a file."""

    rows: int
    #: Lines and bytes of the file before it.
    lines: int
    offset: int


@dataclass(slots=True)
class Chunk:
    """Some rows that follow each other, by columns."""

    #: Number of the first row, from 0.
    start: int
    #: Kept columns by name; every one has a value for each row.
    columns: Mapping[str, Iterable[Any]]
    #: What stands in the text column: a str, or what can only get an error. With `media`: bytes, or
    #: the ItemError of those that there are not.
    texts: Sequence[Any]
    #: Where each row begins in the file, from 1, for messages; of several files their names.
    lines: Sequence[Any]
    #: Position in this chunk -> why the row could not be read.
    faults: dict[int, str]
    #: How much of the file was read so far, in the units of `Table.size`.
    consumed: int = 0
    #: Where the next chunk begins, for `Table.skip`; None where a file is read from its beginning.
    mark: Mark | None = None
    #: The rows as JSON objects, as they were read, when the input is JSON and all of it is kept.
    objects: Sequence[bytes] | None = None
    #: Whether the file has an encoding that its user can name (`--encoding`).
    encoded: bool = False
    #: What stands in the column of second texts, when one is wanted; as `texts`.
    pairs: Sequence[Any] | None = None
    #: The media types of the bytes in `texts`, when it has bytes.
    media: Sequence[str | None] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def characters(self, position: int) -> int:
        """Of a row's texts."""
        columns = (self.texts,) if self.pairs is None else (self.texts, self.pairs)
        given = (column[position] for column in columns)
        return sum(len(text) for text in given if isinstance(text, str))


def column_of(chunk: Chunk, name: str) -> Iterable[Any] | None:
    """A column, or a field inside one as `review.body`; None when the chunk does not have it."""
    column = chunk.columns.get(name)
    if column is not None or "." not in name:
        return column
    outer, _, inner = name.partition(".")
    column = chunk.columns.get(outer)
    return column.inner(inner) if isinstance(column, Nested) else None


def nested_names(chunk: Chunk) -> list[str]:
    """The names of the fields inside columns of a chunk."""
    return [
        f"{outer}.{inner}"
        for outer, column in chunk.columns.items()
        if isinstance(column, Nested)
        for inner in column.names()
    ]


@runtime_checkable
class Nested(Protocol):
    """A column whose values may have fields of their own."""

    def inner(self, name: str) -> Iterable[Any] | None:
        """The column of a field inside its values, as `body`, `author.name`."""
        ...

    def names(self) -> list[str]:
        """Of the fields inside its values."""
        ...


@dataclass(slots=True)
class Answers:
    """The answers for a chunk, by columns: a row has a label and a score, or an error."""

    #: A list of labels where a row may have several.
    labels: list[str | list[str] | None]
    #: Probability, 0..1.
    scores: list[float | None]
    #: `code: message`.
    errors: list[str | None]
    #: JSON objects, label -> probability, when the caller wants the best of them.
    ranked: list[str | None] | None = None

    @property
    def multi_label(self) -> bool:
        """Whether the labels are lists."""
        return any(isinstance(one, list) for one in self.labels)

    def columns(self) -> list[list[Any]]:
        """In the order of the columns in the output; several labels of a row as one text."""
        ranked = [] if self.ranked is None else [self.ranked]
        labels: list[Any] = self.labels
        if self.multi_label:
            labels = [LABEL_SEPARATOR.join(one) if isinstance(one, list) else one for one in labels]
        return [labels, self.scores, *ranked, self.errors]


@dataclass(slots=True)
class Table:
    """An open file: its kept columns, and its chunks from the first on."""

    name: str
    columns: tuple[str, ...]
    chunks: Iterator[Chunk]
    close: Callable[[], None]
    #: Bytes (rows, of Parquet) of the file; None when nobody can know, as of a pipe.
    size: int | None = None
    #: What `Chunk.lines` counts or names: "line", "row" or "file".
    unit: str = "line"
    #: Parquet: column -> Arrow type. Other formats have only texts, or JSON values.
    types: dict[str, Any] = field(default_factory=dict)
    #: JSON: values are its texts, and have types.
    is_json: bool = False
    #: .xlsx: values have types. A column of several types is one of texts, and not of JSON.
    is_sheet: bool = False
    #: Whether the input had another encoding than UTF-8: no byte of it is worth keeping as it was.
    decoded: bool = False
    #: CSV and TSV: what stands between the columns, and whether quotes enclose values.
    delimiter: str | None = None
    quotes: bool = True
    #: CSV and TSV: column -> its name as it is in the file, where that is another: the name of an
    #: earlier column, or no UTF-8 (`surrogateescape`).
    titles: dict[str, str] = field(default_factory=dict)
    #: Several files: a checksum of their names, sizes and times.
    listing: str | None = None
    #: Several files: those that are no items, as far as it was read.
    passed_over: Callable[[], PassedOver | None] = lambda: None
    #: Lets the chunks begin at a mark, which an earlier reading of the same file left; to be called
    #: before the first chunk is taken.
    skip: Callable[[Mark], None] | None = None
    #: Lets the chunks begin at a row, the first of a chunk in an earlier reading, without reading
    #: the files before it; to be called before the first chunk is taken.
    start_at: Callable[[int], None] | None = None


class Encoding(Protocol):
    """How an output format writes rows. Only appended bytes, so that a run can be resumed."""

    def header(self) -> bytes:
        """What comes before the first row."""
        ...

    def rows(self, chunk: Chunk, answers: Answers) -> bytes:
        """The rows of one chunk."""
        ...

    def finish(self, partial: Path) -> Path:
        """Make of the complete partial file the one to be renamed; most formats are done."""
        ...


def kept_columns(table: Table, chunk: Chunk) -> list[Iterable[Any]]:
    """The chunk's columns in the order of the table, for outputs whose columns are fixed.

    Raises DataError when a JSON line has a key that the first lines did not have.
    """
    if new := chunk.columns.keys() - table.columns:
        raise DataError(
            f"{table.name}: key {quoted(min(new))}, near {table.unit} {chunk.lines[0]}, is in none "
            f"of the first {CHUNK_ROWS:,} rows; write .jsonl, or choose columns with --keep"
        )
    missing = [None] * len(chunk)
    return [chunk.columns.get(name, missing) for name in table.columns]
