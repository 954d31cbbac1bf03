"""`lmaas gateway keys`: make, list, disable and delete the API keys of the gateway."""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lmaas.broker_config import extras
from lmaas.broker_config.errors import LmaasError
from lmaas.cli.loop import run
from lmaas.producer.gateway.settings import GatewaySettings

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from lmaas.producer.gateway.state.keys import Key

T = TypeVar("T")

#: Packages that it cannot do without.
NEEDED: Final = ("aiosqlite", "alembic", "sqlalchemy")
#: As in `lmaas.producer.gateway.api_keys`, which needs these packages.
SCOPES: Final = ("classify", "jobs", "admin")
_DAY: Final = 24 * 3600.0
_MOMENT: Final = "%Y-%m-%d %H:%M:%S"


@click.group()
@click.pass_context
def command(context: click.Context) -> None:
    """Make, list, disable and delete API keys, also while the gateway runs.

    Say with the options of `lmaas gateway`, or in the settings, where its state is.
    """
    if problem := extras.lacking(*NEEDED):
        raise LmaasError(problem)
    context.obj = GatewaySettings.load(**context.obj)


@command.command()
@click.option("--name", required=True, help="For people: who or what has it.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice(SCOPES),
    help="What it allows; repeat for more. `admin` allows all, and sees the usage of every key.",
)
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Requests a second.")
@click.option("--item-rate", type=click.FloatRange(0, min_open=True), help="Items a second.")
@click.option("--concurrency", type=click.IntRange(1), help="Requests at a time.")
@click.option(
    "--days", type=click.FloatRange(0, min_open=True), help="After so many it expires; else never."
)
@click.pass_obj
def create(
    settings: GatewaySettings,
    name: str,
    scopes: tuple[str, ...],
    rate: float | None,
    item_rate: float | None,
    concurrency: int | None,
    days: float | None,
) -> None:
    """Make a key, and print it. It is kept as a hash, and not shown again."""
    from lmaas.producer.gateway import api_keys
    from lmaas.producer.gateway.state import keys

    now = time.time()
    written, key = api_keys.make(
        name,
        scopes,
        now,
        expires=None if days is None else now + days * _DAY,
        requests_per_second=rate,
        items_per_second=item_rate,
        concurrency=concurrency,
    )
    _in_transaction(settings, lambda connection: keys.add(connection, key))
    click.echo(f"key {key.id} for {name}; it is not shown again:", err=True)
    click.echo(written)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_obj
def list_(settings: GatewaySettings, as_json: bool) -> None:
    """List the keys, oldest first, without what makes them work."""
    from lmaas.producer.gateway.state import keys

    found = _in_transaction(settings, keys.every)
    if as_json:
        for key in found:
            click.echo(msgspec.json.encode(_told(key)))
        return
    table = Table("id", "name", "scopes", "created", "last used", "state", "limits")
    for key in found:
        row = (key.name, key.scopes, _moment(key.created), _moment(key.last_used))
        table.add_row(*map(escape, (key.id, *row, _state(key), _limits(key))))
    width = None if sys.stdout.isatty() else 160
    Console(width=width).print(table if found else "no keys")


@command.command()
@click.argument("key")
@click.pass_obj
def disable(settings: GatewaySettings, key: str) -> None:
    """Refuse the key with the id KEY, within seconds; `enable` lets it in again."""
    _switch(settings, key, disabled=True)
    click.echo(f"key {key} is disabled", err=True)


@command.command()
@click.argument("key")
@click.pass_obj
def enable(settings: GatewaySettings, key: str) -> None:
    """Let the key with the id KEY in again."""
    _switch(settings, key, disabled=False)
    click.echo(f"key {key} is enabled", err=True)


@command.command()
@click.argument("key")
@click.pass_obj
def delete(settings: GatewaySettings, key: str) -> None:
    """Forget the key with the id KEY. Its jobs go on, and nobody can see them any more."""
    from lmaas.producer.gateway.state import keys

    _checked(key, _in_transaction(settings, lambda connection: keys.delete(connection, key)))
    click.echo(f"key {key} is deleted", err=True)


def _switch(settings: GatewaySettings, name: str, *, disabled: bool) -> None:
    from lmaas.producer.gateway.state import keys

    done = _in_transaction(settings, lambda connection: keys.disable(connection, name, disabled))
    _checked(name, done)


def _checked(name: str, found: bool) -> None:
    if not found:
        raise LmaasError(f"there is no key with the id {name!r}; see `lmaas gateway keys list`")


def _in_transaction(
    settings: GatewaySettings, step: Callable[[AsyncConnection], Awaitable[T]]
) -> T:
    from lmaas.producer.gateway.state import State

    async def done() -> T:
        async with State(settings) as state, state.writing() as connection:
            return await step(connection)

    return run(done())


def _told(key: Key) -> dict[str, Any]:
    row = msgspec.structs.asdict(key)
    del row["hash"], row["revision"]
    return row | {"scopes": key.scopes.split(), "state": _state(key)}


def _state(key: Key) -> str:
    if key.disabled:
        return "disabled"
    if key.expires is None:
        return "valid"
    return "expired" if key.expires <= time.time() else f"valid until {_moment(key.expires)}"


def _limits(key: Key) -> str:
    limits = {
        "requests/s": key.requests_per_second,
        "items/s": key.items_per_second,
        "at a time": key.concurrency,
    }
    told = [f"{limit:g} {name}" for name, limit in limits.items() if limit is not None]
    return ", ".join(told) or "-"


def _moment(at: float | None) -> str:
    return "-" if at is None else datetime.fromtimestamp(at).astimezone().strftime(_MOMENT)
