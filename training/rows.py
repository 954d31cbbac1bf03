"""The rows of a table that have a text and labels, by the reader that `lmaas classify` uses."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import repeat
from typing import Final

from lmaas.broker_config.codes import Code
from lmaas.broker_config.errors import DataError
from lmaas.broker_config.item_errors import text_error
from lmaas.producer.tables import Chunk, Place, Table, Wanted, open_table
from lmaas.producer.tables.cells import cell
from lmaas.producer.tables.quoting import quoted, shown
from lmaas.producer.tables.unicode import ENCODING_HINT
from lmaas.producer.tables.wanted import BYTES_OPTION, TEXT_OPTION
from lmaas.training.label_sets import listed

#: What the column that is kept has; for a message that there is none.
KEPT: Final = "with the labels; name the one that has them with --label-column"
#: Columns, and lines, that a message names.
_LISTED: Final = 30
_LINES: Final = 5
#: Characters of a fault in a message; the fault may have all of its row.
_FAULT: Final = 160

_TEXT_PROBLEMS: Final[dict[str, str]] = {
    Code.EMPTY_TEXT: "without a text",
    Code.INVALID_UTF8: "whose text is not UTF-8",
    Code.NOT_TEXT: "whose text is a number or something else",
}


@dataclass(slots=True)
class Rows:
    """Texts, the labels of each, and where it is in the file."""

    name: str
    #: What `lines` counts, from 1: "line" or "row".
    unit: str = "line"
    #: The option that names the column of what is learnt from.
    option: str = TEXT_OPTION
    texts: list[str] = field(default_factory=list)
    #: Of each text: one, or any number where `multi_label`.
    labels: list[list[str]] = field(default_factory=list)
    #: Whether a row may have several labels, or none: asked for, or there are lists.
    multi_label: bool = False
    lines: list[int] = field(default_factory=list)
    #: Why rows are not among them -> where they are.
    left_out: dict[str, list[int]] = field(default_factory=dict)
    #: What is wrong with the first row that cannot be read.
    fault: str = ""
    #: Labels that had blanks at their ends.
    trimmed: int = 0
    #: Rows that have a label twice.
    repeated: list[int] = field(default_factory=list)

    def digest(self, update: Callable[[bytes], None]) -> None:
        """Hand over every text and label, so that no two tables give the same bytes."""
        for text, labels in zip(self.texts, self.labels, strict=True):
            count = [str(len(labels))] if self.multi_label else []
            for value in (text, *count, *labels):
                encoded = value.encode()
                update(b"%d:%b" % (len(encoded), encoded))

    def rename(self, spellings: Mapping[str, str]) -> None:
        """Labels to what they are to be called."""
        if spellings:
            self.labels = [
                list(dict.fromkeys(spellings.get(label, label) for label in own))
                for own in self.labels
            ]

    def notes(self) -> list[str]:
        """What a user should know of the rows that were read."""
        out = sum(map(len, self.left_out.values()))
        notes = [f"{out:,} of {out + len(self.labels):,} rows are left out: {self._reasons()}"]
        if self.trimmed:
            notes.append(f"blanks at the ends of {self.trimmed:,} labels were taken off")
        if self.repeated:
            where = _places(self.unit, self.repeated)
            notes.append(
                f"{len(self.repeated):,} rows have a label twice ({where}): it counts once"
            )
        if self.multi_label and (without := sum(not labels for labels in self.labels)):
            notes.append(f"{without:,} rows have no label, and are learnt from as such")
        return notes[0 if out else 1 :]

    def check(self) -> None:
        """Raises DataError when there are no rows, or more without than with text and label."""
        out = sum(map(len, self.left_out.values()))
        used = len(self.labels)
        if not out and not used:
            raise DataError(f"{self.name}: no rows; give a file with a text and a label a row")
        if out > used:
            raise DataError(
                f"{self.name}: {out:,} of {out + used:,} rows cannot be used: "
                f"{self._reasons()}; mend them, or name other columns with {self.option} and "
                f"--label-column{self._advice()}"
            )

    def _advice(self) -> str:
        coded = any("UTF-8" in reason for reason in self.left_out)
        return f"; {ENCODING_HINT}" if coded and self.unit == "line" else ""

    def _reasons(self) -> str:
        told = [
            f"{len(lines):,} {reason} ({_places(self.unit, lines)})"
            for reason, lines in self.left_out.items()
        ]
        return ", ".join(told) + (f"; the first: {self.fault}" if self.fault else "")

    def leave_out(self, line: int, reason: str) -> None:
        self.left_out.setdefault(reason, []).append(line)

    def leave_out_unreadable(self, line: int, fault: str) -> None:
        self.fault = self.fault or _short(shown(fault))
        self.leave_out(line, "that cannot be read")

    def label(self, line: int, value: object, separator: str | None) -> bool:
        """Take the labels of a row from its cell, as `read_rows` says; False where it has none, and
        is left out."""
        labels = _given(value, separator)
        if isinstance(labels, str):
            self.leave_out(line, labels)
            return False
        self.multi_label = self.multi_label or listed(value) is not None
        named = [label.strip() for label in labels]
        if separator is None:  # beside a separator people write blanks
            self.trimmed += sum(map(str.__ne__, named, labels))
        if len(distinct := list(dict.fromkeys(named))) < len(named):
            self.repeated.append(line)
        self.labels.append(distinct)
        self.lines.append(line)
        return True


def read_rows(
    place: Place, text: str | None, label: str | None, separator: str | None = None
) -> Rows:
    """The rows with a text and a label, and where the others are.

    Labels are texts; blanks at their ends are no part of them. With a `separator` a row has any
    number of them, with that between; so it has without one where a value is a list, and an empty
    one is no label. Without a name the text column is `text`, and the label column `label` or the
    other one of two. Raises DataError.
    """
    keep = None if label is None else (label,)
    table = open_table(place, Wanted(text=text, keep=keep, kept=KEPT))
    try:
        rows = Rows(table.name, table.unit, multi_label=separator is not None)
        only = len(table.columns) == 1
        texts = table.columns if only else (shown(text or "text"),)
        column = table.columns[0] if keep and table.columns else label_column(table, texts)
        for chunk in table.chunks:
            _add(rows, chunk, column, separator)
    finally:
        table.close()
    rows.check()
    return rows


def label_column(table: Table, others: Collection[str]) -> str:
    """The one that a user did not name, beside the others, which have something else; raises
    DataError when nobody can know."""
    found = [column for column in table.columns if column not in others]
    if "label" in found:
        return "label"
    if len(found) == 1:
        return found[0]
    names = ", ".join(map(quoted, table.columns[:_LISTED]))
    more = ", ..." if len(table.columns) > _LISTED else ""
    raise DataError(
        f"{table.name}: which column has the labels? Name it with --label-column "
        f"(there are: {names}{more})"
    )


def _add(rows: Rows, chunk: Chunk, column: str, separator: str | None) -> None:
    labels: Iterable[object] = chunk.columns.get(column, repeat(None, len(chunk)))
    for position, (text, value, line) in enumerate(
        zip(chunk.texts, labels, chunk.lines, strict=True)
    ):
        if fault := chunk.faults.get(position):
            rows.leave_out_unreadable(line, fault)
        elif error := text_error(text, sys.maxsize):
            rows.leave_out(line, _no_text(text, error.code))
        elif rows.label(line, value, separator):
            rows.texts.append(text)


def _no_text(text: object, code: str) -> str:
    """Why it is none."""
    if text is None:
        return "without a text"
    if isinstance(text, bytes):
        return f"with bytes in the place of a text ({BYTES_OPTION} names such a column)"
    return _TEXT_PROBLEMS[code]


def _given(value: object, separator: str | None) -> list[str] | str:
    """The labels of a row, with their blanks; or why there are none, as a reason."""
    given = listed(value)
    if given is None:
        text = cell(value)
        if not text.strip() or value != value:  # NaN: no value, as pandas writes it
            return "without a label" if separator is None else []
        if not isinstance(value, str) and text[0] in "[{":
            return "whose label is a list or an object"
        given = [text] if separator is None else text.split(separator)
    given = [label for label in given if label.strip()]
    reasons = (reason for label in given if (reason := _no_label(label)))
    return next(reasons, None) or given


def _no_label(label: str) -> str | None:
    """Why a text is no label."""
    if not label.isascii() and shown(label) != label:
        return "whose label is not UTF-8"
    return None


def _places(unit: str, lines: list[int]) -> str:
    named = ", ".join(f"{line:,}" for line in lines[:_LINES])
    return f"{unit}{'s' * (len(lines) > 1)} {named}{', ...' * (len(lines) > _LINES)}"


def _short(fault: str) -> str:
    line = " ".join(fault.split())
    return line if len(line) <= _FAULT else f"{line[:_FAULT]}…"
