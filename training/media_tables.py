"""Pictures and sounds that the rows of a table have, each with its label: a column of Parquet with
bytes, or a column of any table with paths of files, read as `lmaas classify` reads them.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Final

from lmaas.broker_config import media_types
from lmaas.broker_config.errors import DataError
from lmaas.broker_config.messages import Item, ItemError
from lmaas.producer.tables import Chunk, Place, Taking, Wanted, open_table
from lmaas.producer.tables.cells import cell
from lmaas.producer.tables.chunks import column_of
from lmaas.producer.tables.quoting import shown
from lmaas.producer.tables.wanted import BYTES_OPTION, PATH_OPTION
from lmaas.training import labels as labelling
from lmaas.training.media import Examples, Media, check_kind
from lmaas.training.rows import KEPT, Rows, label_column

#: All that a row names is read; what it is, is looked at then.
_ANYTHING: Final = ("*/*",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """Which column of a table has the pictures or sounds: their bytes, or paths of files."""

    data: str | None = None
    path: str | None = None
    #: Whether files may be outside of the table's folder.
    outside: bool = False

    @property
    def option(self) -> str:
        """By which it is named."""
        return PATH_OPTION if self.data is None else BYTES_OPTION

    def wanted(self, keep: tuple[str, ...] | None) -> Wanted:
        taking = Taking(_ANYTHING, sys.maxsize, self.outside)
        return Wanted(data=self.data, path=self.path, keep=keep, kept=KEPT, taking=taking)


def read_table(place: Place, contents: Contents, label: str | None = None) -> Media:
    """The rows that have a label; their items are called as their files are, or `row 1` where
    nobody knows that.

    The item of a file that cannot be read, or of something else than a picture or a sound, has an
    error. Without a name the label column is `label`, or the only other one. Raises DataError.
    """
    if place.has_files:
        raise DataError(
            f"{place.path}: is no table, whose column {contents.option} could name; of files in a "
            "folder a class leave it out"
        )
    name = contents.path or _name_column(place, contents)
    named = () if name is None else (name,)
    keep = None if label is None else tuple(dict.fromkeys((*named, label)))
    table = open_table(place, contents.wanted(keep))
    found = Examples()
    try:
        rows = Rows(table.name, table.unit, contents.option)
        column = label or label_column(table, [*map(shown, named)])
        for chunk in table.chunks:
            found.items += _items(rows, chunk, shown(column), name)
    finally:
        table.close()
    rows.check()
    if rows.multi_label:
        raise DataError(f"{table.name}: {column} has lists; a picture or a sound has one label")
    found.labels = [label for (label,) in rows.labels]
    labelling.check(labelling.counted(found.labels), rows.name)
    _check(rows.name, found)
    return Media(
        name=Path(rows.name).name.split(".")[0],
        train=found,
        sha256=_digest(found),
        notes=[f"{rows.name}: {note}" for note in rows.notes()],
    )


def _name_column(place: Place, contents: Contents) -> str | None:
    """With the names of the files that the bytes were in, if there is one. Raises DataError."""
    table = open_table(place, contents.wanted(None))
    table.close()
    name = f"{contents.data}.path"
    return name if name in table.columns else None


def _items(rows: Rows, chunk: Chunk, column: str, name: str | None) -> Iterator[Item]:
    """Of the rows that can be read and have a label, which `rows` learns."""
    nothing: Iterable[object] = repeat(None, len(chunk))
    labels = column_of(chunk, column) or nothing
    names = (column_of(chunk, shown(name)) if name else None) or nothing
    assert chunk.media is not None
    for position, (content, media_type, label, called, line) in enumerate(
        zip(chunk.texts, chunk.media, labels, names, chunk.lines, strict=True)
    ):
        if fault := chunk.faults.get(position):
            rows.leave_out_unreadable(line, fault)
        elif rows.label(line, label, None):
            yield _item(shown(cell(called)) or f"{rows.unit} {line}", content, media_type)


def _item(name: str, content: bytes | ItemError, media_type: str | None) -> Item:
    if isinstance(content, ItemError):
        # Who tells of the item tells its name.
        why = content.message.removeprefix(f"file {name}: ")
        fault = ItemError(code=content.code, message=why)
        return Item(id=name, media_type=media_types.by_name(name), error=fault)
    return Item(id=name, data=content, media_type=media_type)


def _check(name: str, examples: Examples) -> None:
    """Raises DataError when there is no picture and no sound, or both."""
    check_kind(name, ((item.id, item.media_type) for item in examples.items))
    if examples.kind is None:
        first = examples.items[0]
        why = first.error.message if first.error else f"is {first.media_type}"
        raise DataError(
            f"{name}: has no pictures and no sounds; the first of its rows, {first.id}: {why}"
        )


def _digest(examples: Examples) -> str:
    """Of every item and label, so that no two tables give the same bytes."""
    digest = hashlib.sha256()
    for item, label in zip(examples.items, examples.labels, strict=True):
        for value in (item.id.encode(), label.encode(), item.data or b""):
            digest.update(b"%d:%b" % (len(value), value))
    return digest.hexdigest()
