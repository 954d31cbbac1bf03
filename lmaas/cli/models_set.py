"""`lmaas models set`: what may be changed of a version that is there."""

from __future__ import annotations

import uuid
from pathlib import Path

import click
import msgspec

from lmaas.broker_config.errors import DataError, OptionError
from lmaas.broker_config.messages import UNSURE
from lmaas.broker_config.settings import Settings
from lmaas.workers.manifest import THRESHOLD, Manifest
from lmaas.workers.repository import MANIFEST, ModelVersion, opened, read_manifest


@click.command("set")
@click.argument("model")
@click.argument("version", required=False)
@click.option(
    "--min-score",
    type=click.FloatRange(0, 1),
    required=True,
    help="What has a lower score gets the label `unsure`; 0: nothing. Where an item may have "
    "several labels, the score that they need; 0: 0.5.",
)
@click.pass_obj
def set_(settings: Settings, model: str, version: str | None, min_score: float) -> None:
    """Change what VERSION of MODEL, or the one that answers, says when it is not sure.

    Workers that run do so within seconds. What a threshold costs is in the version's
    evaluation.html.
    """
    found = opened(settings).load(model, version, _found)
    manifest = read_manifest(found.path)  # as it is there, whatever its folder is called
    if min_score and UNSURE in manifest.labels and not manifest.multi_label:
        raise OptionError(
            f"{model} has a label {UNSURE!r} of its own, which is what items below --min-score "
            "get; train it with another name for that label"
        )
    _write(found.path, msgspec.structs.replace(manifest, min_score=min_score))
    if manifest.multi_label:
        told = f"an item gets the labels that have a score of {min_score or THRESHOLD:g}"
    elif min_score:
        told = f"below {min_score:g} the label is {UNSURE!r}"
    else:
        told = "every item gets a label"
    click.echo(f"{model} {found.path.name}: {told}, in workers that run within seconds")


def _found(version: ModelVersion) -> ModelVersion:
    return version


def _write(folder: Path, manifest: Manifest) -> None:
    """A worker that looks meanwhile sees the old manifest or the new one. Raises DataError."""
    fresh = folder / f".{MANIFEST}-{uuid.uuid4().hex}"
    try:
        fresh.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
        fresh.replace(folder / MANIFEST)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise DataError(
            f"{folder}: {error.strerror}; copy the version into your own folder first "
            "(`lmaas models import FOLDER`)"
        ) from error
