"""The input of a job, read again when the job is collected: its rows get the results."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from lmaas.broker_config.errors import DataError, OptionError
from lmaas.broker_config.messages import Result
from lmaas.producer.rows import ids_of
from lmaas.producer.tables import Chunk, Place, Table, Wanted, open_table
from lmaas.producer.tables.chunks import column_of, nested_names
from lmaas.producer.tables.quoting import counted
from lmaas.producer.tables.taking import AS_NAMED, Taking

_NOT_IT: Final = (
    "this is not what was submitted, or it has changed; the results are still there: give the "
    "right file, or none"
)


@dataclass(frozen=True, slots=True)
class Submitted:
    """What somebody says was submitted, and which of its columns to keep."""

    place: Place
    #: None for all.
    keep: tuple[str, ...] | None = None
    #: Comes before the names of the columns of results.
    prefix: str = ""
    #: What the model takes of files.
    taking: Taking = AS_NAMED

    def open(self) -> Table:
        """All of its columns. Raises DataError when it cannot be read twice, or at all."""
        if self.place.piped:
            raise OptionError(
                "the input of a job is read twice, which a pipe cannot be; name a file"
            )
        return open_table(self.place, Wanted(any_text=True, taking=self.taking))

    def kept(self, table: Table) -> Table:
        """The table with the columns to keep, which can be nested; its chunks are not to be read.

        Raises DataError when one of them is not there.
        """
        if self.keep is None:
            return table
        narrow = open_table(self.place, Wanted(keep=self.keep, any_text=True, taking=self.taking))
        narrow.close()
        return narrow

    def check_rows(self, job: str, items: int | None) -> None:
        """Raises DataError when there are not as many rows as the job has items."""
        table = self.open()
        try:
            rows = sum(len(chunk) for chunk in table.chunks)
        finally:
            table.close()
        if items is not None and rows != items:
            raise DataError(
                f"{table.name}: {counted(rows, 'row')}, and job {job} has {items:,}: {_NOT_IT}"
            )

    def paired(
        self, table: Table, job: str, results: Iterator[Result]
    ) -> Iterator[tuple[Chunk, list[Result]]]:
        """Each chunk with the kept columns, and the results of its rows.

        The ids of a job are the numbers of its rows, or a column, or a field inside one
        (`review.id`): whichever fits all rows.
        Raises DataError when none does, or there are more of one than of the other.
        """
        columns = self.kept(table).columns
        ways: list[str | None] = []
        for number, chunk in enumerate(table.chunks):
            if not number:
                ways = [None, *table.columns, *nested_names(chunk)]
            found = list(islice(results, len(chunk)))
            ids = [result.id for result in found]
            ways = [way for way in ways if _fit(ids_of(chunk, way), ids, found)]
            if not ways:
                raise DataError(
                    f"{table.name}: near {table.unit} {chunk.lines[0]} the rows have other ids "
                    f"than job {job}: {_NOT_IT}"
                )
            yield (chunk if self.keep is None else _narrowed(chunk, columns)), found
        if next(results, None) is not None:
            raise DataError(f"{table.name}: fewer rows than job {job}: {_NOT_IT}")


def _fit(rows: list[str], ids: list[str], results: list[Result]) -> bool:
    """Whether rows have the ids of the results; that of one that was purged is gone, and of a chunk
    that was refused unread they were never known."""
    return rows == ids or (
        len(rows) == len(ids)
        and all(
            row == one or (not one and result.error is not None)
            for row, one, result in zip(rows, ids, results, strict=True)
        )
    )


def _narrowed(chunk: Chunk, columns: tuple[str, ...]) -> Chunk:
    found = {name: column_of(chunk, name) for name in columns}
    there = {name: column for name, column in found.items() if column is not None}
    return dataclasses.replace(chunk, columns=there, objects=None)
