"""`lmaas dead`: look at dead letters, send them again, keep them, drop them."""

from __future__ import annotations

import contextlib
import heapq
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, TypeVar

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lmaas.broker_config.errors import LmaasError
from lmaas.broker_config.seals import Seals
from lmaas.broker_config.settings import Settings
from lmaas.cli import options
from lmaas.cli.dead_shown import Counts, counted, print_all, print_one, shortened
from lmaas.cli.exits import Exit
from lmaas.cli.loop import run
from lmaas.producer import dead_letters
from lmaas.producer.checkpoint import PartialFile, Pipe
from lmaas.producer.dead_letter import Filter, Summary, exported
from lmaas.producer.dead_letters import DeadLetter, Outcome, Report
from lmaas.producer.tables import Place

_F = TypeVar("_F", bound=Callable[..., Any])


@click.group()
@options.broker
@click.pass_context
def command(context: click.Context, /, **arguments: Any) -> None:
    """Look at the packs that could not be answered; replay, export or purge them.

    They lie in the dead letter queue, which nothing leaves by itself. Only one command reads it at
    a time.
    """
    context.obj = Settings.load("operator", **arguments)


def _filters(function: _F) -> _F:
    """The options that say which of the dead letters are meant."""
    moment = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"])
    for option in (
        click.option("--before", type=moment, help="Dead-lettered before this moment, local time."),
        click.option(
            "--after", type=moment, help="Dead-lettered at this moment or later, local time."
        ),
        click.option("--job", help="Of this batch job."),
        click.option("--error", help="With this code, for example poison."),
        click.option("--model", help="For this model."),
    ):
        function = option(function)
    return function


def _filter(
    ids: tuple[str, ...] = (),
    *,
    model: str | None,
    error: str | None,
    job: str | None,
    after: datetime | None,
    before: datetime | None,
) -> Filter:
    return Filter(
        ids=frozenset(ids),
        model=model,
        error=error,
        job=job,
        after=_milliseconds(after),
        before=_milliseconds(before),
    )


def _milliseconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1000)


def _checked(wanted: Filter, everything: bool) -> Filter:
    """Raises UsageError unless exactly one of a filter and `--all` was given."""
    if wanted.is_empty != everything:
        raise click.UsageError("say which: IDs or filters, or else --all")
    return wanted


@command.command("list")
@click.option("--limit", type=click.IntRange(0), default=50, help="Messages to list.")
@_filters
@click.option("--json", "as_json", is_flag=True, help="As a JSON object.")
@click.pass_obj
def list_(settings: Settings, /, limit: int, as_json: bool, **filters: Any) -> None:
    """List the latest dead letters, newest first, and count everything by error and model."""
    newest, counts = run(_survey(settings, _filter(**filters), limit))
    if as_json:
        click.echo(msgspec.json.encode({"parked": newest, "counts": counted(counts)}))
    else:
        print_all(newest, counts)


async def _survey(settings: Settings, wanted: Filter, limit: int) -> tuple[list[Summary], Counts]:
    newest: list[Summary] = []
    messages, items = counts = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    with _bar("read") as report:
        async with contextlib.aclosing(dead_letters.read(settings, wanted, report)) as pages:
            async for page in pages:
                newest = heapq.nlargest(limit, [*newest, *(one.summary for one in page)], key=_when)
                for summary, _ in page:
                    kind = summary.error or "?", summary.model or "?"
                    messages[kind] += 1
                    items[kind] += summary.items or 0
    return newest, counts


def _when(summary: Summary) -> int:
    return summary.parked_ms or 0


@command.command()
@click.argument("name", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="As a JSON object, with all of every text.")
@click.pass_obj
def show(settings: Settings, name: str, as_json: bool) -> None:
    """Show all of the message ID: its headers, and its items.

    The items of what is sealed are shown to who has the key (setting payload_keys).
    """
    dead_letter = run(_find(settings, name))
    if as_json:
        summary, message = dead_letter
        content = None
        if summary.key is not None and settings.payload_keys:
            content = dead_letters.opened(dead_letter, Seals(settings))
        click.echo(exported(message, summary, settings, content))
    else:
        print_one(dead_letter, settings)


async def _find(settings: Settings, name: str) -> DeadLetter:
    """The first that has this id. Raises LmaasError."""
    with _bar("search") as report:
        pages = dead_letters.read(settings, Filter(ids=frozenset({name})), report)
        async with contextlib.aclosing(pages):
            async for page in pages:
                if page:
                    return page[0]
    raise LmaasError(f"no dead letter {name!r} on {settings.broker} (see `lmaas dead list`)")


@command.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@_filters
@click.option("--all", "everything", is_flag=True, help="Without any filter.")
@click.pass_context
def replay(
    context: click.Context, /, ids: tuple[str, ...], everything: bool, **filters: Any
) -> None:
    """Send dead letters to their lanes again, with a first attempt and without deadline.

    Each leaves the dead letter queue when the broker has it in its lane. What was redacted (setting
    redact) stays. An interruption loses nothing: run it again.
    """
    wanted = _checked(_filter(ids, **filters), everything)
    _finish(context, "replayed", run(_with_bar("replay", dead_letters.replay, context.obj, wanted)))


@command.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@_filters
@click.option("--all", "everything", is_flag=True, help="Without any filter.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def purge(
    context: click.Context, /, ids: tuple[str, ...], everything: bool, yes: bool, **filters: Any
) -> None:
    """Drop dead letters for good."""
    wanted = _checked(_filter(ids, **filters), everything)
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("nobody can be asked here: add --yes")
        _, (messages, _) = run(_survey(context.obj, wanted, 0))
        click.confirm(f"drop {messages.total():,} dead letters for good?", abort=True, err=True)
    _finish(context, "dropped", run(_with_bar("purge", dead_letters.purge, context.obj, wanted)))


async def _with_bar(
    name: str, work: Callable[..., Any], settings: Settings, wanted: Filter
) -> Outcome:
    with _bar(name) as report:
        outcome = await work(settings, wanted, report)
    assert isinstance(outcome, Outcome)
    return outcome


def _finish(context: click.Context, done: str, outcome: Outcome) -> None:
    """Say what came of it, and end with the exit code for that."""
    click.echo(f"{outcome.done:,} messages {done}", err=True)
    for key, count in sorted(outcome.unroutable.items(), key=lambda kept: (-kept[1], kept[0])):
        click.echo(
            f"{count:,} stay dead letters: no queue takes {shortened(key)!r}; start a worker of "
            "that model first",
            err=True,
        )
    if outcome.redacted:
        click.echo(
            f"{outcome.redacted:,} stay dead letters: they were redacted (setting redact), so that "
            "there is nothing to send again; `lmaas dead purge` drops them",
            err=True,
        )
    for name in sorted(outcome.missing):
        click.echo(f"{shortened(name)!r} is no dead letter (see `lmaas dead list`)", err=True)
    if outcome.unroutable or outcome.missing or outcome.redacted:
        context.exit(Exit.SOME_FAILED if outcome.done else Exit.FAILED)


@command.command()
@click.option("-o", "--output", required=True, help="File for JSON Lines; - is standard output.")
@_filters
@click.option("--open", "open_sealed", is_flag=True, help="Open what is sealed; needs the keys.")
@click.pass_obj
def export(settings: Settings, /, output: str, open_sealed: bool, **filters: Any) -> None:
    """Write dead letters with their headers and bodies, one JSON object a line; keep them."""
    target = Place.to(output, "jsonl")
    count = run(_export(settings, target, _filter(**filters), open_sealed=open_sealed))
    click.echo(f"{output}: {count:,} messages", err=True)


async def _export(settings: Settings, target: Place, wanted: Filter, *, open_sealed: bool) -> int:
    if target.piped:
        return await dead_letters.export(settings, wanted, Pipe(), open_sealed=open_sealed)
    with PartialFile(target) as file, _bar("export") as report:
        file.start(b"")
        count = await dead_letters.export(settings, wanted, file, report, open_sealed=open_sealed)
        file.finish(lambda path: path)
    return count


@contextlib.contextmanager
def _bar(name: str) -> Iterator[Report]:
    """A progress bar on a terminal, nothing in a pipe."""
    console = Console(stderr=True)
    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=console, disable=not console.is_terminal, transient=True
    ) as progress:
        task = progress.add_task(name, total=None)
        yield lambda looked, total: progress.update(task, completed=looked, total=total)
