"""`lmaas bench`: how fast the broker and the workers that are running answer."""

from __future__ import annotations

import asyncio
import contextlib
import math
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from lmaas.bench import texts
from lmaas.bench.figures import Latency, Phase, Report, said
from lmaas.bench.phases import Plan, Tell, measure
from lmaas.broker_config.errors import DataError, OptionError
from lmaas.broker_config.settings import Settings
from lmaas.cli import options
from lmaas.cli.exits import Exit, of_items
from lmaas.cli.loop import run
from lmaas.producer.tables import Place
from lmaas.producer.tables.file_errors import unusable
from lmaas.producer.tables.places import FORMATS

#: Formats of a picture.
_PICTURES: Final = (".png", ".svg", ".pdf")
#: Seconds between two steps of the progress bar.
_STEP: Final = 0.2


@click.command()
@click.option("--model", default="sentiment", help="Model to ask.", show_envvar=True)
@click.option(
    "--seconds", type=click.FloatRange(1, 600), default=10.0, help="For all measurements together."
)
@click.option("--callers", type=click.IntRange(1, 4096), default=64, help="Single calls at a time.")
@click.option("--texts", "source", metavar="FILE", help="Texts to send; - is a pipe.  [made up]")
@click.option("--text-column", help="Column with the texts.", show_envvar=True)
@click.option("--format", "file_format", type=click.Choice(sorted(set(FORMATS.values()))))
@click.option(
    "--plot",
    "picture",
    type=click.Path(path_type=Path),
    help="Picture to draw: .png, .svg or .pdf.",
)
@click.option("--json", "as_json", is_flag=True, help="Print all figures as JSON.")
@options.broker
def command(
    model: str,
    seconds: float,
    callers: int,
    source: str | None,
    text_column: str | None,
    file_format: str | None,
    picture: Path | None,
    as_json: bool,
    **arguments: Any,
) -> Exit:
    """Measure the broker and the workers that are running; nothing is started.

    One after the other: single calls one at a time, many at a time, bulk, and packs of all sizes
    that are about half of the work that the bulk was; there, short ones should not wait for long
    ones. A size class has the packs that take a worker as long as one lane allows. Nothing leaves
    after --seconds, and the last answers are waited for.

    The figures hold for this moment and these machines, and include what this command itself takes
    of its machine. Other users of the broker are slowed down while it runs.

    Without --texts, made-up ones of 8 to 300 words are sent, always the same. A model can be faster
    or slower with yours: give a file, such as classify reads.

    \b
    lmaas bench --seconds 30 --plot bench.png
    lmaas bench --texts reviews.csv --text-column review --json
    """
    settings = Settings.load(**arguments)
    if picture is not None:
        _check(picture)
        from lmaas.bench.picture import draw  # now: without matplotlib nothing is to be measured
    sent = _texts(source, file_format, text_column, settings)
    if math.isnan(seconds):  # which is in no range, and out of none
        raise click.BadParameter("it must be a number", param_hint="--seconds")
    plan = Plan(model=model, texts=sent, seconds=seconds, callers=callers)
    report = run(_measure(settings, plan))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(report), indent=2))
    else:
        _print(report, settings)
    if picture is not None:
        try:
            draw(report, picture)
        except OSError as error:
            raise unusable(picture, error) from error
    return of_items(report.items, report.failed)


def _check(picture: Path) -> None:
    """Raises DataError when no picture can be written there; leaves the place as it is."""
    if picture.suffix.lower() not in _PICTURES:
        raise OptionError(f"{picture}: a picture's name ends with one of {' '.join(_PICTURES)}")
    if not picture.parent.is_dir():
        raise DataError(f"{picture}: there is no folder {str(picture.parent)!r}; create it first")
    existed = picture.exists()
    try:
        picture.open("ab").close()
    except OSError as error:
        raise unusable(picture, error) from error
    if not existed:
        picture.unlink()


def _texts(
    source: str | None, file_format: str | None, column: str | None, settings: Settings
) -> texts.Texts:
    if source is not None:
        return texts.read(Place.of(source, file_format), column, settings.max_item_bytes)
    if column or file_format:
        raise click.UsageError("--text-column and --format are about a file: give it with --texts")
    return texts.made_up()


async def _measure(settings: Settings, plan: Plan) -> Report:
    async with _bar(plan.seconds) as tell:
        return await measure(settings, plan, tell)


@contextlib.asynccontextmanager
async def _bar(seconds: float) -> AsyncIterator[Tell]:
    """A progress bar on a terminal, nothing in a pipe."""
    console = Console(stderr=True)
    columns = (BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(
        *columns, console=console, disable=not console.is_terminal, transient=True
    ) as progress:
        task = progress.add_task("the first text", total=seconds)
        ticking = asyncio.create_task(_tick(progress))
        try:
            yield lambda name, share: progress.update(
                task, description=name, completed=share * seconds
            )
        finally:
            ticking.cancel()


async def _tick(progress: Progress) -> None:
    while True:
        await asyncio.sleep(_STEP)
        progress.advance(progress.task_ids[0], _STEP)


def _print(report: Report, settings: Settings) -> None:
    table = Table("", "items", "failed", "items/s", "p50 ms", "p95 ms", "p99 ms", "longest ms")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, phase in report.phases.items():
        table.add_row(name, *_row(phase))
    width = None if sys.stdout.isatty() else 120
    console = Console(width=width, highlight=False, markup=False)
    console.print(
        f"{report.model} {report.version or ''} at {report.broker}, policy {report.policy} here; "
        f"{report.texts_used:,} texts ({report.texts}) of {report.mean_text_bytes:,.0f} bytes"
    )
    console.print(table)
    for remark in _remarks(report, settings):
        console.print(remark)


def _row(phase: Phase) -> tuple[str, ...]:
    latency = phase.latency_seconds
    return (
        f"{phase.items:,}",
        f"{phase.failed:,}",
        f"{phase.items_per_second:,.0f}",
        *(
            _milliseconds(getattr(latency, name) if latency else None)
            for name in Latency.__struct_fields__
        ),
    )


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1e3:,.2f}" if seconds < 0.1 else f"{seconds * 1e3:,.0f}"


def _remarks(report: Report, settings: Settings) -> list[str]:
    remarks = []
    if report.failed:
        remarks.append(f"{report.failed:,} items failed: {said(report.failures)}")
    if report.texts_left_out:
        remarks.append(
            f"left out, because no model can classify them: {report.texts_left_out:,} texts"
        )
    if report.bulk.pack_items < settings.pack_items:
        remarks.append(
            f"bulk: there was no time for packs of {settings.pack_items:,}; more --seconds may "
            "show more items/s"
        )
    timed = [each.latency_seconds for each in report.phases.values() if each.latency_seconds]
    if any(latency.p99 is None for latency in timed):
        remarks.append("-: too few answers to say; more --seconds bring more")
    return remarks
