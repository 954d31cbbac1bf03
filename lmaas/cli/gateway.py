"""`lmaas gateway`: HTTP in front of the queue."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Any

import click

from lmaas.broker_config import extras
from lmaas.broker_config.errors import LmaasError, SettingsError
from lmaas.broker_config.settings import Settings
from lmaas.cli import options
from lmaas.cli.loop import run
from lmaas.producer.gateway.settings import SECTION, GatewaySettings
from lmaas.service import logs
from lmaas.service.signals import on_signal


def _setting(name: str, *, help: str, **kwargs: Any) -> Callable[[options.F], options.F]:  # noqa: A002
    """An option for the field `name` of GatewaySettings."""
    return click.option(
        "--" + name.replace("_", "-"),
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
@_setting("host", help="Where to listen.")
@_setting("port", help="At which port; 0 for any that is free.", type=int)
@_setting("access", help="Whether callers need a key.", type=click.Choice(["keys", "open"]))
@_setting("folder", help="Where jobs and files are kept.", type=click.Path())
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
    if problem := extras.lacking("aiohttp", "sqlalchemy", "aiosqlite", "alembic"):
        raise LmaasError(problem)
    settings, broker = GatewaySettings.load(**own), Settings.load(**engine)
    logs.configure(logging.INFO, broker.log_format)
    run(serve(settings, broker))


async def serve(settings: GatewaySettings, engine: Settings) -> None:
    """Until a signal comes. Raises SettingsError when nobody can listen there."""
    from aiohttp import web

    from lmaas.producer.gateway.app import create_app

    stopped = asyncio.Event()
    on_signal(stopped.set, stopped.set)
    runner = web.AppRunner(create_app(settings, engine), access_log=None, handler_cancellation=True)
    await runner.setup()
    try:
        await _listen(runner, settings)
        await stopped.wait()
    finally:
        await runner.cleanup()


async def _listen(runner: Any, settings: GatewaySettings) -> None:
    from aiohttp import web

    context: ssl.SSLContext | None = None
    try:
        await web.TCPSite(runner, settings.host, settings.port, ssl_context=context).start()
    except (OSError, OverflowError) as error:
        raise SettingsError(
            f"the gateway cannot listen at {settings.host}:{settings.port}: {error}; see --host "
            "and --port"
        ) from error
    for address in runner.addresses:
        keys = "without a key" if settings.access == "open" else "with keys"
        click.echo(f"gateway: http://{address[0]}:{address[1]} {keys}")
