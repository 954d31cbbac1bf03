"""What is said of a new version of a model."""

from __future__ import annotations

from pathlib import Path

import click

from lmaas.broker_config.settings import Settings
from lmaas.workers.repository import Repository


def announce(path: Path, settings: Settings) -> None:
    """Say where a new version is, and when it answers."""
    click.echo(path)
    model, version = path.parent.name, path.name
    repository = Repository(*settings.model_folders)
    if (active := repository.active(model)) not in {None, version}:
        words = f"version {active} stays active; see `lmaas models activate {model}`"
    elif repository.versions(model) == [version]:
        words = f"workers that run know no {model} yet: restart them to serve it"
    else:
        words = f"workers that serve {model} from these folders switch to it within seconds"
    click.echo(words, err=True)
