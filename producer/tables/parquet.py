"""Parquet: kept columns keep their types; of CSV and plain text they are strings, of JSON typed.

A Parquet file cannot be appended to, as its end describes all of it. While a run goes on its
rows are an Arrow stream, which can be cut at the border of any chunk; at the end one pass makes
Parquet of it. JSON values are texts in the stream, and `json_types` finds their types at the end.
Dictionary columns become columns of their values. Bytes of a string that are no UTF-8 are an error
of their row if it is the text, and are written to Parquet as they were.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final

from lmaas.broker_config.errors import DataError
from lmaas.producer.tables import arrow_types, json_types
from lmaas.producer.tables.arrow import arrow
from lmaas.producer.tables.cells import cell, well_formed
from lmaas.producer.tables.chunks import (
    CHUNK_BYTES,
    CHUNK_ROWS,
    Answers,
    Chunk,
    Table,
    kept_columns,
)
from lmaas.producer.tables.file_errors import unusable
from lmaas.producer.tables.inputs import open_file
from lmaas.producer.tables.lines import LINE_BYTES
from lmaas.producer.tables.parquet_bytes import data_column, has_bytes
from lmaas.producer.tables.places import Place
from lmaas.producer.tables.quoting import quoted
from lmaas.producer.tables.wanted import BYTES_OPTION, PAIR_OPTION, TEXT_OPTION, Wanted, no_text

#: A row group of the output ends with the chunk that brings it to this many bytes or rows.
GROUP_BYTES: Final = 32 * 1024 * 1024
#: Bytes that the rows of a chunk may have, at the worst, where dictionaries are decoded at once.
GROWN_BYTES: Final = 256 * 1024 * 1024
GROUP_ROWS: Final = 64 * CHUNK_ROWS


class Column:
    """An Arrow array that becomes Python values only when somebody iterates.

    These are values that JSON has: times and decimals are texts, durations are numbers.
    """

    def __init__(self, array: Any) -> None:
        self.array = array

    def inner(self, name: str) -> Column | None:
        """The column of a field inside its values, as `body`, `author.name`."""
        way = arrow_types.path(self.array.type, name) if self.names() else []
        return Column(arrow_types.inside(self.array, way)) if way else None

    def part(self, begin: int, end: int) -> Column:
        return Column(self.array.slice(begin, end - begin))

    def names(self) -> list[str]:
        """Of the fields inside its values; [] when it has none."""
        return arrow_types.nested_names(self.array.type)

    def __iter__(self) -> Iterator[Any]:
        return iter(arrow_types.python(self.array))


def read(place: Place, wanted: Wanted) -> Table:
    """Raises DataError when it is no Parquet, or a wanted column is not there or has no values."""
    if place.piped:
        raise DataError("Parquet cannot be read from a pipe; name a file")
    file = _open(place)
    close = partial(file.close, force=place.opening is not None)
    schema = file.schema_arrow
    try:
        data = None if wanted.data is None else data_column(schema, place.path, wanted)
        chosen = _chosen(schema, place.path, wanted if data is None else data.wanted)
        if data is None and not wanted.any_text:
            for name, option in chosen.texts.items():
                _check_texts(place.path, name, chosen.kinds[name], option)
        _check_readable(schema, place.path, chosen)
    except DataError:
        close()
        raise
    batches = _batches(place, file, [way[0] for way in chosen.ways.values()])
    chunks = _chunks(batches, place.path, chosen)
    return Table(
        place.path,
        chosen.kept,
        chunks if data is None else map(data.filled, chunks),
        close,
        size=file.metadata.num_rows,
        unit="row",
        types={name: arrow_types.plain(chosen.kinds[name]) for name in chosen.kept},
    )


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Columns that are read, by names; those with dots may be fields of another one's values."""

    kept: tuple[str, ...]
    #: Of texts, each with the option that names it.
    texts: dict[str, str]
    #: The names on the way to each, and its type.
    ways: dict[str, list[str]]
    kinds: dict[str, Any]


def _chosen(schema: Any, path: str, wanted: Wanted) -> _Chosen:
    """Raises DataError for a column that is not there."""
    nested = [
        name
        for name in dict.fromkeys((wanted.text, wanted.pair, *(wanted.keep or ())))
        if name and name not in schema.names and arrow_types.path(schema, name)
    ]
    names = [*schema.names, *nested]
    known = schema.names if wanted.text is None else names
    inner = [name for name in arrow_types.nested_names(schema) if name not in known]
    text = _text_column(path, wanted, schema, known, inner)
    pair = wanted.pair_of(names, path, text, inner)
    kept = wanted.kept_of(schema.names if wanted.keep is None else names, path)
    texts = {text: TEXT_OPTION} if pair is None else {text: TEXT_OPTION, pair: PAIR_OPTION}
    ways = {name: arrow_types.path(schema, name) for name in (*kept, *texts)}
    kinds = {name: arrow_types.kind_at(schema, way) for name, way in ways.items()}
    return _Chosen(kept, texts, ways, kinds)


def _check_readable(schema: Any, path: str, chosen: _Chosen) -> None:
    """Raises DataError for a column that cannot be told from another, or has no values for us."""
    for name, kind in chosen.kinds.items():
        if schema.names.count(chosen.ways[name][0]) > 1:
            raise DataError(f"{path}: column {quoted(name)} is there twice; rename one")
        if why := arrow_types.unreadable(kind):
            raise DataError(
                f"{path}: column {quoted(name)} has the type {kind}, which cannot be "
                f"read ({why}); choose other columns with --keep"
            )


def _text_column(
    path: str, wanted: Wanted, schema: Any, known: Sequence[str], inner: Sequence[str]
) -> str:
    """As `Wanted.text_of`, which does not know that others have bytes."""
    try:
        return wanted.text_of(known, path, inner)
    except DataError as error:
        columns = [field.name for field in schema if has_bytes(field.type)]
        if not columns:
            raise
        raise DataError(
            f"{error}; {quoted(columns[0])} has bytes, and {BYTES_OPTION} names such"
        ) from error


def _check_texts(path: str, name: str, kind: Any, option: str) -> None:
    """Raises DataError for a column of objects."""
    fields = [f"{name}.{field}" for field in arrow_types.nested_names(kind)]
    if fields and has_bytes(kind):
        raise DataError(
            f"{path}: {quoted(name)} has bytes and no text; name it with {BYTES_OPTION}"
        )
    if fields:
        raise no_text(path, name, fields, option)


def _open(place: Place, dictionaries: Sequence[int] = ()) -> Any:
    """`dictionaries` are the numbers of leaves that are not decoded."""
    pa = arrow("Parquet")
    import pyarrow.parquet as pq

    path, opened = place.path, open_file(place)
    try:
        # Without pre-buffering a row group is read piece by piece, however large it is.
        how: dict[str, Any] = {"pre_buffer": False, "buffer_size": 1024 * 1024}
        how["read_dictionary"] = list(dictionaries)
        if place.opening is not None:
            return pq.ParquetFile(opened, **how)
        opened.close()
        return pq.ParquetFile(path, **how)
    except BaseException as error:
        opened.close()
        if isinstance(error, OSError) and error.errno is not None:
            raise unusable(path, error) from error
        if isinstance(error, OSError | pa.ArrowException):
            raise _not_parquet(path, error) from error
        raise


def _not_parquet(path: str, error: Exception) -> DataError:
    return DataError(f"{path}: is not Parquet or is damaged ({str(error).splitlines()[0]})")


def _batches(place: Place, file: Any, columns: Sequence[str]) -> Iterator[Any]:
    """Batches of these columns, each of bounded size when it is decoded.

    A few bytes of a file can stand for gigabytes, when its dictionary has a long value that all
    rows name; where that may be, values stay in dictionaries until batches are cut. Raises
    DataError, also when one row is too large, and what Arrow raises.
    """
    rows, needed = _rows_a_chunk(file), list(dict.fromkeys(columns))
    leaves = [file.schema.column(number) for number in range(len(file.schema))]
    texts = [
        number
        for number, leaf in enumerate(leaves)
        if leaf.physical_type == "BYTE_ARRAY"
        and any(f"{leaf.path}.".startswith(f"{name}.") for name in needed)
    ]
    _check_average(place, file.metadata, texts)
    with _opened(place, texts) as encoded:
        grows = _may_grow(encoded, needed, rows)
    # How many values a row has of those that repeat is not known.
    texts = [number for number in texts if grows or leaves[number].max_repetition_level]
    row = 1
    with _opened(place, texts) as source:
        for batch in source.iter_batches(rows, columns=needed, use_threads=False):
            for part in _bounded(batch):
                if len(part) == 1 and (size := _decoded_bytes(part)) > LINE_BYTES:
                    raise DataError(
                        f"{place.path}: row {row:,} has {size:,} bytes; at most "
                        f"{LINE_BYTES >> 20} MiB are read"
                    )
                yield part
                row += len(part)


def _check_average(place: Place, meta: Any, leaves: Sequence[int]) -> None:
    """Raises DataError for rows that are too large by the file's own figures, before it is read."""
    for group in map(meta.row_group, range(meta.num_row_groups)):
        size = sum(group.column(leaf).total_uncompressed_size for leaf in leaves)
        if size > LINE_BYTES * max(group.num_rows, 1):
            raise DataError(
                f"{place.path}: {group.num_rows:,} rows have {size:,} bytes; at most "
                f"{LINE_BYTES >> 20} MiB are read of a row"
            )


@contextlib.contextmanager
def _opened(place: Place, dictionaries: Sequence[int]) -> Iterator[Any]:
    file = _open(place, dictionaries)
    try:
        yield file
    finally:
        file.close(force=place.opening is not None)


def _may_grow(encoded: Any, columns: list[str], rows: int) -> bool:
    """Whether so many rows may have more than GROWN_BYTES, by the longest values of dictionaries.

    Each row group has its own, which its first row brings along.
    """
    for group in range(encoded.num_row_groups):
        first = encoded.iter_batches(1, row_groups=[group], columns=columns, use_threads=False)
        for batch in itertools.islice(first, 1):
            if rows * sum(map(arrow_types.longest_of_dictionary, batch.columns)) > GROWN_BYTES:
                return True
    return False


def _bounded(batch: Any) -> Iterator[Any]:
    """Its parts, in order, each of a row or of twice CHUNK_BYTES at most when it is decoded."""
    if len(batch) < 2 or _decoded_bytes(batch) <= 2 * CHUNK_BYTES:
        yield batch
        return
    pa, half = arrow("Parquet"), len(batch) // 2
    # Not by `slice`: who casts a part of a list would decode the whole of it.
    for rows in (range(half), range(half, len(batch))):
        yield from _bounded(batch.take(pa.array(rows)))


def _decoded_bytes(batch: Any) -> int:
    """Of its values, those of dictionaries as often as rows have them."""
    return sum(arrow_types.decoded_bytes(column) for column in batch.columns)


def _chunks(batches: Iterator[Any], path: str, chosen: _Chosen) -> Iterator[Chunk]:
    """Raises DataError."""
    pa = arrow("Parquet")
    start = 0
    try:
        for batch in batches:
            arrays = {
                name: arrow_types.array_at(batch, way, chosen.kinds[name])
                for name, way in chosen.ways.items()
            }
            given = [list(Column(arrays[name])) for name in chosen.texts]
            yield Chunk(
                start,
                {name: Column(arrays[name]) for name in chosen.kept},
                given[0],
                range(start + 1, start + len(batch) + 1),
                {},
                start + len(batch),
                pairs=given[1] if len(given) > 1 else None,
            )
            start += len(batch)
    except (OSError, pa.ArrowException) as error:
        raise _not_parquet(path, error) from error


def _rows_a_chunk(file: Any) -> int:
    """As many as make about CHUNK_BYTES by the file's own figures."""
    meta = file.metadata
    size = sum(meta.row_group(i).total_byte_size for i in range(meta.num_row_groups))
    return int(max(1, min(CHUNK_ROWS, CHUNK_BYTES * meta.num_rows // max(size, 1))))


class Parquet:
    """An Arrow stream while the run goes on, Parquet at its end."""

    def __init__(self, table: Table, results: tuple[str, ...]) -> None:
        pa = arrow("Parquet")
        self._table = table
        for name, kind in table.types.items():
            if why := arrow_types.unwritable(kind):
                raise DataError(
                    f"{table.name}: column {quoted(name)} has the type {kind}, which cannot be "
                    f"written to Parquet ({why}); leave it out with --keep, or write .jsonl"
                )
        kept = [(name, table.types.get(name, pa.string())) for name in table.columns]
        kinds = {0: pa.string(), 1: pa.float64()}
        self._schema = pa.schema(
            [*kept, *((name, kinds.get(i, pa.string())) for i, name in enumerate(results))]
        )
        self._label = len(kept)
        # Of the stream alone: nobody knows yet whether rows have several labels.
        hidden = "labels"
        while hidden in self._schema.names:
            hidden += "_"
        self._stream_schema = self._schema.append(pa.field(hidden, pa.list_(pa.string())))

    def header(self) -> bytes:
        return bytes(self._stream_schema.serialize())

    def rows(self, chunk: Chunk, answers: Answers) -> bytes:
        pa = arrow("Parquet")
        kept = kept_columns(self._table, chunk)
        if self._table.is_json or self._table.is_sheet:
            kept = [json_types.marked(column) for column in kept]
        columns = [*kept, *answers.columns()]
        arrays = [
            column.array if isinstance(column, Column) else _array(column, kind)
            for column, kind in zip(columns, self._schema.types, strict=True)
        ]
        arrays.append(_lists(answers))
        return bytes(pa.record_batch(arrays, schema=self._stream_schema).serialize())

    def finish(self, partial: Path) -> Path:
        """Raises OSError, for example when the disk is full."""
        whole = partial.with_name(partial.name + ".parquet")
        whole.unlink(missing_ok=True)  # of a run that was killed, or a link of somebody else
        try:
            with whole.open("xb") as file:
                self.convert(lambda: arrow("Parquet").OSFile(str(partial)), file)
        except BaseException:
            whole.unlink(missing_ok=True)
            raise
        return whole

    def convert(self, stream: Callable[[], Any], whole: Path | BinaryIO) -> None:
        """From the bytes that the other methods gave; they are read three times. Raises OSError."""
        pa = arrow("Parquet")
        import pyarrow.parquet as pq

        def batches() -> Iterator[Any]:
            with stream() as file, pa.ipc.open_stream(file) as found:
                yield from found

        table = self._table
        names = table.columns if table.is_json or table.is_sheet else ()
        kinds = json_types.kinds(batches(), names)
        schema = json_types.schema(self._schema, kinds)
        several = _has_lists(batches(), self._label)
        if several:
            lists = schema.field(self._label).with_type(pa.list_(pa.string()))
            schema = schema.set(self._label, lists)
        with pq.ParquetWriter(whole, schema, compression="zstd") as writer:
            for group in _row_groups(batches()):
                read = pa.Table.from_batches(group, self._stream_schema)
                lists, read = read.column(-1), read.remove_column(read.num_columns - 1)
                if several:
                    read = read.set_column(self._label, schema.field(self._label), lists)
                rows = json_types.typed(read, kinds, json=table.is_json)
                writer.write_table(rows, row_group_size=max(1, len(rows)))


def _lists(answers: Answers) -> Any:
    """The labels of rows that may have several; of others nothing."""
    pa = arrow("Parquet")
    kind = pa.list_(pa.string())
    if not answers.multi_label:
        return pa.nulls(len(answers.labels), kind)
    given = [one if isinstance(one, list) else None for one in answers.labels]
    return pa.array(given, kind)


def _has_lists(stream: Iterable[Any], label: int) -> bool:
    """Whether rows may have several labels; the first one with an answer says so."""
    for batch in stream:
        if batch.column(-1).null_count < len(batch):
            return True
        if batch.column(label).null_count < len(batch):
            return False
    return False


def _array(column: Iterable[Any], kind: Any) -> Any:
    pa = arrow("Parquet")
    if kind != pa.string():
        return pa.array(column, kind)
    texts = [
        value if value is None or type(value) is str else _text_or_none(value) for value in column
    ]
    try:
        return pa.array(texts, kind)
    except (UnicodeEncodeError, pa.ArrowException):
        return pa.array([well_formed(text) for text in texts], kind)


def _text_or_none(value: object) -> str | None:
    return cell(value) or None


def _row_groups(stream: Iterable[Any]) -> Iterator[list[Any]]:
    group: list[Any] = []
    size = rows = 0
    for batch in stream:
        group.append(batch)
        size += batch.nbytes
        rows += len(batch)
        if size >= GROUP_BYTES or rows >= GROUP_ROWS:
            yield group
            group, size, rows = [], 0, 0
    if group:
        yield group
