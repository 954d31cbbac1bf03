"""What is said of a new version of a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lmaas.broker_config.settings import Settings
from lmaas.cli.models_sign import sign_version
from lmaas.workers.repository import Repository, trusted

if TYPE_CHECKING:
    from lmaas.workers.signing import SigningKey


def announce(path: Path, settings: Settings, key: SigningKey | None) -> None:
    """Sign a new version where there is a key, and say where it is, and when it answers."""
    model, version = path.parent.name, path.name
    if key:
        sign_version(path, key, settings)
    click.echo(path)
    repository = Repository(*settings.model_folders, trust=trusted(settings))
    if repository.trust and not key:
        words = (
            "it is not signed, so that workers with model_keys do not serve it: "
            f"`lmaas models sign {model} {version} --key FILE`"
        )
    elif (active := repository.active(model)) not in {None, version}:
        words = f"version {active} stays active; see `lmaas models activate {model}`"
    elif repository.versions(model) == [version]:
        words = f"workers that run know no {model} yet: restart them to serve it"
    else:
        words = f"workers that serve {model} from these folders switch to it within seconds"
    click.echo(words, err=True)
