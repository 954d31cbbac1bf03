"""`lmaas gateway`: HTTP in front of the queue."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import click

from lmaas.broker_config import extras
from lmaas.broker_config.errors import LmaasError
from lmaas.broker_config.redaction import Redaction
from lmaas.broker_config.settings import Settings
from lmaas.cli import gateway_keys, options
from lmaas.cli.loop import run
from lmaas.producer.gateway.settings import SECTION, GatewaySettings
from lmaas.service import logs
from lmaas.service.signals import on_signal

#: Packages that it cannot do without.
NEEDED: Final = ("aiohttp", "aiosqlite", "alembic", "cryptography", "jmespath", "sqlalchemy")


def setting(
    name: str,
    flag: str | None = None,
    *,
    help: str,  # noqa: A002
    **kwargs: Any,
) -> Callable[[options.F], options.F]:
    """An option for the field `name` of GatewaySettings."""
    return click.option(
        flag or "--" + name.replace("_", "-"),
        f"{SECTION}_{name}",
        default=None,
        show_default=False,
        envvar=f"LMAAS_{SECTION.upper()}_{name.upper()}",
        show_envvar=True,
        help=help,
        **kwargs,
    )


@click.group(invoke_without_command=True)
@options.broker
@setting("host", help="Where to listen.")
@setting("port", help="At which port; 0 for any that is free.", type=int)
@setting("access", help="Whether callers need a key.", type=click.Choice(["keys", "open"]))
@setting("folder", help="Where jobs and files are kept.", type=click.Path())
@click.pass_context
def command(context: click.Context, /, **arguments: Any) -> None:
    """Serve HTTP until stopped: calls, jobs, webhooks.

    The first Ctrl-C or SIGTERM ends it once the requests that have begun are answered.
    """
    prefix = f"{SECTION}_"
    own = {
        name.removeprefix(prefix): value
        for name, value in arguments.items()
        if name.startswith(prefix)
    }
    engine = {name: value for name, value in arguments.items() if not name.startswith(prefix)}
    context.obj = own
    if context.invoked_subcommand is not None:
        return
    if problem := extras.lacking(*NEEDED):
        raise LmaasError(problem)
    settings, broker = GatewaySettings.load(**own), Settings.load("gateway", **engine)
    logs.configure(logging.INFO, broker.log_format, Redaction(broker))
    run(serve(settings, broker, Settings.load("operator", **engine)))


command.add_command(gateway_keys.command, "keys")


async def serve(settings: GatewaySettings, engine: Settings, operator: Settings) -> None:
    """Until a signal comes. Raises SettingsError when nobody can listen there."""
    stopped = asyncio.Event()
    on_signal(stopped.set, stopped.set)
    async with serving(settings, engine, operator) as url:
        click.echo(told(settings, url))
        await stopped.wait()


@contextlib.asynccontextmanager
async def serving(
    settings: GatewaySettings, engine: Settings, operator: Settings
) -> AsyncIterator[str]:
    """As `lmaas.producer.gateway.serving`, which other commands do without."""
    from lmaas.producer.gateway.serving import serving as listening

    async with listening(settings, engine, operator) as url:
        # What is there for good is many objects, over which a full collection takes 60 ms.
        gc.collect()
        gc.freeze()
        yield url


def told(settings: GatewaySettings, url: str) -> str:
    """The line that says where it is, and who may use it."""
    if settings.access == "keys":
        return f"gateway: {url}, for callers with a key"
    return f"gateway: {url}, without a key for every program of this machine"
