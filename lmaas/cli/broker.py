"""`lmaas broker`: a private one, and what any broker has or lacks."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import AMQPError, ChannelNotFoundEntity
from aiormq.exceptions import ChannelAccessRefused
from rich.console import Console

from lmaas.broker_config import policies
from lmaas.broker_config.declaring import Difference, declare, difference
from lmaas.broker_config.definitions import definitions
from lmaas.broker_config.definitions import policies as policies_of
from lmaas.broker_config.errors import BrokerError, SettingsError
from lmaas.broker_config.hosts import connect
from lmaas.broker_config.limits import broker_sentence
from lmaas.broker_config.local_node import LocalNode
from lmaas.broker_config.scheduling import LANES
from lmaas.broker_config.settings import Settings, masked
from lmaas.broker_config.topology import RETRY_DELAYS, Topology, topology
from lmaas.cli import broker_certs, broker_users, options
from lmaas.cli.exits import Exit
from lmaas.cli.loop import run
from lmaas.cli.published import broker_folder, published, up_file
from lmaas.producer.tables.quoting import counted
from lmaas.service import logs

#: Seconds that `doctor` waits for a broker: a broker that is away is an answer there.
PATIENCE = 5.0
#: Names of what has the same problem that are listed.
NAMED = 3
#: Seconds for all that is tried out; a broker in alarm takes no messages.
TRIAL = 15.0

model_option = options.lanes_of("Its lanes too; repeat for more.")


@click.group()
def command() -> None:
    """Start a private broker; declare, inspect and export what LMaaS needs on any broker."""
    logs.configure()


command.add_command(broker_certs.command)


@command.command()
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where its messages and its passwords are kept.  [`broker` in the user's state folder]",
)
def start(folder: Path | None) -> None:
    """Run a private broker in the foreground until Ctrl-C; its messages are kept."""
    run(_start(folder or broker_folder(), Settings.load().prefix))


async def _start(folder: Path, prefix: str) -> None:
    path = up_file()
    async with LocalNode(folder, prefix=prefix) as node:
        with published(node):
            click.echo(f"broker: {masked(node.url_of('producer'))}")
            click.echo(f"found by the other commands through {path}, with the password")
            await node.failed()


command.add_command(broker_users.command)


@command.command("declare")
@model_option
@options.broker
def declare_(models: tuple[str, ...], **arguments: Any) -> None:
    """Make the exchanges and queues; what is there already stays as it is."""
    settings = Settings.load("operator", **arguments)
    wanted = _wanted(settings, models)
    run(_declare(settings, wanted))
    click.echo(
        f"{settings.broker} has {len(wanted.exchanges)} exchanges, {len(wanted.queues)} queues"
    )


async def _declare(settings: Settings, wanted: Topology) -> None:
    async with await connect(settings, name="lmaas broker declare") as connection:
        await declare(await connection.channel(), wanted)


class _Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `doctor` found."""

    broker: str
    reachable: bool
    version: str | None = None
    error: str | None = None
    differences: list[Difference] = []
    #: Queues of earlier versions, which nothing uses any more, with the number of their messages.
    former: dict[str, int] = {}

    @property
    def is_healthy(self) -> bool:
        return self.reachable and not self.differences


@command.command()
@model_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@options.broker
@click.pass_context
def doctor(
    context: click.Context, /, models: tuple[str, ...], as_json: bool, **arguments: Any
) -> None:
    """Ask the broker what it lacks or has otherwise; changes nothing. Exit 1 when something is.

    Queues that live for two seconds are tried for policies that delete or divert messages.
    """
    settings = Settings.load("operator", **arguments)
    report = run(_examine(settings, _wanted(settings, models)))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(report), indent=2))
    else:
        _show(report)
    context.exit(Exit.OK if report.is_healthy else Exit.FAILED)


async def _examine(settings: Settings, wanted: Topology) -> _Report:
    patience = min(settings.connect_timeout, PATIENCE)
    impatient = msgspec.structs.replace(settings, connect_timeout=patience)
    try:
        async with await connect(impatient, name="lmaas broker doctor") as connection:
            # Before anything is tried out: in alarm, a broker reads no more of who has published.
            former = await _former(connection, settings)
            return _Report(
                broker=settings.broker,
                reachable=True,
                version=_version(connection),
                differences=await difference(connection, wanted)
                + await _policies(connection, settings, wanted),
                former=former,
            )
    except BrokerError as error:
        return _Report(broker=settings.broker, reachable=False, error=str(error))


async def _former(connection: AbstractConnection, settings: Settings) -> dict[str, int]:
    """The journal and the retry queues of before they had names of users and models."""
    root, delays = settings.names.root, {*RETRY_DELAYS, *settings.retry_delays}
    found = {}
    for name in (f"{root}.jobs", *(f"{root}.retry.{delay}" for delay in sorted(delays))):
        with contextlib.suppress(ChannelNotFoundEntity, ChannelAccessRefused):
            async with connection.channel() as channel:
                count = (await channel.get_queue(name)).declaration_result.message_count
                found[name] = count or 0
    return found


async def _policies(
    connection: AbstractConnection, settings: Settings, wanted: Topology
) -> list[Difference]:
    """What policies do to our exchange and queues, as far as a trial shows it."""
    names = settings.names
    queues = {queue.name for queue in wanted.queues}
    queues |= {names.work_queue("x", lane) for lane in LANES}
    queues |= {names.client_results("x"), names.job_results("x"), names.jobs}
    found = []
    try:
        async with asyncio.timeout(TRIAL):
            with contextlib.suppress(ChannelNotFoundEntity):  # which is told as missing
                async with connection.channel(on_return_raises=True) as channel:
                    if await policies.diverts(channel, names.work):
                        found.append(policies.diversion(names.work))
            found += await policies.removals(connection, sorted(queues), settings.queue_type)
    except (AMQPError, TimeoutError) as error:
        why = (
            broker_sentence(error)
            if isinstance(error, AMQPError)
            else f"the broker confirms nothing within {TRIAL:g} s; is it in alarm (memory, disk)?"
        )
        problem = f"policies could not be tried: {why}"
        found.append(Difference("queue", f"{names.root}.*", problem))
    return found


def _version(connection: AbstractConnection) -> str:
    transport = connection.transport
    properties = getattr(transport.connection, "server_properties", {}) if transport else {}
    return f"{properties.get('product', 'unknown')} {properties.get('version', '')}".strip()


def _show(report: _Report) -> None:
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(f"{report.broker}: {report.version or report.error}")
    if report.is_healthy:
        console.print("nothing differs")
        console.print(
            f"(a policy that deletes after more than {policies.SECONDS:g} s, or "
            f"{policies.MESSAGES} messages, cannot be seen from here: `rabbitmqctl list_policies`)"
        )
    for line in _together(report.differences):
        console.print(line)
    for name, count in report.former.items():
        console.print(
            f"(queue {name} is of an earlier version, and of no more use; it has {count:,} "
            "messages. See CHANGELOG.md; `rabbitmqctl delete_queue` removes it)"
        )
    if any(one.problem == "missing" for one in report.differences):
        console.print("`lmaas broker declare` makes what is missing; so does a worker's start")


def _together(differences: Sequence[Difference]) -> Iterator[str]:
    """A line for each problem, however many have it."""
    alike: dict[tuple[str, str], list[str]] = {}
    for one in differences:
        # The broker repeats the name that is in front of it.
        problem = re.sub(r" for \S+ '.*' in vhost '.*':", ":", one.problem)
        alike.setdefault((one.kind, problem), []).append(one.name)
    for (kind, problem), names in alike.items():
        more = ", …" if len(names) > NAMED else ""
        what = kind if len(names) == 1 else f"{counted(len(names), kind)}:"
        yield f"{what} {', '.join(names[:NAMED])}{more}: {problem}"


@command.command("definitions")
@model_option
@broker_users.vhost_option
@broker_users.passwords_file(required=False)
@broker_users.user_option
@options.setting("queue_type", help="classic or quorum.", type=click.Choice(["classic", "quorum"]))
@options.setting("prefix", help="First part of every queue name.")
def definitions_(
    models: tuple[str, ...],
    vhost: str,
    passwords: Path | None,
    others: tuple[str, ...],
    **arguments: Any,
) -> None:
    """Print the JSON for `rabbitmqctl import_definitions`.

    With --passwords-file it has users too: see `lmaas broker users`.
    """
    settings = Settings.load(**arguments)
    if others and passwords is None:
        raise SettingsError("--user needs --passwords-file, which keeps the user's password")
    found = definitions(_wanted(settings, models), vhost) | policies_of(settings, vhost)
    if passwords is not None:
        found |= broker_users.of_users(settings, models, others, passwords, vhost)
    content = msgspec.json.encode(found)
    click.echo(msgspec.json.format(content, indent=2))


def _wanted(settings: Settings, models: tuple[str, ...]) -> Topology:
    return topology(settings.names, settings.queue_type, models, settings.retry_delays)
