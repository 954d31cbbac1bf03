"""`lmaas models`: its commands have a module each."""

from __future__ import annotations

from typing import Any

import click

from lmaas.broker_config.settings import Settings
from lmaas.cli import options
from lmaas.cli.models_activate import activate_
from lmaas.cli.models_create import create_
from lmaas.cli.models_import import import_
from lmaas.cli.models_list import list_all, show
from lmaas.cli.models_set import set_
from lmaas.cli.models_sign import keys, sign_
from lmaas.cli.models_try import try_
from lmaas.cli.models_verify import verify_
from lmaas.workers.repository import opened


@click.group(invoke_without_command=True)
@options.models
@click.pass_context
def command(context: click.Context, /, **arguments: Any) -> None:
    """List the models of the repository; or show, import, verify or activate one.

    In the list, versions are tried as a worker tries them, until one can be served: that is the one
    that answers. `verify` tries all.
    """
    context.obj = Settings.load(**arguments)
    if context.invoked_subcommand is None:
        list_all(opened(context.obj))


for _command in (show, verify_, activate_, create_, import_, try_, set_, keys, sign_):
    command.add_command(_command)
