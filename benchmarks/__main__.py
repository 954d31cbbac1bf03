"""`python -m benchmarks [NAME ...] [--json FILE]`: run benchmarks and print what they found."""

from __future__ import annotations

import asyncio
import importlib
from pathlib import Path

import click
import msgspec
from rich.console import Console

from lmaas.cli import logs

#: In the order of a whole run; each is a module here.
NAMES = ("startup", "tokenizers", "bulk", "requests", "latency", "training")

PAGE = """\
# Benchmarks

Written by `make bench`, which takes IMDB from the folder that `LMAAS_DATASETS` names. What is
compared ran side by side in one run; ratios say more than absolute figures, which are one shared
machine's. Each module in [benchmarks/](../benchmarks) says how it measures.

"""


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(NAMES))
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write all reports there.")
@click.option("--page", type=click.Path(path_type=Path), help="Write them as Markdown there.")
def main(names: tuple[str, ...], path: Path | None, page: Path | None) -> None:
    """Run the benchmarks NAMES; all of them when none is named."""
    logs.configure()
    console = Console()
    reports = []
    for name in names or NAMES:
        report = asyncio.run(importlib.import_module(f"benchmarks.{name}").measure())
        console.print(report.table())
        reports.append(report)
    if path:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(reports), indent=2))
    if page:
        page.write_text(PAGE + "\n".join(report.markdown() for report in reports))


if __name__ == "__main__":
    main()
