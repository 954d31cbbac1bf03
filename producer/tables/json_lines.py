"""JSON: an object a line (an empty line is no row), or one array of objects or strings.

Which of the two is seen by the first character. A row is written as it was read, with the results
behind its own fields; so digits, escapes, order and repeated keys stay. Where the output has only
texts (CSV, plain text), a string is itself, null and a missing key are nothing, and any other value
is its JSON text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Final

import msgspec

from lmaas.broker_config.errors import DataError
from lmaas.producer.tables.cells import ABSENT, well_formed
from lmaas.producer.tables.chunks import CHUNK_BYTES, CHUNK_ROWS, Answers, Chunk, Table
from lmaas.producer.tables.file_errors import damaged
from lmaas.producer.tables.inputs import Input
from lmaas.producer.tables.json_array import BLANK, Items
from lmaas.producer.tables.json_values import (
    Field,
    Row,
    field,
    nested_names,
    parsed,
    python,
    pythons,
)
from lmaas.producer.tables.lines import Lines
from lmaas.producer.tables.quoting import quoted
from lmaas.producer.tables.wanted import PAIR_OPTION, TEXT_OPTION, Wanted, no_text

_encoder = msgspec.json.Encoder()
#: The key of a list, in the first bytes of one object.
_LIST: Final = re.compile(rb'"([^"\\]+)"\s*:\s*\[')
_NEXT_OBJECT: Final = re.compile(rb"^\}\s*\{", re.MULTILINE)


def read(source: Input, wanted: Wanted) -> Table:
    """The columns are the keys of the first chunk. Raises DataError when a wanted one is not."""
    line = _skip_blank(source)
    start = source.file.peek(1)  # type: ignore[attr-defined]
    groups = _groups(source, line, wanted.column, is_array=start.startswith(b"["))
    first = next(groups, None)
    if first is None:
        return Table(source.name, wanted.keep or (), iter(()), source.close, source.size)
    _check_rows(source, start, first, wanted)
    text, pair, kept = _columns(first, wanted, source.name)
    if not wanted.any_text:
        first.check_no_objects(text, source.name, TEXT_OPTION)
    if pair is not None:
        first.check_no_objects(pair, source.name, PAIR_OPTION)
    chunks = (
        group.chunk(text, pair, kept if wanted.keep is not None else None)
        for group in chain((first,), groups)
    )
    return Table(
        source.name,
        kept,
        chunks,
        source.close,
        source.size,
        is_json=True,
        decoded=source.decoded,
    )


def _skip_blank(source: Input) -> int:
    """Number of the line on which the first character that is not blank stands."""
    line = 1
    with damaged(source.name, 0):
        while (start := source.file.peek(1)[:1]).isspace():  # type: ignore[attr-defined]
            source.file.read(1)
            line += start == b"\n"
    return line


def _check_rows(source: Input, start: bytes, first: _Group, wanted: Wanted) -> None:
    """Raises DataError for objects over several lines, and for one object that has a list of rows.

    `start` is what can be seen of the file; it only chooses the words.
    """
    line = start.partition(b"\n")[0].rstrip(BLANK)
    broken = 0 in first.faults and len(first.faults) * 2 > len(first.rows)
    over_lines = broken and line.startswith(b"{") and not line.endswith(b"}")
    found = _LIST.search(start)
    is_one = len(first.rows) == 1 and not isinstance(first.value(wanted.column), str)
    if over_lines and _NEXT_OBJECT.search(start):
        raise DataError(
            f"{source.name}: its objects go over several lines; write each of them on one, for "
            "example with: jq -c . FILE > rows.jsonl"
        )
    if found and (over_lines or is_one) and line.startswith(b"{"):
        key = found.group(1).decode("utf-8", "replace")
        raise DataError(
            f"{source.name}: is one object and not a list of rows; take its list out, for example "
            f"with: jq -c '.[\"{key}\"][]' FILE > rows.jsonl"
        )


def _columns(first: _Group, wanted: Wanted, name: str) -> tuple[str, str | None, tuple[str, ...]]:
    """The columns of texts and those to keep; all can be nested, as `review.body`."""
    # Only faults: there is nothing to compare the wanted columns with.
    asked = [one for one in (wanted.text, wanted.pair, *(wanted.keep or ())) if one is not None]
    names = first.names() or list(dict.fromkeys((wanted.column, *asked)))
    nested = [one for one in asked if first.has(one)]
    known = list(dict.fromkeys((*names, *nested)))
    inner = [one for one in nested_names(first.rows[0]) if one not in known]
    text = wanted.text_of(names if wanted.text is None else known, name, inner)
    pair = wanted.pair_of(known, name, text, inner)
    return text, pair, wanted.kept_of(names if wanted.keep is None else known, name)


_NO_ROW: Final[tuple[Row, bytes, str]] = ({}, b"{}", "")


class _Group:
    """Rows of one chunk, as the objects that they are."""

    def __init__(self, start: int, name: str) -> None:
        self.start = start
        #: The field that a bare string is.
        self.name = name
        self.rows: list[Row] = []
        #: The rows as JSON texts, a line each.
        self.objects: list[bytes] = []
        self.lines: list[int] = []
        self.faults: dict[int, str] = {}
        self.consumed = 0

    def add(self, text: bytes | str, number: int, where: str) -> None:
        """A row's JSON, or why there is none. The fault of what is no row has all of its text."""
        row, line, fault = _NO_ROW
        if isinstance(text, str):
            fault = text
        else:
            try:
                row, line = parsed(text, self.name)
            except (ValueError, RecursionError) as error:
                why = str(error) or type(error).__name__
                fault = f"{why}: {text.decode('utf-8', 'replace')}"
        if fault:
            self.faults[len(self.rows)] = f"{where}: {fault}"
        self.rows.append(row)
        self.objects.append(line)
        self.lines.append(number)

    def names(self) -> list[str]:
        """Every key, in the order of their first appearance."""
        return list({key: None for row in self.rows for key in row})

    def has(self, name: str) -> bool:
        return any(field(row, name) is not ABSENT for row in self.rows)

    def check_no_objects(self, name: str, file: str, option: str) -> None:
        """Raises DataError when each row has an object where its text, by an option, should be."""
        sound = [row for at, row in enumerate(self.rows) if at not in self.faults]
        inner = nested_names({name: field(sound[0], name)}) if sound else []
        if inner and all(isinstance(python(field(row, name)), dict) for row in sound):
            raise no_text(file, name, inner, option)

    def value(self, name: str) -> Any:
        return python(field(self.rows[0], name))

    def chunk(self, text: str, pair: str | None, kept: tuple[str, ...] | None) -> Chunk:
        names = self.names() if kept is None else kept
        texts = pythons(Field(self.rows, text).raws())
        return Chunk(
            self.start,
            {name: Field(self.rows, name, texts if name == text else None) for name in names},
            texts,
            self.lines,
            self.faults,
            self.consumed,
            objects=self.objects if kept is None else None,
            pairs=None if pair is None else pythons(Field(self.rows, pair).raws()),
        )


def _groups(source: Input, line: int, name: str, *, is_array: bool) -> Iterator[_Group]:
    reader: Items | Lines = Items(source, line) if is_array else Lines(source, line - 1)
    full = 0
    group = _Group(0, name)
    for text in reader:
        row = text if isinstance(text, str) else text.strip(BLANK)
        if not row:
            continue
        where = f"line {reader.number}"
        if isinstance(reader, Items):
            where += f": item {reader.item}"
        group.add(row, reader.number, where)
        if len(group.rows) == CHUNK_ROWS or reader.bytes >= full + CHUNK_BYTES:
            group.consumed = source.position()
            yield group
            group, full = _Group(group.start + len(group.rows), name), reader.bytes
    if group.rows:
        group.consumed = source.position()
        yield group


class JsonLines:
    """An object a line: the kept fields, then the results."""

    def __init__(self, results: tuple[str, ...]) -> None:
        self._results = results

    def header(self) -> bytes:
        return b""

    def rows(self, chunk: Chunk, answers: Answers) -> bytes:
        """Raises DataError when a row has a field of its own with the name of a result."""
        results = self._encoded(self._results, _result_columns(answers))
        if taken := chunk.columns.keys() & set(self._results):
            raise DataError(
                f"key {quoted(min(taken))}, near line {chunk.lines[0]}, is the name of a result "
                "too; name the results otherwise (--result-prefix lmaas_), or choose columns with "
                "--keep"
            )
        if (objects := chunk.objects) is None:
            columns = [
                column.raws() if isinstance(column, Field) else column
                for column in chunk.columns.values()
            ]
            objects = self._encoded(tuple(chunk.columns), columns) or [b"{}"] * len(chunk)
        return b"".join(map(_joined, objects, results))

    def _encoded(self, names: tuple[str, ...], columns: list[Any]) -> list[bytes]:
        objects = [
            {key: value for key, value in zip(names, row, strict=True) if value is not ABSENT}
            for row in zip(*columns, strict=True)
        ]
        try:
            lines = _encoder.encode_lines(objects)
        except UnicodeEncodeError:
            lines = _encoder.encode_lines(well_formed(objects))
        return lines.split(b"\n")[:-1]

    def finish(self, partial: Path) -> Path:
        return partial


def _joined(row: bytes, results: bytes) -> bytes:
    """Two objects as the line of one that has the fields of both."""
    fields = row[:-1].rstrip(BLANK)
    return b"%b%b%b\n" % (fields, b"" if fields == b"{" else b",", results[1:])


def _result_columns(answers: Answers) -> list[Any]:
    # Raw, so that a score has the same digits in each format.
    numbers = [None if s is None else msgspec.Raw(repr(s).encode()) for s in answers.scores]
    columns: list[Any] = [answers.labels, numbers]
    if answers.ranked is not None:
        columns.append([r if r is None else msgspec.Raw(r.encode()) for r in answers.ranked])
    return [*columns, answers.errors]


class JsonArray(JsonLines):
    """The same objects as one array, a line each; `FOOTER` ends it."""

    FOOTER: Final = b"\n]\n"

    def header(self) -> bytes:
        return b"["

    def rows(self, chunk: Chunk, answers: Answers) -> bytes:
        lines = super().rows(chunk, answers)[:-1]
        # Line breaks stand only between objects: inside a string they are escaped.
        return (b",\n" if chunk.start else b"\n") + lines.replace(b"\n", b",\n")
