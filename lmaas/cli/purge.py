"""`lmaas purge`: remove what is older than a time, or what is about one person."""

from __future__ import annotations

import re
import sys
import time
from dataclasses import asdict
from typing import Any, Final

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lmaas.broker_config import extras
from lmaas.broker_config.errors import LmaasError
from lmaas.broker_config.rights import Role
from lmaas.broker_config.settings import Settings
from lmaas.cli import options
from lmaas.cli.exits import Exit
from lmaas.cli.gateway import NEEDED
from lmaas.cli.loop import run
from lmaas.producer import purging
from lmaas.producer.gateway.settings import STATE_FILE, GatewaySettings
from lmaas.producer.purging import Purged

#: Seconds of each unit of an age.
UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AGE: Final = re.compile(r"([0-9]{1,9})([smhdw])")


def _seconds(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """Of `30d`."""
    if value is None:
        return None
    found = _AGE.fullmatch(value)
    if found is None:
        words = f"{value!r} should look like 30d: a number, and s, m, h, d or w"
        raise click.BadParameter(words, context, parameter)
    return int(found[1]) * UNITS[found[2]]


@click.command()
@click.option(
    "--older-than", metavar="AGE", callback=_seconds, help="What is older than 30d, or 12h."
)
@click.option("--id", "ids", multiple=True, metavar="ID", help="Items with this id; repeat.")
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="As a JSON object.")
@options.broker
@click.pass_context
def command(
    context: click.Context,
    /,
    older_than: int | None,
    ids: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    as_json: bool,
    **arguments: Any,
) -> None:
    """Remove dead letters, results of finished jobs and their entries in the list of jobs.

    With --older-than those from before that time, all of them. With --id the items that have one of
    these ids, and nothing else: what is beside them in a message stays. Prints what it removed by
    place, and what stays and why. An interruption loses nothing: run it again.

    It sees dead letters as a user who may read them, and the jobs of its own user; with the broker
    of `lmaas up`, those of the producer and of the gateway.
    """
    if (older_than is None) == (not ids):
        raise click.UsageError("say what: --older-than AGE, or --id ID")
    logins = _logins(arguments)
    if not dry_run and not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("nobody can be asked here: add --yes, or --dry-run to see it")
        _print(run(_purged(logins, older_than, ids, dry=True)), as_json=False, dry=True)
        click.confirm("remove this for good?", abort=True, err=True)
    purged = run(_purged(logins, older_than, ids, dry=dry_run))
    _print(purged, as_json=as_json, dry=dry_run)
    context.exit(Exit.SOME_FAILED if purged.remains else Exit.OK)


def _logins(arguments: dict[str, Any]) -> list[Settings]:
    """Who looks: the first at dead letters, each at its jobs; of a broker that was named, one."""
    roles: tuple[Role, ...] = ("operator", "producer", "gateway")
    every = [Settings.load(role, **arguments) for role in roles]
    return list({settings.broker_url: settings for settings in every}.values())


async def _purged(
    logins: list[Settings], older_than: int | None, ids: tuple[str, ...], *, dry: bool
) -> Purged:
    gateway = GatewaySettings.load()
    has_state = _has_state(gateway)
    if has_state:  # 0.5 s, for those who have a gateway
        from lmaas.producer.gateway.purging import older, remaining
    purged, before = Purged(), time.time() - (older_than or 0)
    for settings in logins:
        dead = settings is logins[0]
        purged += (
            await purging.about(settings, ids, dry=dry, dead=dead)
            if older_than is None
            else await purging.older(settings, int(before * 1000), dry=dry, dead=dead)
        )
    if has_state and older_than is None:
        purged.remains += await remaining(gateway)
    elif has_state:
        purged += await older(gateway, before, dry=dry)
    return purged


def _has_state(gateway: GatewaySettings) -> bool:
    """Whether a gateway has kept anything here. Raises LmaasError where that cannot be read."""
    there = gateway.database is not None or (gateway.state_folder / STATE_FILE).is_file()
    if there and (problem := extras.lacking(*NEEDED)):
        raise LmaasError(f"the state of the gateway in {gateway.state_folder}: {problem}")
    return there


def _print(purged: Purged, *, as_json: bool, dry: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode({"dry_run": dry, **asdict(purged)}))
        return
    table = Table("place", "what", "would go" if dry else "removed")
    for one in purged.removed:
        table.add_row(Text(one.place), one.what, f"{one.count:,}")
    if purged.removed:
        Console(width=None if sys.stdout.isatty() else 120).print(table)
    else:
        click.echo("nothing to remove")
    for words in purged.remains:
        click.echo(f"stays: {words}", err=True)
