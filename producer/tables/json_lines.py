"""JSON lines: an object a line; an empty line is no row.

Values are kept as they are. Where the output has only texts (CSV, Parquet), a string is itself,
null and a missing key are nothing, and any other value is its JSON text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from lmaas.producer.tables.chunks import (
    ABSENT,
    CHUNK_BYTES,
    CHUNK_ROWS,
    Answers,
    Chunk,
    Table,
    Wanted,
    well_formed,
)
from lmaas.producer.tables.places import Input, Lines

_encoder = msgspec.json.Encoder()
_decode = msgspec.json.Decoder().decode
_KINDS = {list: "an array", str: "a string", int: "a number", float: "a number", bool: "a boolean"}


def read(source: Input, wanted: Wanted) -> Table:
    """The columns are the keys of the first chunk. Raises DataError when a wanted one is not."""
    groups = _groups(source)
    first = next(groups, None)
    if first is None:
        return Table(source.name, wanted.keep or (), iter(()), source.close, source.size)
    # Only faults: there is nothing to compare the wanted columns with.
    names = first.names() or [wanted.text or "text", *(wanted.keep or ())]
    text = wanted.text_of(names, source.name)
    kept = wanted.kept_of(names, source.name)
    chunks = (
        group.chunk(text, kept if wanted.keep is not None else None)
        for group in chain((first,), groups)
    )
    return Table(source.name, kept, chunks, source.close, source.size)


class _Group:
    """Rows of one chunk, as the objects that they are."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.rows: list[dict[str, Any]] = []
        self.lines: list[int] = []
        self.faults: dict[int, str] = {}
        self.consumed = 0

    def add(self, line: bytes, number: int) -> None:
        try:
            row, fault = _parsed(line), None
        except (ValueError, RecursionError) as error:
            row, fault = None, str(error) or type(error).__name__
        if fault is None and not isinstance(row, dict):
            fault = f"expected an object, found {_KINDS.get(type(row), 'null')}"
        if fault is not None:
            self.faults[len(self.rows)] = f"line {number}: {fault}"
            row = {}
        self.rows.append(row)
        self.lines.append(number)

    def names(self) -> list[str]:
        """Every key, in the order of their first appearance."""
        return list({key: None for row in self.rows for key in row})

    def chunk(self, text: str, kept: tuple[str, ...] | None) -> Chunk:
        columns = {
            name: [row.get(name, ABSENT) for row in self.rows]
            for name in (self.names() if kept is None else kept)
        }
        texts = [row.get(text) for row in self.rows]
        return Chunk(self.start, columns, texts, self.lines, self.faults, self.consumed)


def _groups(source: Input) -> Iterator[_Group]:
    lines = Lines(source)
    full = 0
    group = _Group(0)
    for line in lines:
        if line.isspace():
            continue
        group.add(line, lines.number)
        if len(group.rows) == CHUNK_ROWS or lines.bytes >= full + CHUNK_BYTES:
            group.consumed = source.position()
            yield group
            group, full = _Group(group.start + len(group.rows)), lines.bytes
    if group.rows:
        group.consumed = source.position()
        yield group


def _parsed(line: bytes) -> Any:
    try:
        return _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # The standard library reads lone surrogates, and with surrogateescape bytes that are no
        # UTF-8: they then spoil the value they are in and not the row.
        return json.loads(line.decode("utf-8", "surrogateescape"), parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


class JsonLines:
    """An object a line: the kept keys, then the results."""

    def __init__(self, results: tuple[str, ...]) -> None:
        self._results = results

    def header(self) -> bytes:
        return b""

    def rows(self, chunk: Chunk, answers: Answers) -> bytes:
        names = (*chunk.columns, *self._results)
        # Raw, so that a score has the same digits in each format.
        numbers = [None if s is None else msgspec.Raw(repr(s).encode()) for s in answers.scores]
        columns = [*chunk.columns.values(), answers.labels, numbers]
        if answers.ranked is not None:
            columns.append([r if r is None else msgspec.Raw(r.encode()) for r in answers.ranked])
        columns.append(answers.errors)
        objects = [
            {key: value for key, value in zip(names, row, strict=True) if value is not ABSENT}
            for row in zip(*columns, strict=True)
        ]
        try:
            return _encoder.encode_lines(objects)
        except UnicodeEncodeError:
            return _encoder.encode_lines(well_formed(objects))

    def finish(self, partial: Path) -> Path:
        return partial
