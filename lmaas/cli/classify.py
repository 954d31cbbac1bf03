"""`lmaas classify`: texts, files and pipes; in process, or through the queue."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import Any, Final

import click
import msgspec
from click.core import ParameterSource

from lmaas.broker_config.errors import LmaasError
from lmaas.broker_config.settings import Settings
from lmaas.cli import classify_telling as telling
from lmaas.cli import loop
from lmaas.cli.exits import Exit, of_items
from lmaas.cli.options import (
    dialect,
    encoding,
    min_score,
    names,
    of_files,
    only,
    pair_column,
    setting,
)
from lmaas.cli.options import models as models_option
from lmaas.cli.way import Way
from lmaas.producer.bulk import (
    Progress,
    Run,
    Summary,
    Task,
    classify_texts,
)
from lmaas.producer.finished import finished_rows
from lmaas.producer.tables import (
    PIPE,
    Answers,
    Chunk,
    Dialect,
    Place,
    Table,
    Taking,
    Wanted,
)
from lmaas.producer.tables.json_lines import JsonLines
from lmaas.producer.tables.places import FORMATS, WRITTEN
from lmaas.producer.tables.plain import Plain

_FORMAT: Final = click.Choice(sorted(set(FORMATS.values())))


@click.command()
@click.argument("sources", metavar="INPUT", nargs=-1)
@click.option("--text", "texts", multiple=True, help="Classify this text; may be repeated.")
@click.option("-o", "--output", default=PIPE, help="The file to write; - is standard output.")
@click.option("--format", "source_format", type=_FORMAT, help="Of INPUT; else by its suffix.")
@dialect
@click.option(
    "--output-format", type=click.Choice(WRITTEN), help="Else by the suffix; - takes that of INPUT."
)
@click.option(
    "--output-encoding",
    default="utf-8",
    callback=encoding,
    help="Of CSV, TSV and text; utf-8-sig, utf-16: for Excel.",
)
@click.option("--text-column", help="The column to classify; else `text`, or the only one.")
@pair_column
@of_files
@click.option("--keep", metavar="A,B", help="The columns to keep; else all.")
@click.option("--result-prefix", default="", help="Comes before label, score and error.")
@click.option("--top-k", type=click.IntRange(min=0), default=0, help="Scores of so many labels.")
@min_score
@click.option("--model", default="sentiment")
@click.option("--model-version", help="Else the newest.")
@click.option("--resume", is_flag=True, help="Go on where an interrupted run was.")
@click.option("--json", "as_json", is_flag=True, help="The summary, or texts' results, as JSON.")
@click.option("--broker", "broker_url", metavar="URL", help="Through the queue of this broker.")
@click.option("--queue", is_flag=True, help="Through the queue of the broker in the settings.")
@models_option
@setting("processes", type=int, help="Processes in this machine; 0: as the model is fastest.")
def command(
    sources: tuple[str, ...],
    texts: tuple[str, ...],
    broker_url: str | None,
    queue: bool,
    models: str | None,
    processes: int | None,
    **options: Any,
) -> Exit:
    """Classify texts, or every row of a file.

    INPUT is CSV, TSV, JSON (lines or an array), Parquet, .xlsx or plain text lines, compressed or
    not, or - for standard input. The output has the kept columns, then label, score and error.
    Of a folder, a pattern in quotes ('reviews/*.txt'), a .zip or a .tar, each file is an item: a
    text, or bytes, as the model takes.

    \b
    lmaas classify reviews.csv --text-column review -o labelled.parquet
    lmaas classify photos/ --model fashion -o labels.csv
    lmaas classify - < lines.txt > labelled.txt
    lmaas classify --text "What a film!"
    """
    if not texts and not sources:
        raise click.UsageError("give INPUT (a file, or - for standard input) or --text")
    if texts:
        _check_texts_alone(sources)
    source = only(sources) if sources else None
    settings = Settings.load(broker_url=broker_url, models=models, processes=processes)
    through_queue = queue or broker_url is not None
    if source is None:
        return _classify_texts(texts, settings, through_queue=through_queue, **options)
    return _classify_file(source, settings, through_queue=through_queue, **options)


#: Of the command's parameters, those that texts have as well.
_OF_TEXTS: Final = {
    *("texts", "model", "model_version", "top_k", "min_score", "as_json"),
    *("broker_url", "queue", "models", "processes"),
}


def _check_texts_alone(sources: tuple[str, ...]) -> None:
    """Raises UsageError for what is said of files beside --text."""
    if sources:
        raise click.UsageError("give INPUT or --text, not both")
    context = click.get_current_context()
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is ParameterSource.COMMANDLINE and parameter.name not in _OF_TEXTS:
            flag = max(parameter.opts, key=len)
            raise click.UsageError(f"{flag} is for files; what --text gives is printed")


def _classify_file(
    source: str,
    settings: Settings,
    *,
    output: str,
    source_format: str | None,
    dialect: Dialect,
    output_format: str | None,
    output_encoding: str,
    text_column: str | None,
    pair_column: str | None,
    bytes_column: str | None,
    path_column: str | None,
    outside: bool,
    keep: str | None,
    result_prefix: str,
    top_k: int,
    min_score: float | None,
    model: str,
    model_version: str | None,
    resume: bool,
    as_json: bool,
    through_queue: bool,
) -> Exit:
    place = Place.of(source, source_format, dialect)
    target = Place.to(output, output_format or _piped_format(output, place), output_encoding)
    way = Way(settings, model, model_version, through_queue=through_queue)
    wanted = Wanted(text_column, names(keep), pair=pair_column, data=bytes_column, path=path_column)
    if wanted.has_contents(place.has_files):
        taking = Taking(way.media_types(), settings.largest_data, outside)
        wanted = dataclasses.replace(wanted, taking=taking)
    task = Task(
        source=place,
        target=target,
        model=model,
        version=way.version,
        model_sha256=way.manifest_sha256,
        wanted=wanted,
        top_k=top_k,
        min_score=min_score,
        result_prefix=result_prefix,
    )
    return _run(task, settings, way, resume=resume, as_json=as_json)


def _run(task: Task, settings: Settings, way: Way, *, resume: bool, as_json: bool) -> Exit:
    if resume and (rows := finished_rows(task)) is not None:
        telling.finished(task, rows, as_json=as_json)
        return Exit.OK
    with Run(task, settings, resume=resume) as run:
        telling.start(run, resume=resume)
        try:
            with telling.bar(run) as report:
                summary = loop.run(_through(way, run, report))
        except (LmaasError, KeyboardInterrupt):
            telling.how_to_go_on(run)
            raise
    telling.end(task, summary, as_json=as_json)
    return of_items(summary.rows, summary.failed)


async def _through(way: Way, run: Run, report: Callable[[Progress], None] | None) -> Summary:
    async with way.classifier as classifier:
        client = way.client
        if client is None:
            return await run.classify(classifier, report)
        # One version answers all of it, whatever is added meanwhile.
        run.state.version = run.state.version or await client.version(run.task.model)
        if run.identity is None:
            return await run.classify(client, report)
        of_file = client.of_file(run.identity)
        if run.state.results:
            await of_file.follow(run.state.results)
        run.state.results = of_file.results
        return await run.classify(of_file, report)


def _piped_format(output: str, source: Place) -> str | None:
    """Into a pipe goes what came in, or what is the most like it; a file has a suffix."""
    if output != PIPE:
        return None
    if source.has_files:
        return "csv"
    return {"parquet": "jsonl", "xlsx": "csv"}.get(source.format, source.format)


def _classify_texts(
    texts: tuple[str, ...],
    settings: Settings,
    *,
    model: str,
    model_version: str | None,
    top_k: int,
    min_score: float | None,
    as_json: bool,
    through_queue: bool,
    **_of_files: Any,
) -> Exit:
    # One process is this one: a few texts are answered before others have started.
    way = Way(
        msgspec.structs.replace(settings, processes=1),
        model,
        model_version,
        through_queue=through_queue,
    )

    async def ask() -> tuple[Chunk, Answers]:
        async with way.classifier as classifier:
            return await classify_texts(
                texts,
                classifier,
                settings,
                model=model,
                version=way.version,
                top_k=top_k,
                min_score=min_score,
            )

    chunk, answers = loop.run(ask())
    if not as_json and sys.stdout.isatty():
        telling.table(chunk, answers)
    else:
        results = ("label", "score", "scores", "error") if top_k else ("label", "score", "error")
        table = Table("--text", ("text",), iter(()), lambda: None)
        written = JsonLines(results) if as_json else Plain(table)
        click.echo(written.rows(chunk, answers), nl=False)
    return of_items(len(chunk), sum(error is not None for error in answers.errors))
