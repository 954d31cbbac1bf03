"""`lmaas models`: list, show, import and verify what is in the repository."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from lmaas.broker_config.errors import DataError, ModelDamaged, ModelError
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import is_model_name
from lmaas.cli import options
from lmaas.cli.exits import Exit
from lmaas.workers.repository import ModelVersion, Repository, read_version, verify


@click.group(invoke_without_command=True)
@options.setting("models", help="Folder of the model repository.")
@click.pass_context
def command(context: click.Context, /, **arguments: Any) -> None:
    """List the models of the repository; or show, import or verify one."""
    settings = Settings.load(**arguments)
    context.obj = Repository(settings.models)
    if context.invoked_subcommand is None:
        _list(context.obj)


def _list(repository: Repository) -> None:
    table = Table("model", "version", "architecture", "labels", "test accuracy", "made")
    for model in repository.models():
        for version in repository.versions(model):
            table.add_row(model, version, *_row(repository, model, version))
    Console().print(table if table.row_count else f"no models in {repository.root}")


def _row(repository: Repository, model: str, version: str) -> tuple[str, ...]:
    try:
        manifest = repository.manifest(model, version)
    except ModelDamaged:
        return ("damaged", "", "", "")
    accuracy = manifest.metrics.get("accuracy")
    return (
        manifest.architecture,
        str(len(manifest.labels)),
        "" if accuracy is None else f"{accuracy:.4f}",
        manifest.created[:10],
    )


@command.command()
@click.argument("model")
@click.argument("version", required=False)
@click.pass_obj
def show(repository: Repository, model: str, version: str | None) -> None:
    """Print the manifest of MODEL (the newest VERSION when none is given) as JSON."""
    manifest = msgspec.json.encode(repository.manifest(model, version))
    click.echo(msgspec.json.format(manifest, indent=2))


@command.command("verify")
@click.argument("model", required=False)
@click.pass_context
def verify_(context: click.Context, model: str | None) -> None:
    """Compare every file of every version (of MODEL) with its checksum."""
    repository: Repository = context.obj
    damaged = 0
    for name in [model] if model else repository.models():
        for version in repository.versions(name) or [""]:
            try:
                repository.find(name, version or None)
                click.echo(f"{name} {version}: ok")
            except ModelError as error:
                damaged += 1
                click.echo(f"{name} {version}: {error}", err=True)
    context.exit(Exit.FAILED if damaged else Exit.OK)


@command.command("import")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--name", help="Name in this repository.  [the manifest's]")
@click.pass_obj
def import_(repository: Repository, folder: Path, name: str | None) -> None:
    """Copy a verified model version from FOLDER, as the next version here."""
    version = read_version(folder)
    verify(version)
    name = name or version.manifest.name
    if not is_model_name(name):
        raise DataError(f"{name!r} cannot be a model's name; give a plain word with --name")
    target = _add(repository, version, name)
    click.echo(target)


def _add(repository: Repository, version: ModelVersion, name: str) -> Path:
    """Copied beside its place and then renamed, so that no worker sees half of it."""
    parent = repository.root / name
    number = int((repository.versions(name) or ["0"])[-1]) + 1
    manifest = msgspec.structs.replace(version.manifest, name=name, version=str(number))
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent, prefix=".import-") as folder:
            staging = Path(folder) / "version"
            shutil.copytree(version.path, staging)
            text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
            (staging / "manifest.json").write_bytes(text)
            return staging.rename(parent / str(number))
    except OSError as error:
        raise DataError(f"{parent}: cannot import there: {error.strerror}") from error
