"""`lmaas jobs`: list, show, collect and cancel batch jobs."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from lmaas.broker_config.settings import Settings
from lmaas.cli import options
from lmaas.cli.exits import of_items
from lmaas.cli.loop import run
from lmaas.producer import batch
from lmaas.producer.batch import Jobs
from lmaas.producer.collect import Counts, collect
from lmaas.producer.journal import ENDED
from lmaas.producer.progress import Progress as JobProgress
from lmaas.producer.submitted import Submitted
from lmaas.producer.tables import Dialect, Place, Taking
from lmaas.producer.tables.places import FORMATS, WRITTEN
from lmaas.producer.tables.quoting import counted


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@options.broker
@click.pass_context
def command(context: click.Context, /, as_json: bool, **arguments: Any) -> None:
    """List the batch jobs of the last week; or show, collect or cancel one.

    Of those that were collected or cancelled it lists the last 100.
    """
    context.obj = settings = Settings.load(**arguments)
    if context.invoked_subcommand is None:
        _print(run(_list(settings)), as_json)


async def _list(settings: Settings) -> list[JobProgress]:
    async with Jobs(settings) as jobs:
        return await jobs.list()


@command.command()
@click.argument("job")
@click.option("--json", "as_json", is_flag=True, help="As a JSON object.")
@click.pass_obj
def show(settings: Settings, job: str, as_json: bool) -> None:
    """Say how far JOB is."""

    async def ask() -> JobProgress:
        async with Jobs(settings) as jobs:
            return await jobs.progress(job)

    _print([run(ask())], as_json)


@command.command("collect")
@click.argument("job")
@click.option("-o", "--output", required=True, help="File for the results, in order.")
@click.option("--output-format", type=click.Choice(sorted({*WRITTEN} - {"text"})))
@click.option("--input", "source", metavar="FILE", help="What was submitted: keeps its columns.")
@click.option("--format", "source_format", type=click.Choice(sorted(set(FORMATS.values()))))
@options.dialect
@click.option("--keep", metavar="A,B", help="Columns of --input to keep; else all.")
@click.option("--result-prefix", default="", help="With --input: before label, score and error.")
@click.pass_context
def collect_(
    context: click.Context,
    job: str,
    output: str,
    output_format: str | None,
    source: str | None,
    source_format: str | None,
    dialect: Dialect,
    keep: str | None,
    result_prefix: str,
) -> None:
    """Wait for JOB, write its results (id, label, score, error), and remove it.

    With --input the rows of that file come before label, score and error, as in `lmaas classify`.
    An interruption loses nothing: run it again.
    """
    settings: Settings = context.obj
    target = Place.to(output, output_format)
    submitted = None
    if source is not None:
        place = Place.of(source, source_format, dialect)
        submitted = Submitted(place, options.names(keep), result_prefix)
    elif source_format or keep or result_prefix or dialect != Dialect():
        raise click.UsageError("say with --input which file these options are for")

    async def fetch() -> Counts:
        async with Jobs(settings) as jobs:
            progress = await jobs.progress(job)
            _say_what_is_missing(progress)
            read = submitted
            if read is not None and read.place.has_files:
                taking = Taking.of(await jobs.card(progress.entry.model), 0)
                read = dataclasses.replace(read, taking=taking)
            with _bar(progress.entry.items) as report:
                return await collect(jobs, job, target, report, read)

    items, failures = run(fetch())
    click.echo(f"{output}: {items:,} results, {failures:,} of them errors", err=True)
    context.exit(of_items(items, failures))


@command.command()
@click.argument("job")
@click.option("--yes", is_flag=True, help="Do not ask, whatever is done.")
@click.pass_obj
def cancel(settings: Settings, job: str, yes: bool) -> None:
    """Drop what is not done of JOB, and its results.

    Asks before it drops results that nobody has collected.
    """

    async def ask() -> JobProgress:
        async with Jobs(settings) as jobs:
            return await jobs.progress(job)

    async def drop() -> None:
        async with Jobs(settings) as jobs:
            await jobs.cancel(job)

    if not yes and (lost := _would_lose(run(ask()))):
        if not sys.stdin.isatty():
            raise click.UsageError(f"{lost}; to drop them add --yes")
        click.confirm(f"{lost}; drop them for good?", abort=True, err=True)
    run(drop())
    click.echo(f"job {job} is cancelled", err=True)


def _would_lose(job: JobProgress) -> str | None:
    """What work is thrown away with a job; None when there is none."""
    entry = job.entry
    if job.state == "collecting":
        return f"somebody is collecting the results of job {entry.job}"
    if entry.state in ENDED or not job.done:
        return None
    if job.finished:
        return f"all {entry.items or 0:,} results of job {entry.job} are there and not collected"
    if entry.chunks and entry.items is not None:
        rows = entry.items * job.done // entry.chunks
        return f"about {rows:,} of the {entry.items:,} results of job {entry.job} are there"
    return f"results of {counted(job.done, 'chunk')} of job {entry.job} are there"


def _say_what_is_missing(job: JobProgress) -> None:
    entry = job.entry
    if entry.state == "submitting":
        click.echo("it is still being submitted; if its submitter has died, cancel it", err=True)
    elif not job.finished and job.done is not None:
        click.echo(f"waiting for {counted((entry.chunks or 0) - job.done, 'chunk')}", err=True)


@contextlib.contextmanager
def _bar(total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal, nothing in a pipe."""
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("collect", total=total)
        yield lambda items: progress.update(task, completed=items)


def _print(jobs: list[JobProgress], as_json: bool) -> None:
    if as_json:
        for job in jobs:
            entry = msgspec.to_builtins(job.entry) | {
                "state": job.state,
                "done": job.done,
                "note": job.note,
            }
            click.echo(msgspec.json.encode(entry))
        return
    table = Table("job", "state", "model", "items", "chunks done", "changed")
    for job in jobs:
        table.add_row(*_row(job))
    width = None if sys.stdout.isatty() else 120
    Console(width=width).print(table if jobs else "no jobs")
    if not jobs:
        click.echo(batch.IF_MISSED, err=True)
    for job in jobs:
        if job.note:
            click.echo(job.note, err=True)


def _row(job: JobProgress) -> tuple[str, ...]:
    entry = job.entry
    items = "?" if entry.items is None else f"{entry.items:,}"
    done = (
        "-" if job.done is None else f"{job.done:,}/{'?' if entry.chunks is None else entry.chunks}"
    )
    changed = datetime.fromtimestamp(entry.at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return entry.job, job.state, entry.model, items, done, changed
