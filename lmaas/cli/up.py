"""`lmaas up`: everything on this machine, with one command."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any, Final

import click
import msgspec

from lmaas.broker_config import extras
from lmaas.broker_config.declaring import hanging
from lmaas.broker_config.errors import BrokerUnavailable, LmaasError
from lmaas.broker_config.hosts import connect
from lmaas.broker_config.local_node import LocalNode
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.together import first_of
from lmaas.broker_config.topology import Topology, topology
from lmaas.cli import options
from lmaas.cli.loop import run
from lmaas.cli.published import broker_folder, published, up_file
from lmaas.cli.worker import supervise
from lmaas.service import cores, logs
from lmaas.workers.repository import Repository

log = logging.getLogger(__name__)

#: Seconds between two looks at whether every queue of the node answers.
INTERVAL: Final = 5.0
#: So many looks in a row at which one does not are believed.
LOOKS: Final = 2


@click.command()
@click.option("--model", "served", multiple=True, help="Serve this one; repeat for more.  [all]")
@options.models
@options.setting("processes", help="Worker processes; 0 for one a core.", type=int)
def command(served: tuple[str, ...], **arguments: Any) -> None:
    """Run a private broker and workers on this machine until stopped.

    What was accepted survives a restart. Other commands and clients of the same user find the
    broker by themselves while it runs.
    """
    settings = Settings.load(**arguments)
    if problem := extras.lacking("numpy", "onnxruntime", "aiohttp"):
        raise LmaasError(problem)
    logs.configure(logging.INFO, settings.log_format)
    run(_up(settings, served))


async def _up(settings: Settings, served: tuple[str, ...]) -> None:
    count = settings.processes or cores.usable()
    path = up_file()
    async with LocalNode(broker_folder()) as node:
        settings = msgspec.structs.replace(
            settings, broker_url=node.url, tls_ca=None, tls_certificate=None, tls_key=None
        )
        with published(path, node.url):
            click.echo(f"broker: {settings.broker}, found by the other commands through {path}")
            models = served or Repository(*settings.model_folders).models()
            wanted = topology(settings.names, settings.queue_type, models)
            await first_of(supervise(settings, served, count), keep(node, settings, wanted))


async def keep(node: LocalNode, settings: Settings, wanted: Topology) -> None:
    """Restarts the node whenever one of its queues hangs; raises why when it ends by itself.

    What the queues hold is on disk; clients and workers come back by themselves.
    """
    while True:
        await first_of(node.failed(), _until_hanging(settings, wanted))
        await node.restart()
        log.warning("the broker is back", extra={"action": "node_restarted"})


async def _until_hanging(settings: Settings, wanted: Topology) -> None:
    looks = 0
    while looks < LOOKS:
        await asyncio.sleep(INTERVAL)
        with contextlib.suppress(BrokerUnavailable):  # `failed` notices a node that is gone
            async with await connect(settings, name="lmaas up watch") as connection:
                problem = await hanging(connection, wanted)
            looks = looks + 1 if problem else 0
    log.error("%s; restarting the broker", problem, extra={"action": "node_restart"})
