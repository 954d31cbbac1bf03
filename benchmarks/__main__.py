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
import msgspec
from rich.console import Console

from benchmarks import rig
from benchmarks.report import Report
from lmaas.service import logs

#: In the order of a whole run; each is a module here.
NAMES = (
    "startup",
    "tokenizers",
    "batching",
    "bulk",
    "requests",
    "latency",
    "callers",
    "preemption",
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
@click.option("--json", "target", type=click.Path(path_type=Path), help="Write all reports there.")
@click.option("--page", type=click.Path(path_type=Path), help="Write them as Markdown there.")
def main(
    names: tuple[str, ...], source: Path | None, target: Path | None, page: Path | None
) -> None:
    """Run the benchmarks NAMES; all of them when none is named.

    Pictures go to a folder beside the page, or beside the JSON, and of the same name. A benchmark
    that fails is told, and the exit code is then 1; what the others found is written.
    """
    logs.configure()
    for path in filter(None, (target, page)):
        path.parent.mkdir(parents=True, exist_ok=True)
    if source:
        reports = [r for r in _read(source) if not names or r.benchmark in names]
    else:
        rig.imdb()  # missing data is told now, not after minutes
        reports = []
        try:
            reports.extend(_measured(names or NAMES))
        finally:  # Ctrl-C keeps what there is, too
            _write(reports, target, page)
        sys.exit(len(reports) < len(names or NAMES))
    _write(reports, target, page)


def _read(path: Path) -> list[Report]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[Report])
    except msgspec.DecodeError as error:
        raise click.ClickException(f"{path}: not reports of this version: {error}") from error


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
            console.print(*report.shown())
            yield report
        console.print(f"{name}: {time.monotonic() - began:.0f} s", style="dim")


def _write(reports: Sequence[Report], target: Path | None, page: Path | None) -> None:
    if target:
        target.write_bytes(msgspec.json.format(msgspec.json.encode(reports), indent=2) + b"\n")
    beside = page or target
    if beside is None:
        return
    folder = beside.with_suffix("")
    _draw(reports, folder)
    if page:
        sections = (report.markdown(folder.name) for report in reports)
        page.write_text(PAGE + "\n".join(sections))


def _draw(reports: Sequence[Report], folder: Path) -> None:
    from benchmarks import plots  # half a second to import

    for report in reports:
        for file, plot in report.pictures().items():
            folder.mkdir(exist_ok=True)
            plots.draw(plot, folder / file)


if __name__ == "__main__":
    main()
