"""Excel workbooks (.xlsx, .xlsm): a sheet's first row that is not empty names the columns.

A cell is what Excel last computed. Numbers and booleans keep their types, dates and times are texts
in ISO 8601 (a moment at midnight is a date), durations `hours:minutes:seconds`. Texts that are
classified may be numbers. Empty rows are passed over.

openpyxl reads row by row, but the texts of a workbook are a table of their own, all of which is in
memory. So what is unpacked at once is limited.
"""

from __future__ import annotations

import datetime
import math
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, Final

from lmaas.broker_config import extras
from lmaas.broker_config.errors import DataError
from lmaas.producer.tables import advice
from lmaas.producer.tables.cells import cell
from lmaas.producer.tables.chunks import CHUNK_BYTES, CHUNK_ROWS, Chunk, Table
from lmaas.producer.tables.file_errors import unusable
from lmaas.producer.tables.inputs import open_file
from lmaas.producer.tables.places import Place
from lmaas.producer.tables.quoting import counted, quoted
from lmaas.producer.tables.wanted import Wanted, distinct

#: A sheet of Excel has no more rows.
MOST_ROWS: Final = 1_048_576
#: A part of a workbook that is larger when it is unpacked ...
SMALL_PART: Final = 16 * 1024 * 1024
#: ... may be this many times as large as it is packed (texts are 3 to 10 times as large).
MOST_RATIO: Final = 100
#: What is no sheet is read at once, and is at most so large.
LARGE_PART: Final = 1024 * 1024 * 1024

_NOT_A_NUMBER_OF_JSON: Final = 2**63


def read(place: Place, wanted: Wanted) -> Table:
    """Raises DataError when it is no workbook, or has no such sheet or columns."""
    if place.piped:
        raise DataError(".xlsx cannot be read from a pipe; name a file")
    file = open_file(place)
    try:
        book = _open(file, place.path)
        sheet = _sheet(book, place)
        size = sheet.max_row
        rows = _rows(sheet, place.path)
        header = next((row for _, row in rows if row), None)
        if header is None:
            raise DataError(f"{place.path}: sheet {quoted(sheet.title)} is empty")
        names = [cell(_value(title)) for title in header]
        text = names.index(wanted.text_of(names, place.path))
        named = wanted.pair_of(names, place.path, names[text])
        pair = None if named is None else names.index(named)
        keep = set(wanted.kept_of(names, place.path))
    except BaseException:
        file.close()
        raise
    kept = {key: at for at, key in enumerate(distinct(names)) if names[at] in keep}
    return Table(
        place.path,
        tuple(kept),
        _chunks(rows, len(names), text, pair, kept),
        file.close,
        # Some writers say nothing, or that there is one row.
        size=size if size and size > 1 else None,
        unit="row",
        is_sheet=True,
    )


def _open(file: BinaryIO, path: str) -> Any:
    """The workbook; what is opened stays open, also when it is none. Raises DataError."""
    try:
        import openpyxl
    except ImportError as error:
        raise DataError(f".xlsx needs openpyxl: {extras.command('files')}") from error
    # It warns of what it does not need: styles, validations, dates before 1900.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"openpyxl\.")
    _check_parts(file, path)
    try:
        return openpyxl.load_workbook(file, read_only=True, data_only=True, keep_links=False)
    except MemoryError:
        raise
    except Exception as error:  # whatever its parsers make of what is no workbook
        raise _damaged(path, error) from error


def _check_parts(file: BinaryIO, path: str) -> None:
    """Raises DataError when it is no zip file, or unpacks to much more than a workbook does."""
    try:
        start = file.read(8)
        if not start:
            raise DataError(f"{path}: the file is empty")
        if not start.startswith(b"PK") and (why := advice.of_start(path, start, encoded=True)):
            raise DataError(why)
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
    except OSError as error:
        raise unusable(path, error) from error
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise _damaged(path, error) from error
    for part in parts:
        packed = part.file_size > SMALL_PART and part.file_size > MOST_RATIO * part.compress_size
        at_once = not part.filename.startswith("xl/worksheets/")
        if packed or (at_once and part.file_size > LARGE_PART):
            raise DataError(
                f"{path}: its part {part.filename!r} takes {part.file_size:,} bytes when it is "
                "unpacked, which is too much to read; save the sheet as .csv"
            )


def _damaged(path: str, error: Exception) -> DataError:
    words = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(
        f"{path}: is no .xlsx, or is damaged ({words}); save it again, in Excel or LibreOffice"
    )


def _sheet(book: Any, place: Place) -> Any:
    """The sheet that is named, or the first one that can be seen."""
    sheets = book.worksheets
    named = place.dialect.sheet
    if named is None:
        visible = [sheet for sheet in sheets if sheet.sheet_state == "visible"]
        found = (visible or sheets)[:1]
    else:
        found = [sheet for sheet in sheets if sheet.title == named]
    if not found:
        there = ", ".join(quoted(sheet.title) for sheet in sheets) or "none"
        raise DataError(
            f"{place.path}: there is no sheet {quoted(named or '')} (there are: {there})"
        )
    return found[0]


def _rows(sheet: Any, path: str) -> Iterator[tuple[int, list[Any]]]:
    """Number in the sheet and cells of each row, without empty cells at its end.

    Raises DataError where the sheet is damaged.
    """
    number = 0
    try:
        sheet.reset_dimensions()  # what a sheet says of its size is not always true
        for number, row in enumerate(sheet.iter_rows(values_only=True), 1):
            if number > MOST_ROWS:
                raise DataError(f"{path}: has more than {MOST_ROWS:,} rows")
            width = len(row)
            while width and (row[width - 1] is None or row[width - 1] == ""):
                width -= 1
            yield number, list(row[:width])
    except (DataError, MemoryError):
        raise
    except Exception as error:  # whatever its parsers make of a damaged sheet
        raise _damaged(f"{path}: after row {number:,}", error) from error


def _chunks(
    rows: Iterator[tuple[int, list[Any]]],
    width: int,
    text: int,
    pair: int | None,
    kept: dict[str, int],
) -> Iterator[Chunk]:
    start = size = 0
    table: list[Sequence[Any]] = []
    numbers: list[int] = []
    faults: dict[int, str] = {}

    def chunk() -> Chunk:
        columns = list(zip(*table, strict=True))
        by_name = {name: columns[at] for name, at in kept.items()}
        texts = list(map(cell, columns[text]))
        pairs = None if pair is None else list(map(cell, columns[pair]))
        return Chunk(start, by_name, texts, numbers, faults, numbers[-1], pairs=pairs)

    for number, row in rows:
        if not row:
            continue
        values = [_value(one) for one in row]
        if len(row) > width:
            shown = "\t".join(map(cell, values))
            faults[len(table)] = (
                f"row {number}: expected {counted(width, 'column')}, found {len(row)}: {shown}"
            )
            values = values[:width]
        table.append(values + [None] * (width - len(values)))
        numbers.append(number)
        size += sum(len(one) if isinstance(one, str) else 8 for one in values)
        if len(table) == CHUNK_ROWS or size >= CHUNK_BYTES:
            yield chunk()
            start, size, table, numbers, faults = start + len(table), 0, [], [], {}
    if table:
        yield chunk()


def _value(value: Any) -> Any:
    """What a cell has, as JSON has it."""
    match value:
        case None | bool() | str():
            return value
        case int():
            return value if abs(value) < _NOT_A_NUMBER_OF_JSON else str(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case datetime.datetime() if value.time() == datetime.time():
            return value.date().isoformat()
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case datetime.timedelta():
            seconds = round(value.total_seconds())
            minutes, rest = divmod(abs(seconds), 60)
            sign = "-" if seconds < 0 else ""
            return f"{sign}{minutes // 60}:{minutes % 60:02}:{rest:02}"
        case _:
            return str(value)
