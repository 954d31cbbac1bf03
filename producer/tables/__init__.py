"""Streams of rows from and to CSV, TSV, JSON Lines, JSON, Parquet and plain text files, and from
.xlsx, folders and archives of files, and columns of bytes or of paths.

A file is read as chunks of at most `CHUNK_ROWS` rows and about `CHUNK_BYTES`, the same ones at
every run, and written as bytes that are only ever appended; so memory stays flat, and a run that
stopped at the border of a chunk can go on there.
"""

from __future__ import annotations

from typing import Final

from lmaas.broker_config.errors import OptionError
from lmaas.producer.tables import (
    archives,
    delimited,
    folders,
    json_lines,
    parquet,
    paths,
    plain,
    xlsx,
)
from lmaas.producer.tables.chunks import Answers, Chunk, Encoding, Table
from lmaas.producer.tables.dialect import Dialect
from lmaas.producer.tables.file_errors import damaged
from lmaas.producer.tables.inputs import open_input
from lmaas.producer.tables.places import FILES, PIPE, Place
from lmaas.producer.tables.recoded import Recoded
from lmaas.producer.tables.taking import Taking
from lmaas.producer.tables.unicode import with_line_feeds
from lmaas.producer.tables.wanted import BYTES_OPTION, PATH_OPTION, Wanted

__all__ = [
    "FILES",
    "PIPE",
    "Answers",
    "Chunk",
    "Dialect",
    "Encoding",
    "Place",
    "Table",
    "Taking",
    "Wanted",
    "encoding",
    "footer",
    "open_table",
]


def open_table(place: Place, wanted: Wanted) -> Table:
    """Open a file far enough to know its columns.

    Raises DataError when it cannot be read, or has no such column.
    """
    if wanted.path is not None:
        return paths.read(place, wanted, lambda of_paths: open_table(place, of_paths))
    if wanted.data is not None and place.format != "parquet":
        raise OptionError(
            f"{place.path}: {BYTES_OPTION} is for Parquet; files that a column names are read with "
            f"{PATH_OPTION}"
        )
    read = _WHOLE.get(place.format)
    return _read_stream(place, wanted) if read is None else read(place, wanted)


#: Of what is no stream of text.
_WHOLE: Final = {
    "parquet": parquet.read,
    "xlsx": xlsx.read,
    FILES: folders.read,
    "zip": archives.read_zip,
    "tar": archives.read_tar,
}


def _read_stream(place: Place, wanted: Wanted) -> Table:
    source = open_input(place)
    try:
        if place.format in {"csv", "tsv", "text"}:
            with damaged(source.name, 0):
                source.file = with_line_feeds(source.file)
        match place.format:
            case "csv":
                return delimited.read(source, wanted, place.dialect)
            case "tsv":
                return delimited.read(source, wanted, place.dialect, tabs=True)
            case "jsonl" | "json":
                return json_lines.read(source, wanted)
            case _:
                return plain.read(source, wanted)
    except BaseException:
        source.close()
        raise


def encoding(place: Place, table: Table, results: tuple[str, ...]) -> Encoding:
    """How rows of `table`, with columns of these names for the results, become bytes."""
    rows = _in_utf8(place, table, results)
    codec = place.dialect.encoding
    return rows if codec is None else Recoded(rows, codec, place.path)


def _in_utf8(place: Place, table: Table, results: tuple[str, ...]) -> Encoding:
    match place.format:
        case "csv":
            # Who has semicolons reads them too; what has tabs is called .tsv.
            delimiter = "," if table.delimiter in {None, "\t"} else table.delimiter
            return delimited.Delimited(table, results, delimiter)
        case "tsv":
            # Values of a TSV file without quotes need none; those of others may have tabs.
            quotes = table.quotes or table.delimiter != "\t"
            return delimited.Delimited(table, results, "\t", quotes=quotes)
        case "jsonl":
            return json_lines.JsonLines(results)
        case "json":
            return json_lines.JsonArray(results)
        case "parquet":
            return parquet.Parquet(table, results)
        case _:
            return plain.Plain(table)


def footer(place: Place) -> bytes:
    """What comes after the last row."""
    return json_lines.JsonArray.FOOTER if place.format == "json" else b""
