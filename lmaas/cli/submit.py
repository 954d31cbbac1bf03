"""`lmaas submit`: a file as a batch job."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from typing import Any

import click
import msgspec

from lmaas.broker_config.settings import Settings
from lmaas.cli import options
from lmaas.cli.loop import run
from lmaas.producer.batch import Jobs
from lmaas.producer.journal import JobEntry
from lmaas.producer.table_items import table_items
from lmaas.producer.tables import Dialect, Place, Table, Taking, Wanted, open_table
from lmaas.producer.tables.contents import FILE
from lmaas.producer.tables.places import FORMATS
from lmaas.producer.tables.quoting import counted


@click.command()
@click.argument("sources", metavar="FILE", nargs=-1, required=True)
@click.option("--model", default="sentiment", help="Model to ask.", show_envvar=True)
@click.option("--model-version", "version", help="Version of the model.  [newest]")
@click.option("--text-column", help="Column with the texts.", show_envvar=True)
@options.pair_column
@options.of_files
@click.option(
    "--id-column", help="Column that names the rows.  [row number, from 0; the name of a file]"
)
@click.option("--format", "file_format", type=click.Choice(sorted(set(FORMATS.values()))))
@options.dialect
@click.option("--job", help="Id of the job.  [made up]")
@click.option(
    "--top-k", type=click.IntRange(0), default=0, help="Scores of this many labels; 0 for none."
)
@options.min_score
@click.option("--json", "as_json", is_flag=True, help="Print the job as JSON.")
@options.broker
def command(
    sources: tuple[str, ...],
    model: str,
    version: str | None,
    text_column: str | None,
    pair_column: str | None,
    bytes_column: str | None,
    path_column: str | None,
    outside: bool,
    id_column: str | None,
    file_format: str | None,
    dialect: Dialect,
    job: str | None,
    top_k: int,
    min_score: float | None,
    as_json: bool,
    **arguments: Any,
) -> None:
    """Publish FILE (a folder or an archive of files, or - for a pipe) as a batch job and leave.

    The id of the job is printed; `lmaas jobs collect ID -o FILE` fetches the results, now or
    days later, from anywhere that reaches the broker. The command ends two seconds after its start
    at the earliest: so long it tries whether the broker keeps what it gets.
    """
    settings = Settings.load(**arguments)
    place = Place.of(options.only(sources), file_format, dialect)
    id_column = id_column or (FILE if place.has_files else path_column)
    keep = (id_column,) if id_column else ()
    wanted = Wanted(text_column, keep, pair=pair_column, data=bytes_column, path=path_column)
    has_contents = wanted.has_contents(place.has_files)
    with contextlib.ExitStack() as stack:
        # What can be told without a broker is told before it is asked for.
        table = None if has_contents else _opened(stack, place, wanted)

        async def submit() -> None:
            async with Jobs(settings) as jobs:
                rows = table
                if rows is None:
                    card = await jobs.card(model)
                    taking = Taking.of(card, settings.largest_data, outside=outside)
                    named = dataclasses.replace(wanted, taking=taking)
                    rows = await asyncio.to_thread(_opened, stack, place, named)
                items = table_items(rows, settings.max_item_bytes)
                entry = await jobs.submit(
                    model, items, job=job, version=version, top_k=top_k, min_score=min_score
                )
                _tell(entry, as_json=as_json)
                await jobs.policies()  # they are told by the log

        run(submit())


def _opened(stack: contextlib.ExitStack, place: Place, wanted: Wanted) -> Table:
    table = open_table(place, wanted)
    stack.callback(table.close)
    return table


def _tell(entry: JobEntry, *, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(entry))
        return
    click.echo(entry.job)
    click.echo(
        f"{counted(entry.items or 0, 'item')} in {counted(entry.chunks or 0, 'chunk')} "
        f"{'is' if entry.items == 1 else 'are'} in the queue; "
        f"collect them with: lmaas jobs collect {entry.job} -o results.csv",
        err=True,
    )
