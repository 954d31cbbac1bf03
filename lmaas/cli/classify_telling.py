"""What `lmaas classify` tells who uses it: where it begins, how far it is, and what came of it."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Callable, Iterator
from typing import Final

import click
import msgspec

from lmaas.broker_config.settings import masked
from lmaas.producer.bulk import CHECKPOINT_ROWS, Progress, Run, Summary, Task
from lmaas.producer.tables import Answers, Chunk
from lmaas.producer.tables.cells import well_formed
from lmaas.producer.tables.quoting import counted

#: Of a text in a table on a terminal.
_SHOWN_CHARACTERS: Final = 60


def finished(task: Task, rows: int, *, as_json: bool) -> None:
    """An earlier run has done all of it, so many rows."""
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


def start(run: Run, *, resume: bool) -> None:
    """Before the first row."""
    target = run.task.target.path
    if run.resumed_at:
        click.echo(f"{target}: going on after {run.resumed_at:,} rows", err=True)
    elif resume:
        click.echo(f"{target}: nothing to resume; starting", err=True)
    elif run.found:
        rows = f"{run.found.rows:,}"
        click.echo(f"{target}: starting over; an earlier run had done {rows} rows", err=True)


@contextlib.contextmanager
def bar(run: Run) -> Iterator[Callable[[Progress], None] | None]:
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
    with progress.Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task(run.table.name, total=run.table.size, rows=run.resumed_at, rate=0.0)

        def report(now: Progress) -> None:
            seconds = shown.tasks[0].elapsed or 0
            rate = (now.rows - run.resumed_at) / seconds if seconds else 0.0
            shown.update(task, completed=now.consumed, rows=now.rows, rate=rate)

        yield report


def how_to_go_on(run: Run) -> None:
    """After a run that ended before its time."""
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


def end(task: Task, summary: Summary, *, as_json: bool) -> None:
    """What came of a run."""
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


def table(chunk: Chunk, answers: Answers) -> None:
    """Of texts, for a terminal."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table as RichTable

    columns = RichTable("text", "label", "score")
    rows = zip(chunk.texts, answers.labels, answers.scores, answers.errors, strict=True)
    for position, (text, label, score, error) in enumerate(rows):
        shown = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
        if error is not None or score is None:
            columns.add_row(escape(shown), f"[red]{escape(error or '')}[/red]", "")
            continue
        named = "; ".join(label) if isinstance(label, list) else label
        columns.add_row(escape(shown), escape(named or ""), f"{score:.4f}")
        for other, probability in _others(answers, position).items():
            columns.add_row("", escape(other), f"{probability:.4f}", style="dim")
    Console().print(columns)


def _others(answers: Answers, position: int) -> dict[str, float]:
    """The scores of the labels after the best one, when they were asked for; of all of them where a
    text may have several."""
    ranked = answers.ranked[position] if answers.ranked else None
    scores = msgspec.json.decode(ranked or "{}", type=dict[str, float])
    return {label: score for label, score in scores.items() if label != answers.labels[position]}
