"""`lmaas models`, and its command show: what there is, and what is known of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lmaas.broker_config.errors import ModelDamaged
from lmaas.broker_config.settings import Settings
from lmaas.cli.models_tried import tried
from lmaas.producer.tables.quoting import clipped, counted
from lmaas.workers.manifest import Manifest
from lmaas.workers.model_version import read_manifest
from lmaas.workers.repository import Repository, opened

#: What nobody reads line by line: the picture of the evaluation shows it.
_FOR_MACHINES: Final = {"confusion", "reliability"}
#: Labels that are listed.
_LISTED: Final = 20


def list_all(repository: Repository) -> None:
    """A table a folder, and why workers leave out what they leave out."""
    console = Console(highlight=False, soft_wrap=True)
    rows: dict[Path, list[_Row]] = {root: [] for root in repository.folders}
    for model in repository.models():
        for row in _rows(repository, model):
            rows[row.path.parents[1]].append(row)
    for root, those in rows.items():
        console.print(escape(str(root)))
        table = Table("model", "version", "state", "architecture", "labels", "accuracy", "made")
        for row in those:
            table.add_row(*map(escape, row.columns))
        console.print(table if those else "  no models", soft_wrap=False)
        for row in those:
            if row.problem:
                console.print(escape(f"  {row.columns[0]} {row.columns[1]}: {row.problem}"))


@dataclass(frozen=True, slots=True)
class _Row:
    """A version in the list."""

    path: Path
    columns: tuple[str, ...]
    #: Why no worker serves it, as far as it was looked at.
    problem: str | None = None


def _rows(repository: Repository, model: str) -> list[_Row]:
    """Its versions, oldest first. `used` is what answers when no version is asked for, `active` the
    same when somebody has activated it.

    They are tried as a worker tries them, until one can be served. Of the others only the manifest
    is read: to hash all that was ever trained would take its time.
    """
    paths, active = repository.paths(model), repository.active(model)
    problems: dict[Path, str] = {}
    used = None
    for path in repository.in_turn(model):
        try:
            tried(repository.read(path, model))
        except ModelDamaged as error:
            problems[path] = str(error)
        else:
            used = path
            break
    rows: list[_Row] = []
    seen: set[str] = set()
    for path in paths:
        try:
            columns = _columns(read_manifest(path))
        except ModelDamaged as error:
            columns = ()
            problems[path] = str(error)
        if path in problems:
            state = "refused"
        elif path == used:
            state = "active" if path.name == active else "used"
        else:
            state = "hidden" if path.name in seen else ""  # by the same number in a folder before
        if path not in problems:
            seen.add(path.name)
        rows.append(_Row(path, (model, path.name, state, *columns), problems.get(path)))
    return rows[::-1]


def _columns(manifest: Manifest) -> tuple[str, ...]:
    # Of several labels an item: the share of those that have exactly the right ones.
    accuracy = manifest.metrics.get("accuracy")
    return (
        manifest.architecture,
        str(len(manifest.labels)),
        f"{accuracy:.4f}" if isinstance(accuracy, float | int) else "",
        manifest.created[:10],
    )


@click.command()
@click.argument("model")
@click.argument("version", required=False)
@click.option("--json", "as_json", is_flag=True, help="All of its manifest, as a JSON object.")
@click.pass_obj
def show(settings: Settings, model: str, version: str | None, as_json: bool) -> None:
    """Print where MODEL is, and what is known of it: of VERSION, or of the one that answers."""
    repository = opened(settings)
    found = repository.find(model, version) if version else repository.load(model, None, tried)
    shown = {"path": str(found.path), **msgspec.to_builtins(found.manifest)}
    if as_json:
        click.echo(msgspec.json.encode(shown))
        return
    lines = list(_described("", shown))
    width = max(len(name) for name, _ in lines)
    for name, words in lines:
        click.echo(f"{name:{width}}  {words}")


def _described(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """A line a fact: its name, with dots where it is inside another, and the fact in words."""
    last = name.rpartition(".")[2]
    if last in _FOR_MACHINES:
        yield name, f"{counted(len(value), 'row')}; --json has them"
    elif isinstance(value, dict) and (not name or any(map(_is_nested, value.values()))):
        for key, inner in value.items():
            yield from _described(f"{name}.{clipped(key)}" if name else key, inner)
    elif isinstance(value, dict):
        facts = value if last == "files" else (f"{k} {_words(v)}" for k, v in value.items())
        yield name, ", ".join(facts)
    elif isinstance(value, list) and any(map(_is_nested, value)):
        for inner in value:
            yield name, ", ".join(f"{key} {_words(one)}" for key, one in inner.items())
    elif isinstance(value, list):
        more = ", …" if len(value) > _LISTED else ""
        yield name, f"{len(value)}: {', '.join(map(_words, value[:_LISTED]))}{more}"
    else:
        yield name, _words(value)


def _is_nested(value: object) -> bool:
    return isinstance(value, dict | list)


def _words(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else clipped(str(value))
