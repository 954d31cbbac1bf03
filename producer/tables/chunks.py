"""What all formats share: chunks of rows in, the answers for them, and cells as text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import msgspec

from lmaas.broker_config.errors import DataError
from lmaas.broker_config.messages import LABEL_SEPARATOR
from lmaas.producer.tables.taking import AS_NAMED, PassedOver, Taking

#: A chunk ends at this many rows, or with the row that brings it to this many bytes.
CHUNK_ROWS: Final = 1024
CHUNK_BYTES: Final = 4 * 1024 * 1024

#: A cell that its row does not have, as the key of another JSON line.
ABSENT: Final = msgspec.UNSET

#: What to do with a file that is not UTF-8.
ENCODING_HINT: Final = (
    "if the file has another encoding, name it, for example --encoding cp1252 "
    "(over HTTP: encoding=cp1252)"
)

#: The options that name the columns of texts.
TEXT_OPTION: Final = "--text-column"
PAIR_OPTION: Final = "--pair-column"
#: ... of bytes, and of paths of files.
BYTES_OPTION: Final = "--bytes-column"
PATH_OPTION: Final = "--path-column"

#: Names of columns in a message; the others are counted.
_LISTED: Final = 30
#: Characters of a file that a message quotes at most.
_QUOTED: Final = 100

# What "surrogateescape" makes of bytes that are no UTF-8 is U+DC80..U+DCFF; JSON escapes can
# name the others too, and no encoding takes those.
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_NO_BYTE = re.compile("[\ud800-\udc7f\udd00-\udfff]")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the caller wants of a file."""

    #: The column to classify; None takes `text`, or the only one.
    text: str | None = None
    #: The columns to keep; None keeps all.
    keep: tuple[str, ...] | None = None
    #: Whether nobody wants the texts, so that any column will do for them.
    any_text: bool = False
    #: The column of second texts, for models that judge two texts together; None has none.
    pair: str | None = None
    #: The column of bytes (Parquet), or of paths of files, in the place of one of texts.
    data: str | None = None
    path: str | None = None
    #: What becomes of the contents of files.
    taking: Taking = AS_NAMED
    #: What the text column has, and the option that names it: words for messages.
    told: tuple[str, str] = ("texts", TEXT_OPTION)
    #: What the columns are kept for: words as well.
    kept: str = "to keep"

    def has_contents(self, has_files: bool) -> bool:
        """Whether items are contents of files, or bytes, so that it counts what the model takes;
        `has_files` is of the place.
        """
        return has_files or self.data is not None or self.path is not None

    @property
    def column(self) -> str:
        """The name of the text column where there are several; one may be called ""."""
        return "text" if self.text is None else self.text

    def names(self) -> set[str]:
        """The columns that must be there, when there is more than one."""
        text = () if self.any_text else (self.column,)
        pair = () if self.pair is None else (self.pair,)
        return {shown(name) for name in (*text, *pair, *(self.keep or ()))}

    def text_of(self, columns: Sequence[str], name: str, inner: Sequence[str] = ()) -> str:
        """The name of the text column; raises DataError when there is none, or several.

        `inner` are names of nested fields, which the message lists too.
        """
        if self.any_text or (self.text is None and len(columns) == 1):
            return columns[0]
        text = shown(self.column)
        if text not in columns:
            raise _missing(name, text, *self.told, [*columns, *inner])
        _check_only(text, columns, name)
        return text

    def pair_of(
        self, columns: Sequence[str], name: str, text: str, inner: Sequence[str] = ()
    ) -> str | None:
        """The name of the column of second texts, None when none is wanted; as `text_of`.

        Raises DataError also when it is `text`, the column of the first ones.
        """
        if self.pair is None:
            return None
        pair = shown(self.pair)
        if pair not in columns:
            raise _missing(name, pair, "second texts", PAIR_OPTION, [*columns, *inner])
        if pair == text:
            raise DataError(
                f"{name}: column {quoted(pair)} has the first texts; name another one with "
                f"{PAIR_OPTION} ({_listed([*columns, *inner])})"
            )
        _check_only(pair, columns, name)
        return pair

    def kept_of(self, columns: Sequence[str], name: str) -> tuple[str, ...]:
        """The columns to keep, in the order of the file.

        Raises DataError when one that is named is missing, or there several times.
        """
        if self.keep is None:
            return tuple(columns)
        keep = [shown(column) for column in self.keep]
        for column in keep:
            if column not in columns:
                raise DataError(
                    f"{name}: there is no column {quoted(column)} {self.kept} ({_listed(columns)})"
                )
            _check_only(column, columns, name)
        return tuple(column for column in columns if column in keep)


def no_text(file: str, name: str, inner: Sequence[str], option: str) -> DataError:
    """For a column of objects, with fields of these names, that an option names as one of texts."""
    return DataError(
        f"{file}: {quoted(name)} is an object and no text; name one of its fields with "
        f"{option} ({_listed(inner)})"
    )


def _missing(
    file: str, column: str, content: str, option: str, columns: Sequence[str]
) -> DataError:
    return DataError(
        f"{file}: there is no column {quoted(column)}; name the one with the {content} with "
        f"{option} ({_listed(columns)})"
    )


def _check_only(column: str, columns: Sequence[str], name: str) -> None:
    places = [str(number) for number, each in enumerate(columns, 1) if each == column]
    if len(places) > 1:
        raise DataError(
            f"{name}: columns {', '.join(places)} are all called {quoted(column)}; rename all but "
            "one"
        )


def _listed(columns: Sequence[str]) -> str:
    # Quoted, as a blank at the end of a name cannot be seen otherwise.
    names = [quoted(column) for column in columns[:_LISTED]]
    more = f", and {len(columns) - _LISTED:,} more" if len(columns) > _LISTED else ""
    return f"there are: {', '.join(names)}{more}"


def distinct(names: Sequence[str]) -> list[str]:
    """The names; one that was there before has a number that makes it another: a, b, a_2."""
    taken = set(names)
    counts: dict[str, int] = {}
    distinct = []
    for name in names:
        fresh = name
        counts[name] = number = counts.get(name, 0) + 1
        while number > 1 and fresh in taken:
            fresh, number = f"{name}_{number}", number + 1
        taken.add(fresh)
        distinct.append(fresh)
    return distinct


def check_names(name: str, columns: tuple[str, ...], results: tuple[str, ...]) -> None:
    """Raises DataError when a column has the name of one of the results."""
    for result in results:
        if result in columns:
            raise DataError(
                f"{name}: has a column {result!r} already; name the results otherwise "
                "(--result-prefix lmaas_), or leave it out with --keep"
            )


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


def cell(value: object) -> str:
    """A value as text: strings as they are, nothing as "", and all else as JSON writes it."""
    if isinstance(value, str):
        return value
    if value is None or value is ABSENT:
        return ""
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, msgspec.Raw):
        return bytes(value).decode("utf-8", "surrogateescape")
    text = msgspec.json.encode(well_formed(value)).decode()
    return text[1:-1] if text.startswith('"') else text  # dates and decimals need no quotes


def ranking(scores: dict[str, float]) -> str:
    """Label -> probability as a JSON object, numbers written as in the other columns."""
    pairs = (f"{msgspec.json.encode(label).decode()}:{p!r}" for label, p in scores.items())
    return f"{{{','.join(pairs)}}}"


def to_bytes(text: str) -> bytes:
    """UTF-8, with bytes that were no UTF-8 as they were read."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return _NO_BYTE.sub("\ufffd", text).encode("utf-8", "surrogateescape")


def to_utf8(text: str) -> bytes:
    """UTF-8, with U+FFFD for what could not be decoded."""
    return well_formed(text).encode()  # type: ignore[no-any-return]


def shown(name: str) -> str:
    """The name of a column as any format and terminal can have it: bytes that are no UTF-8 as
    `\\xff`."""
    if name.isascii():
        return name
    return to_bytes(name).decode("utf-8", "backslashreplace")


def quoted(name: str) -> str:
    """A name in quotes, as it can be copied into a shell; a long one is cut."""
    mark = '"' if "'" in name else "'"
    return f"{mark}{clipped(name)}{mark}"


def clipped(text: str, most: int = _QUOTED) -> str:
    """Text of a file as one line of a message: cut, and escaped where a terminal shows nothing."""
    more = "…" if len(text) > most else ""
    kept = shown(text[:most])
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in kept) + more


def counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def well_formed(value: Any) -> Any:
    """The value with U+FFFD for whatever no UTF-8 text can hold, however deep."""
    if isinstance(value, str):
        return value if value.isascii() else _LONE_SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {well_formed(key): well_formed(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [well_formed(inner) for inner in value]
    return value
