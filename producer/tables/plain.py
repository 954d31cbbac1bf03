"""Plain text: every line is a row, even an empty one; its column is `text`.

Written with tabs between, the text last: label, score, (scores,) error, kept columns. Tabs and
line breaks inside a value become spaces.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lmaas.broker_config.errors import DataError
from lmaas.producer.tables.cells import cell, to_bytes, to_utf8
from lmaas.producer.tables.chunks import (
    CHUNK_BYTES,
    CHUNK_ROWS,
    Answers,
    Chunk,
    Table,
    kept_columns,
)
from lmaas.producer.tables.inputs import Input
from lmaas.producer.tables.lines import Lines
from lmaas.producer.tables.quoting import quoted
from lmaas.producer.tables.wanted import Wanted

COLUMN: Final = "text"


def read(source: Input, wanted: Wanted) -> Table:
    """Raises DataError when another column than `text` is wanted."""
    asked = (wanted.text or COLUMN, wanted.pair or COLUMN, *(wanted.keep or ()))
    if other := next((name for name in asked if name != COLUMN), None):
        reason = " because of .txt" if ".txt" in source.name.lower() else ""
        raise DataError(
            f"{source.name}: is read as plain text{reason}, so there is no column {quoted(other)}; "
            "if it is a table, say --format tsv or --format csv"
        )
    wanted.pair_of((COLUMN,), source.name, COLUMN)
    kept = wanted.kept_of((COLUMN,), source.name)
    chunks = _chunks(source, kept)
    return Table(source.name, kept, chunks, source.close, source.size, decoded=source.decoded)


def _chunks(source: Input, kept: tuple[str, ...]) -> Iterator[Chunk]:
    lines = Lines(source)
    start = full = 0
    texts: list[str] = []

    def chunk() -> Chunk:
        columns = dict.fromkeys(kept, texts)
        numbers = range(start + 1, start + len(texts) + 1)
        return Chunk(
            start, columns, texts, numbers, {}, source.position(), encoded=not source.decoded
        )

    for line in lines:
        try:
            text = line.decode()
        except UnicodeDecodeError:
            text = lines.escaped(line, lines.number)
        texts.append(text.removesuffix("\n").removesuffix("\r"))
        if len(texts) == CHUNK_ROWS or lines.bytes >= full + CHUNK_BYTES:
            yield chunk()
            start, full, texts = start + len(texts), lines.bytes, []
    if texts:
        yield chunk()


class Plain:
    """Lines of values between tabs."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def header(self) -> bytes:
        return b""

    def rows(self, chunk: Chunk, answers: Answers) -> bytes:
        columns = [*answers.columns(), *kept_columns(self._table, chunk)]
        flat = [[_flat(cell(value)) for value in column] for column in columns]
        # Line by line: one wide character would widen a string of all lines.
        encoded = to_utf8 if self._table.decoded else to_bytes
        return b"".join([encoded("\t".join(row) + "\n") for row in zip(*flat, strict=True)])

    def finish(self, partial: Path) -> Path:
        return partial


def _flat(text: str) -> str:
    return text.replace("\t", " ").replace("\n", " ").replace("\r", " ")
