"""`lmaas models activate`: which version answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lmaas.broker_config.errors import OptionError
from lmaas.broker_config.settings import Settings
from lmaas.cli import options
from lmaas.cli.models_sign import activation, sign_version
from lmaas.cli.models_tried import tried
from lmaas.workers.repository import activate, opened

if TYPE_CHECKING:
    from lmaas.workers.signing import SigningKey


@click.command("activate")
@click.argument("model")
@click.argument("version", required=False)
@click.option("--newest", is_flag=True, help="The newest version answers again.")
@options.sign
@click.pass_obj
def activate_(
    settings: Settings, model: str, version: str | None, newest: bool, sign: SigningKey | None
) -> None:
    """Let VERSION of MODEL answer whoever asks for no other; workers that run switch to it.

    Workers with model_keys believe it only with --sign.
    """
    if newest == (version is not None):
        raise click.UsageError("give VERSION, or --newest")
    if settings.model_keys and not sign:
        raise OptionError("workers with model_keys would not believe it; give --sign FILE, too")
    repository = opened(settings)
    if version is not None:
        path = repository.load(model, version, tried).path
        statement = activation(path, sign, settings) if sign else None
        activate(settings.new_models, model, version, statement)
    else:
        path = repository.find(model, *repository.versions(model)[-1:]).path
        if sign:  # anew, so that it is later than what says that another one answers
            sign_version(path, sign, settings)
        for folder in repository.folders:
            activate(folder, model, None)
    answers = repository.load(model, None, tried).manifest.version
    click.echo(f"{model}: version {answers} answers, in workers that run within seconds")
