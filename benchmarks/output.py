"""Where reports go: tables in the terminal, one JSON, one page of Markdown with its pictures.

Whatever measures or breaks things writes through here, so that all of it can be read again:

    write([report], Path("found.json"), Path("found.md"))  # and pictures in the folder found/
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import click
import msgspec
from rich.console import Console

from benchmarks.report import Report


def kept(command: Callable[..., None]) -> Callable[..., None]:
    """A command with the options `--json` (its argument `target`) and `--page`."""
    for name, argument, words in (
        ("--page", "page", "Write reports as Markdown there."),
        ("--json", "target", "Write reports there."),
    ):
        command = click.option(name, argument, type=click.Path(path_type=Path), help=words)(command)
    return command


def show(report: Report) -> None:
    """Print its tables."""
    Console().print(*report.shown())


def read(path: Path) -> list[Report]:
    """What `write` has written. Raises OSError, and ClickException for anything else."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[Report])
    except msgspec.DecodeError as error:
        raise click.ClickException(f"{path}: not reports of this version: {error}") from error


def write(
    reports: Sequence[Report], target: Path | None, page: Path | None, head: str = ""
) -> None:
    """The JSON, the page under its `head`, and the pictures.

    Pictures go to a folder beside the page, or beside the JSON, and of the same name.
    """
    for path in filter(None, (target, page)):
        path.parent.mkdir(parents=True, exist_ok=True)
    if target:
        target.write_bytes(msgspec.json.format(msgspec.json.encode(reports), indent=2) + b"\n")
    if page:
        page.write_text(head + "\n".join(report.markdown(page.stem) for report in reports))
    if beside := page or target:
        _draw(reports, beside.with_suffix(""))


def _draw(reports: Sequence[Report], folder: Path) -> None:
    from benchmarks import plots  # half a second to import

    for report in reports:
        for file, plot in report.pictures().items():
            folder.mkdir(exist_ok=True)
            plots.draw(plot, folder / file)
