"""`lmaas classify`: texts, files and pipes; in process, or through the queue."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec
from click.core import ParameterSource

from lmaas.broker_config.errors import LmaasError
from lmaas.broker_config.settings import Settings, masked
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
from lmaas.producer.bulk import (
    CHECKPOINT_ROWS,
    Classifier,
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
from lmaas.producer.tables.chunks import counted, well_formed
from lmaas.producer.tables.json_lines import JsonLines
from lmaas.producer.tables.places import FORMATS, WRITTEN
from lmaas.producer.tables.plain import Plain

if TYPE_CHECKING:
    from lmaas.broker_config.messages import ModelCard
    from lmaas.producer.client import Client
    from lmaas.workers.pool import Pool

_FORMAT: Final = click.Choice(sorted(set(FORMATS.values())))
_SHOWN_CHARACTERS: Final = 60


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


class _Way:
    """A way to the model: this machine's processes, or the queue."""

    def __init__(
        self, settings: Settings, model: str, version: str | None, *, through_queue: bool
    ) -> None:
        """Raises ModelNotFound or ModelDamaged where the model is this machine's.

        Raises SettingsError where the broker's URL, or what belongs to it, is wrong.
        """
        self.classifier: AbstractAsyncContextManager[Classifier]
        self._model = model
        self._pool: Pool | None = None
        #: The same, where it is the queue.
        self.client: Client | None = None
        self.version = version
        self.manifest_sha256: str | None = None
        if through_queue:
            from lmaas.broker_config.hosts import check
            from lmaas.producer.client import Client

            check(settings)  # before anything is written
            self.classifier = self.client = Client(settings)
        else:
            from lmaas.workers.pool import Pool

            self._pool = pool = Pool(settings, model, version)
            self.classifier = pool
            self.version = pool.manifest.version
            content = msgspec.json.encode(pool.manifest, order="sorted")
            self.manifest_sha256 = hashlib.sha256(content).hexdigest()

    def media_types(self) -> tuple[str, ...] | None:
        """Of the bytes that the model takes; () for texts, None when no worker tells.

        Raises BrokerError.
        """
        if self._pool is not None:
            return tuple(self._pool.media_types())
        card = loop.run(self._card())
        return None if card is None else tuple(card.media_types)

    async def _card(self) -> ModelCard | None:
        assert self.client is not None
        async with self.client:
            return await self.client.card(self._model)


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
    way = _Way(settings, model, model_version, through_queue=through_queue)
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
    if resume and (rows := finished_rows(task)) is not None:
        _tell_finished(task, rows, as_json=as_json)
        return Exit.OK
    with Run(task, settings, resume=resume) as run:
        _tell_start(run, resume=resume)
        try:
            with _bar(run) as report:
                summary = loop.run(_through(way, run, report))
        except (LmaasError, KeyboardInterrupt):
            _tell_how_to_go_on(run)
            raise
    _tell_end(task, summary, as_json=as_json)
    return of_items(summary.rows, summary.failed)


async def _through(way: _Way, run: Run, report: Callable[[Progress], None] | None) -> Summary:
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


def _tell_finished(task: Task, rows: int, *, as_json: bool) -> None:
    target = task.target.path
    if as_json:
        told = {
            "input": well_formed(task.source.path),
            "output": well_formed(target),
            "rows": rows,
            "resumed_at": rows,
            "finished_before": True,
        }
        click.echo(msgspec.json.encode(told).decode())
    click.echo(
        f"{target}: is finished, with {counted(rows, 'row')}; nothing was done. To classify "
        f"{task.source.path} again, leave out --resume",
        err=True,
    )


def _tell_start(run: Run, *, resume: bool) -> None:
    target = run.task.target.path
    if run.resumed_at:
        click.echo(f"{target}: going on after {run.resumed_at:,} rows", err=True)
    elif resume:
        click.echo(f"{target}: nothing to resume; starting", err=True)
    elif run.found:
        rows = f"{run.found.rows:,}"
        click.echo(f"{target}: starting over; an earlier run had done {rows} rows", err=True)


@contextlib.contextmanager
def _bar(run: Run) -> Iterator[Callable[[Progress], None] | None]:
    """A progress bar on a terminal that nothing else is written to."""
    if not sys.stderr.isatty() or (run.task.target.piped and sys.stdout.isatty()):
        yield None
        return
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.TaskProgressColumn(),
        progress.TextColumn("{task.fields[rows]:,} rows"),
        progress.TextColumn("{task.fields[rate]:,.0f}/s"),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(run.table.name, total=run.table.size, rows=run.resumed_at, rate=0.0)

        def report(now: Progress) -> None:
            seconds = bar.tasks[0].elapsed or 0
            rate = (now.rows - run.resumed_at) / seconds if seconds else 0.0
            bar.update(task, completed=now.consumed, rows=now.rows, rate=rate)

        yield report


def _tell_how_to_go_on(run: Run) -> None:
    if run.task.source.piped or run.task.target.piped:
        return
    if not run.saved_rows:
        click.echo(f"stopped before the first {CHECKPOINT_ROWS:,} rows were saved", err=True)
        return
    arguments = [masked(word) if "://" in word else word for word in sys.argv[1:]]
    if "--resume" not in arguments:
        arguments.append("--resume")
    command_line = shlex.join(["lmaas", *arguments])
    click.echo(f"{run.saved_rows:,} rows are done; continue with: {command_line}", err=True)


def _tell_end(task: Task, summary: Summary, *, as_json: bool) -> None:
    rate = (summary.rows - summary.resumed_at) / max(summary.seconds, 1e-9)
    if as_json:
        told = {
            "input": well_formed(task.source.path),
            "output": well_formed(task.target.path),
            "model": task.model,
            "version": summary.version,
            "rows": summary.rows,
            "failed": summary.failed,
            "failures": summary.failures,
            "resumed_at": summary.resumed_at,
            "seconds": round(summary.seconds, 3),
            "rows_per_second": round(rate, 1),
        }
        # Rows and summary do not mix.
        click.echo(msgspec.json.encode(told).decode(), err=task.target.piped)
        return
    click.echo(
        f"{task.target.path}: {counted(summary.rows, 'row')} in {summary.seconds:.1f} s "
        f"({rate:,.0f}/s)",
        err=True,
    )
    if summary.failed:
        more = " …" if summary.failed > len(summary.failures) else ""
        first = "; ".join(summary.failures)
        click.echo(f"{counted(summary.failed, 'row')} failed: {first}{more}", err=True)


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
    way = _Way(
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
        _print_table(chunk, answers)
    else:
        results = ("label", "score", "scores", "error") if top_k else ("label", "score", "error")
        table = Table("--text", ("text",), iter(()), lambda: None)
        written = JsonLines(results) if as_json else Plain(table)
        click.echo(written.rows(chunk, answers), nl=False)
    return of_items(len(chunk), sum(error is not None for error in answers.errors))


def _print_table(chunk: Chunk, answers: Answers) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table as RichTable

    table = RichTable("text", "label", "score")
    rows = zip(chunk.texts, answers.labels, answers.scores, answers.errors, strict=True)
    for position, (text, label, score, error) in enumerate(rows):
        shown = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
        if error is not None or score is None:
            table.add_row(escape(shown), f"[red]{escape(error or '')}[/red]", "")
            continue
        named = "; ".join(label) if isinstance(label, list) else label
        table.add_row(escape(shown), escape(named or ""), f"{score:.4f}")
        for other, probability in _others(answers, position).items():
            table.add_row("", escape(other), f"{probability:.4f}", style="dim")
    Console().print(table)


def _others(answers: Answers, position: int) -> dict[str, float]:
    """The scores of the labels after the best one, when they were asked for; of all of them where a
    text may have several."""
    ranked = answers.ranked[position] if answers.ranked else None
    scores = msgspec.json.decode(ranked or "{}", type=dict[str, float])
    return {label: score for label, score in scores.items() if label != answers.labels[position]}
