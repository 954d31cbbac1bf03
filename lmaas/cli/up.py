"""`lmaas up`: everything on this machine, with one command."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from typing import Any, Final

import click
import msgspec

from lmaas.broker_config import extras
from lmaas.broker_config.connection import end_if_cancelled
from lmaas.broker_config.declaring import hanging
from lmaas.broker_config.errors import BrokerUnavailable, LmaasError, LocalNodeError, SettingsError
from lmaas.broker_config.hosts import connect
from lmaas.broker_config.local_node import LocalNode
from lmaas.broker_config.redaction import Redaction
from lmaas.broker_config.settings import Settings, masked
from lmaas.broker_config.together import first_of
from lmaas.broker_config.topology import Topology, topology
from lmaas.cli import gateway, options
from lmaas.cli.lanes import Lanes
from lmaas.cli.loop import run
from lmaas.cli.published import broker_folder, published, up_file
from lmaas.cli.worker import process_count, supervised
from lmaas.producer.gateway.settings import GatewaySettings
from lmaas.service import logs
from lmaas.service.signals import on_signal
from lmaas.workers import preloading
from lmaas.workers.repository import Repository

log = logging.getLogger(__name__)

#: Where it serves HTTP: to this machine, where keys would keep nobody out.
LOCAL: Final = "127.0.0.1"
#: Seconds between two looks at whether every queue of the node answers.
INTERVAL: Final = 5.0
#: So many looks in a row at which one does not are believed.
LOOKS: Final = 2
#: A node that ends by itself within so many seconds of a restart would do so again.
SHORT_LIFE: Final = 20.0


@click.command()
@click.option("--model", "served", multiple=True, help="Serve this one; repeat for more.  [all]")
@options.models
@options.setting("processes", help="Worker processes; 0: as the models are fastest.", type=int)
@click.option(
    "--gateway/--no-gateway", "with_gateway", default=True, help="Whether to serve HTTP too."
)
@gateway.setting("port", "--port", help="Of HTTP, on this machine alone.", type=int)
def command(
    served: tuple[str, ...], with_gateway: bool, gateway_port: int | None, **arguments: Any
) -> None:
    """Run a private broker, workers and the gateway on this machine until stopped.

    What was accepted survives a restart. Other commands and clients of the same user find the
    broker by themselves while it runs.
    """
    settings = Settings.load(**arguments)
    if problem := extras.lacking("numpy", "onnxruntime", "aiohttp"):
        raise LmaasError(problem)
    logs.configure(logging.INFO, settings.log_format, Redaction(settings))
    http = (
        GatewaySettings.load(host=LOCAL, port=gateway_port, access="open") if with_gateway else None
    )
    run(_up(settings, served, http))


async def _up(settings: Settings, served: tuple[str, ...], http: GatewaySettings | None) -> None:
    count = process_count(settings, served)
    settings = msgspec.structs.replace(settings, processes=count)
    path = up_file()
    folder = broker_folder()
    click.echo(f"starting a private broker in {folder}")
    async with LocalNode(folder, prefix=settings.prefix) as node:
        # Few rights are too few for lanes of a worker's own.
        lanes_of_workers = settings.balance == "random"
        worker = logged_in(settings, node.url if lanes_of_workers else node.url_of("worker"))
        operator, caller = (
            logged_in(settings, node.url_of(role)) for role in ("operator", "gateway")
        )
        with published(node):
            shown = masked(node.url_of("producer"))
            click.echo(f"broker: {shown}, found by the other commands through {path}")
            models = served or Repository(*settings.model_folders).models()
            wanted = topology(operator.names, settings.queue_type, models, settings.retry_delays)
            workers = supervised(worker, served, count)
            on_signal(workers.stop, workers.force)
            await workers.prepare(
                preloading.variables(worker, served), Lanes(operator, served).make
            )
            await first_of(
                workers.run(),
                keep(node, operator, wanted),
                serve_http(http, caller, operator, workers.has_begun),
            )


def logged_in(settings: Settings, url: str) -> Settings:
    """The same with a broker of our own."""
    return msgspec.structs.replace(
        settings,
        broker_url=url,
        broker_user="",
        broker_auth="password",
        broker_password_file=None,
        broker_password_command=(),
        tls_ca=None,
        tls_certificate=None,
        tls_key=None,
    )


async def serve_http(
    http: GatewaySettings | None, settings: Settings, operator: Settings, begun: asyncio.Event
) -> None:
    """For ever, from `begun` on. Does nothing where it is not wanted, or cannot, which is told."""
    await begun.wait()
    try:
        if http is not None and (problem := extras.lacking(*gateway.NEEDED)):
            raise SettingsError(problem)
        if http is not None:
            async with gateway.serving(http, settings, operator) as url:
                click.echo(gateway.told(http, url))
                await asyncio.Event().wait()
    except SettingsError as error:
        click.echo(f"no gateway: {error}")
    await asyncio.Event().wait()


async def keep(
    node: LocalNode, settings: Settings, wanted: Topology, short_life: float = SHORT_LIFE
) -> None:
    """Restarts the node whenever it ends by itself, or one of its queues hangs.

    What the queues hold is on disk; clients and workers come back by themselves. Raises
    LocalNodeError when the node ends within `short_life` seconds of a restart, or cannot be started
    again.
    """
    restarted = -math.inf
    while True:
        try:
            await first_of(node.failed(), _until_hanging(settings, wanted))
        except LocalNodeError as error:
            if time.monotonic() - restarted < short_life:
                raise
            log.error("%s; restarting it", error, extra={"action": "node_restart"})
        await node.restart()
        restarted = time.monotonic()
        log.warning("the broker is back", extra={"action": "node_restarted"})


async def _until_hanging(settings: Settings, wanted: Topology) -> None:
    looks = 0
    while looks < LOOKS:
        await asyncio.sleep(INTERVAL)
        with contextlib.suppress(BrokerUnavailable):  # `failed` notices a node that is gone
            async with await connect(settings, name="lmaas up watch") as connection:
                problem = await hanging(connection, wanted)
            looks = looks + 1 if problem else 0
        end_if_cancelled()
    log.error("%s; restarting the broker", problem, extra={"action": "node_restart"})
