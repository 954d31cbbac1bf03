"""Options that are settings: `--flag` beats `LMAAS_X` beats the TOML file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def setting(name: str, flag: str | None = None, *, help: str, **kwargs: Any) -> Callable[[F], F]:  # noqa: A002
    """An option for the field `name` of Settings.

    Click only shows the environment variable; `Settings.load` reads it, with the TOML file.
    """
    flag = flag or "--" + name.replace("_", "-")
    return click.option(
        flag,
        name,
        default=None,
        show_default=False,
        envvar=f"LMAAS_{name.upper()}",
        show_envvar=True,
        help=help,
        **kwargs,
    )


def broker(function: F) -> F:
    """The options of every command that talks to a broker."""
    for option in (
        setting("queue_type", help="classic or quorum.", type=click.Choice(["classic", "quorum"])),
        setting("prefix", help="First part of every queue name."),
        setting("broker_url", "--broker", help="amqp[s]://user:password@host:port/vhost"),
    ):
        function = option(function)
    return function
