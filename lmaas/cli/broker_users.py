"""`lmaas broker users`: users with the rights of their roles, and no other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from lmaas.broker_config.definitions import definitions, policies
from lmaas.broker_config.importing import by_rabbitmqctl, over_http
from lmaas.broker_config.passwords import kept
from lmaas.broker_config.rights import User, parsed, user_definitions, users
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import topology
from lmaas.cli import options

F = TypeVar("F", bound=Callable[..., Any])

_FILE = click.Path(dir_okay=False, path_type=Path)


def passwords_file(*, required: bool) -> Callable[[F], F]:
    """The option that names the file with passwords."""
    return click.option(
        "--passwords-file",
        "passwords",
        type=_FILE,
        required=required,
        help="JSON with the passwords of the users; what is missing is made up and added.",
    )


user_option = click.option(
    "--user",
    "others",
    multiple=True,
    metavar="NAME=ROLE[:MODEL,…]",
    help="One user more, as `shop=producer`, or `eye=worker:fashion` for a worker of that model "
    "alone; repeat for more.",
)
vhost_option = click.option("--vhost", default="/", help="Virtual host of all of it.")


def of_users(
    settings: Settings, models: tuple[str, ...], others: tuple[str, ...], file: Path, vhost: str
) -> dict[str, Any]:
    """RabbitMQ's definitions of all users. Raises SettingsError."""
    wanted: list[User] = users(models, map(parsed, others))
    passwords = kept(file, [user.name for user in wanted])
    return user_definitions(settings.names, wanted, passwords, vhost)


@click.command("users")
@options.lanes_of("What the user `worker` serves.  [any]")
@user_option
@passwords_file(required=True)
@vhost_option
@click.option(
    "--management",
    envvar="LMAAS_MANAGEMENT_URL",
    metavar="URL",
    help="Of the broker's management, with an administrator: http://user:password@host:15672. "
    "Without it `rabbitmqctl` is run.  [env var: LMAAS_MANAGEMENT_URL]",
)
@options.setting("queue_type", help="classic or quorum.", type=click.Choice(["classic", "quorum"]))
@options.setting("prefix", help="First part of every queue name.")
def command(
    models: tuple[str, ...],
    others: tuple[str, ...],
    passwords: Path,
    vhost: str,
    management: str | None,
    **arguments: Any,
) -> None:
    """Make the users operator, worker, producer, gateway and monitor on the broker.

    Each may do what its role needs, and nothing else. Users that are there get these rights and the
    passwords of the file. What workers and clients share is made too, as they may not.
    """
    settings = Settings.load(**arguments)
    wanted = topology(settings.names, settings.queue_type, models, settings.retry_delays)
    together = definitions(wanted, vhost) | policies(settings, vhost)
    del together["vhosts"]  # which may have settings of its own
    together |= of_users(settings, models, others, passwords, vhost)
    if management:
        over_http(management, together)
    else:
        by_rabbitmqctl(together)
    made = ", ".join(user["name"] for user in together["users"])
    click.echo(f"users {made}, with the passwords in {passwords}")
