"""Whether a file was classified before, as far as its output tells."""

from __future__ import annotations

from pathlib import Path

from lmaas.broker_config.errors import DataError
from lmaas.producer.bulk import Task
from lmaas.producer.checkpoint import partial_path
from lmaas.producer.tables import Dialect, Place, Wanted, open_table


def finished_rows(task: Task) -> int | None:
    """How many rows the complete output has; None when there is none, or work is left.

    It is complete when it has columns for the results, nothing of a run that did not end lies
    beside it, and the input was not changed after it. Reads all of the output.
    """
    target = Path(task.target.path)
    if task.target.piped or not target.is_file() or partial_path(target).is_file():
        return None
    source = Path(task.source.path)
    if source.exists() and source.stat().st_mtime > target.stat().st_mtime:
        return None
    try:
        return _rows(task)
    except DataError:  # something else, which a run takes the place of
        return None


def _rows(task: Task) -> int:
    target = task.target
    dialect = Dialect(encoding=target.dialect.encoding, quotes=_has_quotes(task))
    keep = None if target.format == "text" else task.results
    place = Place(target.path, target.format, target.compression, dialect)
    table = open_table(place, Wanted(keep=keep, any_text=True))
    try:
        return sum(len(chunk) for chunk in table.chunks)
    finally:
        table.close()


def _has_quotes(task: Task) -> bool | None:
    """Whether values of the output may be in quotes, as `tables.encoding` writes them."""
    source = task.source
    if task.target.format != "tsv":
        return None
    tabs = source.format == "tsv" and source.dialect.delimiter in {None, "\t"}
    return bool(source.dialect.quotes) or not tabs
