"""`lmaas worker`: serve models from the queue."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import click

from broker_config.errors import (
    BrokerRefused,
    LmaasError,
    ModelError,
    SettingsError,
    TopologyMismatch,
    WorkerStuck,
)
from broker_config.settings import Settings
from lmaas.cli import logs, options
from lmaas.cli.exits import Exit
from lmaas.cli.loop import run
from lmaas.cli.signals import on_signal
from workers.supervisor import PERMANENT, Supervisor


@click.command()
@click.option("--model", "served", multiple=True, help="Serve this one; repeat for more.  [all]")
@options.broker
@options.setting("models", help="Folder of the model repository.")
@options.setting("processes", help="Worker processes; 0 for one a core.", type=int)
@options.setting("prefetch", help="Packs held ahead, for each lane.", type=int)
@options.setting("threads", help="Threads of an ONNX session.", type=int)
def command(served: tuple[str, ...], **arguments: Any) -> None:
    """Serve models from the queue until stopped.

    The first Ctrl-C or SIGTERM drains: what was begun is finished and answered, the rest goes
    back to the queue. The second one ends at once.
    """
    settings = Settings.load(**arguments)
    logs.configure(logging.INFO)
    count = settings.processes or len(os.sched_getaffinity(0))
    if count == 1:
        run(serve(settings, served))
    else:
        run(supervise(settings, served, count))


async def serve(settings: Settings, served: tuple[str, ...]) -> None:
    """One worker, in this process."""
    from workers.worker import Worker  # a supervisor of several needs no model runtime

    worker = Worker(settings, served, mortal=True)
    on_signal(worker.stop, lambda: os._exit(Exit.INTERRUPTED))
    try:
        await worker.run()
    except WorkerStuck as error:
        click.echo(f"error: {error}", err=True)
        os._exit(Exit.FAILED)  # a normal exit would wait for the thread


async def supervise(settings: Settings, served: tuple[str, ...], count: int) -> None:
    """`count` workers, each in a process of its own."""
    supervisor = Supervisor(serve_in_child, (settings, served), count)
    on_signal(supervisor.stop, supervisor.force)
    await supervisor.run()


def serve_in_child(settings: Settings, served: tuple[str, ...]) -> None:
    """What a supervised process runs."""
    logs.configure(logging.INFO)
    try:
        run(serve(settings, served))
    except LmaasError as error:
        click.echo(f"error: {error}", err=True)
        permanent = isinstance(error, ModelError | BrokerRefused | TopologyMismatch | SettingsError)
        sys.exit(PERMANENT if permanent else Exit.FAILED)
