"""`lmaas models verify`: whether every version is as it was made."""

from __future__ import annotations

from pathlib import Path

import click

from lmaas.broker_config.errors import ModelDamaged, ModelError, ModelNotFound
from lmaas.cli import models_tried
from lmaas.cli.exits import Exit
from lmaas.cli.models_sign import SIGNATURE
from lmaas.producer.tables.quoting import counted
from lmaas.workers.marks import moment
from lmaas.workers.model_version import ModelVersion
from lmaas.workers.repository import Repository, opened


@click.command("verify")
@click.argument("model", required=False)
@click.pass_context
def verify_(context: click.Context, model: str | None) -> None:
    """Compare every file of every version (of MODEL) with its checksum, and with model_keys its
    signature; try the model, and compare the answers that were kept when it was imported.

    It ends with 1 when something is wrong.
    """
    repository = opened(context.obj)
    if model and not repository.versions(model):
        raise ModelNotFound(f"no model {model!r} in {repository}")
    damaged = 0
    for name in [model] if model else repository.models():
        for path in reversed(repository.paths(name)):
            try:
                how = _verified(repository, path, name)
            except ModelError as error:
                damaged += 1
                click.echo(f"{name} {path.name}: {error}", err=True)
            else:
                click.echo(f"{name} {path.name}: {how} ({path})")
    context.exit(Exit.FAILED if damaged else Exit.OK)


def _verified(repository: Repository, path: Path, model: str) -> str:
    """What was found to be well of the version in a folder. Raises ModelDamaged."""
    version = repository.read(path, model)
    return f"{_ran(version, path)}{_by(version, path)}"


def _by(version: ModelVersion, path: Path) -> str:
    """Who signed it."""
    if version.signed:
        return f", signed with {version.signed.key} at {moment(version.signed.time)}"
    is_signed = (path / SIGNATURE).exists()
    return ", signed, which model_keys is not set to check" if is_signed else ""


def _ran(version: ModelVersion, path: Path) -> str:
    """What was found to be well of the model in it. Raises ModelDamaged."""
    if not models_tried.can_run():
        return "ok (checksums; without onnxruntime it was not tried)"
    from lmaas.workers.runtime import Runtime

    runtime = Runtime(version)
    try:
        differences = runtime.differences()
    except Exception as error:
        raise ModelDamaged(
            f"{path}: the answers that it keeps cannot be asked for again: {error}; import it again"
        ) from error
    if differences:
        raise ModelDamaged(
            f"{path}: {len(differences)} of {len(version.manifest.golden)} answers are not those "
            f"that it gave when it was imported: {'; '.join(differences)}"
        )
    kept = len(version.manifest.golden)
    return f"ok, {counted(kept, 'kept answer')}" if kept else "ok"
