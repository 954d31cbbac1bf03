"""`lmaas models set`: what may be changed of a version that is there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from lmaas.broker_config.errors import OptionError
from lmaas.broker_config.messages import UNSURE
from lmaas.broker_config.settings import Settings
from lmaas.cli import options
from lmaas.cli.models_sign import SIGNATURE, sign_version, unwritable
from lmaas.workers.manifest import THRESHOLD, Manifest
from lmaas.workers.model_version import MANIFEST, ModelVersion, read_manifest
from lmaas.workers.plain_files import write_whole
from lmaas.workers.repository import opened

if TYPE_CHECKING:
    from lmaas.workers.signing import SigningKey


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
@options.sign
@click.pass_obj
def set_(
    settings: Settings,
    model: str,
    version: str | None,
    min_score: float,
    sign: SigningKey | None,
) -> None:
    """Change what VERSION of MODEL, or the one that answers, says when it is not sure.

    Workers that run do so within seconds. What a threshold costs is in the version's
    evaluation.html. A signature does not fit what was changed: --sign signs it anew.
    """
    if settings.model_keys and not sign:
        raise OptionError(
            "workers with model_keys would not serve what was changed; give --sign FILE, too"
        )
    found = opened(settings).load(model, version, _found)
    manifest = read_manifest(found.path)  # as it is there, whatever its folder is called
    if min_score and UNSURE in manifest.labels and not manifest.multi_label:
        raise OptionError(
            f"{model} has a label {UNSURE!r} of its own, which is what items below --min-score "
            "get; train it with another name for that label"
        )
    _write(found.path, msgspec.structs.replace(manifest, min_score=min_score))
    _signed_anew(found.path, sign, settings)
    if manifest.multi_label:
        told = f"an item gets the labels that have a score of {min_score or THRESHOLD:g}"
    elif min_score:
        told = f"below {min_score:g} the label is {UNSURE!r}"
    else:
        told = "every item gets a label"
    click.echo(f"{model} {found.path.name}: {told}, in workers that run within seconds")


def _found(version: ModelVersion) -> ModelVersion:
    return version


def _signed_anew(folder: Path, key: SigningKey | None, settings: Settings) -> None:
    """Without a key a signature is deleted: none is left that does not fit."""
    if key:
        sign_version(folder, key, settings)
    elif (folder / SIGNATURE).exists():
        (folder / SIGNATURE).unlink()
        click.echo(
            "its signature did not fit any more, and was deleted; `lmaas models sign "
            f"{folder.parent.name} {folder.name} --key FILE` signs it anew",
            err=True,
        )


def _write(folder: Path, manifest: Manifest) -> None:
    """A worker that looks meanwhile sees the old manifest or the new one. Raises DataError."""
    content = msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
    try:
        write_whole(folder / MANIFEST, content)
    except OSError as error:
        raise unwritable(folder, error, "lmaas models import FOLDER") from error
