"""`python -m benchmarks.failures COMMAND`: break things, and count.

What is left is compared with what there would be otherwise; who misses a goal exits with 1.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmarks import output, rig
from benchmarks.failures import cluster, fuzz, hostile, outcome, soak, suite, waiting
from benchmarks.failures.faults import plan
from benchmarks.failures.job import numbered
from benchmarks.failures.poison import Poison
from benchmarks.report import Report
from lmaas.service import logs


@click.group(invoke_without_command=True)
@click.pass_context
def main(context: click.Context) -> None:
    """Break things, and count what is left. Without a command: the suite."""
    logs.configure(logging.ERROR)  # that connections are lost is what is wanted here
    if context.invoked_subcommand is None:
        context.invoke(suite_command)


@main.command("suite")
@click.option("--items", type=click.IntRange(min=1_000), default=200_000, show_default=True)
@click.option("--faults", type=click.IntRange(min=0), default=20, show_default=True)
@click.option("--poison", type=click.IntRange(min=0), default=1, show_default=True,
              help="Rows of each kind of poison.")  # fmt: skip
@click.option("--kind", "kinds", type=click.Choice([kind.name for kind in Poison]), multiple=True,
              help="Poison of these kinds only.")  # fmt: skip
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--logs", type=click.Path(path_type=Path),
              help="Keep what all processes say in this folder.")  # fmt: skip
@output.kept
def suite_command(
    items: int,
    faults: int,
    poison: int,
    kinds: tuple[str, ...],
    seed: int,
    logs: Path | None,
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
    _tell(f"seed {seed}")

    async def measure() -> Report:
        return outcome.report(await suite.measure(texts, what, _tell, logs))

    _finish(measure(), target, page)


def _seeds(_: click.Context, __: click.Parameter, text: str) -> list[int]:
    """The numbers of "1-3,7"."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        last = last if dash else first
        if not (first.isdecimal() and last.isdecimal()):
            raise click.BadParameter(f"{part!r} is neither a number nor a range as 1-20")
        found += range(int(first), int(last) + 1)
    return found


@main.command("soak")
@click.option("--seeds", default="1-20", show_default=True, callback=_seeds,
              help="Numbers and ranges, separated by commas.")  # fmt: skip
@click.option("--items", type=click.IntRange(min=1_000), default=200_000, show_default=True)
@click.option("--faults", type=click.IntRange(min=0), default=20, show_default=True)
@click.option("--limit", type=click.FloatRange(min=1), default=soak.LIMIT, show_default=True,
              help="Seconds for each run.")  # fmt: skip
@click.option("--logs", type=click.Path(path_type=Path),
              help="The folder for the logs of what failed; else a temporary one.")  # fmt: skip
@output.kept
def soak_command(
    seeds: list[int],
    items: int,
    faults: int,
    limit: float,
    logs: Path | None,
    target: Path | None,
    page: Path | None,
) -> None:
    """The suite with one seed after the other."""
    rig.imdb()  # what is missing is told before the first seed, and not in the log of each
    folder = logs or Path(tempfile.mkdtemp(prefix="lmaas-soak-"))
    arguments = ["--items", str(items), "--faults", str(faults)]

    async def measure() -> Report:
        return soak.report(await soak.measure(seeds, arguments, folder, limit, _tell), folder)

    _finish(measure(), target, page)


@main.command("cluster")
@click.option("--kills", type=click.IntRange(min=1), default=12, show_default=True,
              help="In all; of a follower and of the leader, in turn.")  # fmt: skip
@click.option("--texts", "count", type=click.IntRange(min=1_000), default=5_000, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@output.kept
def cluster_command(
    kills: int, count: int, seed: int, target: Path | None, page: Path | None
) -> None:
    """A cluster whose nodes are killed while texts are classified."""
    texts = list(numbered(rig.reviews(), count))

    async def measure() -> Report:
        return cluster.report(await cluster.measure(texts, kills, seed, _tell))

    _finish(measure(), target, page)


@main.command("waiting")
@click.option("--items", type=click.IntRange(min=1_000), default=100_000, show_default=True)
@output.kept
def waiting_command(items: int, target: Path | None, page: Path | None) -> None:
    """A job that waits in a broker which is restarted twice."""
    texts = rig.reviews()

    async def measure() -> Report:
        return waiting.report(await waiting.measure(texts, items, _tell))

    _finish(measure(), target, page)


@main.command("fuzz")
@click.option("--messages", type=click.IntRange(min=1_000), default=100_000, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@output.kept
def fuzz_command(messages: int, seed: int, target: Path | None, page: Path | None) -> None:
    """Malformed messages against a live worker."""

    async def measure() -> Report:
        async with rig.broker() as settings:
            return fuzz.report(await fuzz.fuzz(settings, messages, seed), seed)

    _finish(measure(), target, page)


@main.command("hostile")
@output.kept
def hostile_command(target: Path | None, page: Path | None) -> None:
    """Messages that mean harm, one of each kind, beside a good client; within a minute."""

    async def measure() -> Report:
        async with rig.broker() as settings:
            return hostile.report(await hostile.measure(settings))

    _finish(measure(), target, page)


def _tell(line: str) -> None:
    """How far it is."""
    Console().print(line, style="dim", highlight=False)


def _finish(measuring: Coroutine[Any, Any, Report], target: Path | None, page: Path | None) -> None:
    """Print, write, and exit with 1 when a goal was missed."""
    report = asyncio.run(measuring)
    output.show(report)
    output.write([report], target, page)
    sys.exit(not report.met)


if __name__ == "__main__":
    main()
