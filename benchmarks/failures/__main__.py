"""`python -m benchmarks.failures [suite|fuzz]`: break things, and count what is left."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console

from benchmarks import rig
from benchmarks.failures import fuzz, results, suite
from benchmarks.failures.faults import plan
from benchmarks.failures.poison import Poison
from benchmarks.report import Report
from lmaas.cli import logs


@click.group(invoke_without_command=True)
@click.pass_context
def main(context: click.Context) -> None:
    """Break things, and count what is left. Without a command: the suite."""
    logs.configure()
    if context.invoked_subcommand is None:
        context.invoke(suite_command)


@main.command("suite")
@click.option("--items", type=click.IntRange(min=1_000), default=200_000, show_default=True)
@click.option("--faults", type=click.IntRange(min=0), default=20, show_default=True)
@click.option("--poison", type=click.IntRange(min=0), default=2, show_default=True,
              help="Rows of each kind of poison.")  # fmt: skip
@click.option("--kind", "kinds", type=click.Choice([kind.name for kind in Poison]), multiple=True,
              help="Poison of these kinds only.")  # fmt: skip
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--json", "target", type=click.Path(path_type=Path), help="Write the report there.")
@click.option("--page", type=click.Path(path_type=Path), help="Write it as Markdown there.")
def suite_command(
    items: int,
    faults: int,
    poison: int,
    kinds: tuple[str, ...],
    seed: int,
    target: Path | None,
    page: Path | None,
) -> None:
    """A job of reviews, calmly and then under faults at random moments."""
    texts = rig.reviews()
    what = suite.Plan(
        items=items,
        seed=seed,
        faults=plan(seed, faults),
        poison=poison,
        kinds=tuple(Poison[name] for name in kinds) or tuple(Poison),
    )
    console = Console()
    console.print(f"seed {seed}", style="dim")

    async def measure() -> Report:
        outcome = await suite.measure(
            texts, what, lambda line: console.print(line, style="dim", highlight=False)
        )
        return results.report(outcome)

    _finish(measure(), target, page)


@main.command("fuzz")
@click.option("--messages", type=click.IntRange(min=100), default=100_000, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--json", "target", type=click.Path(path_type=Path), help="Write the report there.")
@click.option("--page", type=click.Path(path_type=Path), help="Write it as Markdown there.")
def fuzz_command(messages: int, seed: int, target: Path | None, page: Path | None) -> None:
    """Malformed messages against a live worker."""

    async def measure() -> Report:
        async with rig.broker() as settings:
            return fuzz.report(await fuzz.fuzz(settings, messages, seed), seed)

    _finish(measure(), target, page)


def _finish(measuring: Coroutine[Any, Any, Report], target: Path | None, page: Path | None) -> None:
    """Print, write, and exit with 1 when a goal was missed."""
    report = asyncio.run(measuring)
    Console().print(*report.shown())
    if target:
        target.write_bytes(msgspec.json.format(msgspec.json.encode([report]), indent=2) + b"\n")
    if page:
        page.write_text(report.markdown(page.stem))
        _draw(report, page.with_suffix(""))
    sys.exit(not all(figure.met for figure in report.figures))


def _draw(report: Report, folder: Path) -> None:
    from benchmarks import plots  # half a second to import

    for file, plot in report.pictures().items():
        folder.mkdir(exist_ok=True)
        plots.draw(plot, folder / file)


if __name__ == "__main__":
    main()
