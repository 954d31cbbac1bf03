"""How a text file is written, as far as its suffix does not say it: named, or found. No I/O.

A delimiter is found, never guessed: the columns that the caller wants must be in the header that
it makes, and most of the first rows must have as many columns as that header.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from lmaas.broker_config.errors import OptionError
from lmaas.producer.tables.quoting import shown

#: What may stand between the columns of a .csv file; anything else has to be named.
DELIMITERS: Final = (",", ";", "\t", "|")
#: Formats that say themselves how they are encoded and compressed -> how people call them.
CONTAINERS: Final = {"parquet": "Parquet", "xlsx": ".xlsx"}

_NAMED: Final = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}
#: The first line of a file by which its writer tells Excel the delimiter.
_TOLD: Final = re.compile(r'"?sep=([^"\r\n\0])"?\1*\r?\n?')


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a user says about a text file; None is for the reader to find out.

    Raises OptionError when that cannot be.
    """

    #: One character between the columns of CSV or TSV, or its name (`tab`). Else a tab in TSV,
    #: and in CSV what the header and the first rows agree on.
    delimiter: str | None = None
    #: A Python codec. Else what a byte order mark says, or UTF-8.
    encoding: str | None = None
    #: Whether quotes may enclose the value of a column, delimiters and line breaks included.
    #: Else yes in CSV and in UTF-16, and in TSV no: a quote is a character like others.
    quotes: bool | None = None
    #: The sheet of a workbook (.xlsx). Else its first one that is not hidden.
    sheet: str | None = None

    def __post_init__(self) -> None:
        if self.delimiter is not None:
            object.__setattr__(self, "delimiter", _delimiter(self.delimiter))
        if self.encoding is not None:
            _check_encoding(self.encoding)

    @property
    def is_utf8(self) -> bool:
        """Whether the encoding that is named is UTF-8, without a byte order mark."""
        return self.encoding is not None and codecs.lookup(self.encoding).name == "utf-8"

    def check(self, path: str, form: str) -> None:
        """Raises OptionError when this says what a file of the format cannot have."""
        if form in CONTAINERS and self.encoding is not None:
            raise OptionError(
                f"{path}: {CONTAINERS[form]} has an encoding of its own; leave out --encoding"
            )
        if form != "xlsx" and self.sheet is not None:
            raise OptionError(f"{path}: --sheet is for .xlsx")
        named = self.delimiter is not None or self.quotes is not None
        if named and form not in {"csv", "tsv"}:
            raise OptionError(
                f"{path}: --delimiter and --quotes are for CSV and TSV; with --format csv the "
                "file is read as such"
            )


#: All is to be found out.
FOUND: Final = Dialect()


def _delimiter(name: str) -> str:
    character = _NAMED.get(name.lower(), name)
    if len(character) != 1 or character in '"\r\n\0':
        raise OptionError(f"a delimiter is one character or 'tab', not {name!r}")
    return character


def _check_encoding(name: str) -> None:
    try:
        "".encode(name)
        b"".decode(name)
    except (LookupError, ValueError) as error:
        raise OptionError(
            f"there is no encoding {name!r} of texts; usual ones are utf-8, cp1252 (Western "
            "Europe, Windows), latin-1, utf-16"
        ) from error


def told(line: str) -> str | None:
    """The delimiter that the first line of a file names for Excel (`sep=;`), or None."""
    found = _TOLD.fullmatch(line)
    return found and found[1]


def found(lines: Sequence[str], names: Collection[str], *, quotes: bool, whole: bool) -> str | None:
    """The delimiter of a file, from its first lines; None when it cannot be told.

    `names` are columns that the caller wants, `whole` says that there are no more lines. A header
    of one column needs no delimiter: a comma then.
    """
    fits = [fit for each in DELIMITERS if (fit := _Fit.of(lines, each, quotes, whole)).is_one]
    if len(fits) <= 1:
        return fits[0].delimiter if fits else DELIMITERS[0]
    fits = [fit for fit in fits if fit.header.issuperset(names)] or fits
    agreeing = [fit for fit in fits if fit.agreeing * 2 > fit.rows or not fit.rows]
    return agreeing[0].delimiter if len(agreeing) == 1 else None


@dataclass(frozen=True, slots=True)
class _Fit:
    """What the first lines are if this is the delimiter."""

    delimiter: str
    header: frozenset[str]
    columns: int
    rows: int
    #: Rows with as many columns as the header.
    agreeing: int

    @property
    def is_one(self) -> bool:
        return self.columns > 1

    @classmethod
    def of(cls, lines: Sequence[str], delimiter: str, quotes: bool, whole: bool) -> _Fit:
        rows = _parsed(lines, delimiter, quotes=quotes)
        header = rows[0] if rows else []
        # The last row may go on in lines that are not here.
        widths = [len(row) for row in (rows[1:] if whole else rows[1:-1])]
        names = frozenset(map(shown, header))
        return cls(delimiter, names, len(header), len(widths), widths.count(len(header)))


def _parsed(lines: Sequence[str], delimiter: str, *, quotes: bool) -> list[list[str]]:
    if not quotes:
        return [line.rstrip("\r\n").split(delimiter) for line in lines if line.rstrip("\r\n")]
    rows: list[list[str]] = []
    with contextlib.suppress(csv.Error):  # what was read until then has to do
        rows.extend(row for row in csv.reader(lines, delimiter=delimiter) if row)
    return rows
