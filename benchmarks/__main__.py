"""`python -m benchmarks [NAME ...] [--json FILE] [--page FILE]`: measure, print, and keep.

The page and its pictures are made of the reports alone:

    python -m benchmarks --from docs/benchmarks.json --page docs/benchmarks.md
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from rich.console import Console

from benchmarks import output, rig
from benchmarks.report import Report
from lmaas.service import logs

#: In the order of a whole run; each is a module here.
NAMES = (
    "startup",
    "tokenizers",
    "batching",
    "bulk",
    "encoder",
    "pictures",
    "requests",
    "sealing",
    "tls",
    "http",
    "upload",
    "callbacks",
    "known_jobs",
    "overload",
    "fair_share",
    "callers",
    "preemption",
    "switching",
    "ordering",
    "balance",
    "backlog",
    "training",
)

PAGE = """\
# Benchmarks

Written by `make bench`, which takes IMDB from the folder that `LMAAS_DATASETS` names. What is
compared ran side by side in one run; ratios say more than absolute figures, which are one shared
machine's. Each module in [benchmarks/](../benchmarks) says how it measures.

"""


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(NAMES))
@click.option("--from", "source", type=click.Path(path_type=Path, exists=True),
              help="Measure nothing: take the reports of an earlier --json.")  # fmt: skip
@output.kept
def main(
    names: tuple[str, ...], source: Path | None, target: Path | None, page: Path | None
) -> None:
    """Run the benchmarks NAMES; all of them when none is named.

    Pictures go to a folder beside the page, or beside the JSON, and of the same name. A benchmark
    that fails is told, and the exit code is then 1; what the others found is written.
    """
    logs.configure()
    if source:
        reports = [r for r in output.read(source) if not names or r.benchmark in names]
    else:
        rig.imdb()  # missing data is told now, not after minutes
        reports = []
        try:
            reports.extend(_measured(names or NAMES))
        finally:  # Ctrl-C keeps what there is, too
            output.write(reports, target, page, PAGE)
        sys.exit(len(reports) < len(names or NAMES))
    output.write(reports, target, page, PAGE)


def _measured(names: Sequence[str]) -> Iterator[Report]:
    """The reports of those that end well; all are printed."""
    console = Console()
    for name in names:
        began = time.monotonic()
        try:
            report = asyncio.run(importlib.import_module(f"benchmarks.{name}").measure())
        except click.ClickException as error:
            console.print(f"{name} failed: {error.message}", style="red", markup=False)
        except Exception:
            console.print(f"{name} failed:", style="red")
            console.print_exception()
        else:
            output.show(report)
            yield report
        console.print(f"{name}: {time.monotonic() - began:.0f} s", style="dim")


if __name__ == "__main__":
    main()
