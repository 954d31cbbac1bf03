"""`lmaas worker`: serve models from the queue, and ask those who do how they are."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import os
import sys
from collections.abc import Callable
from typing import Any, Final

import click
import msgspec

from lmaas.broker_config import extras
from lmaas.broker_config.errors import (
    BrokerRefused,
    LmaasError,
    ModelError,
    SettingsError,
    TopologyMismatch,
    WorkerStuck,
)
from lmaas.broker_config.redaction import Redaction
from lmaas.broker_config.settings import Settings
from lmaas.cli import options, streams
from lmaas.cli.exits import Exit
from lmaas.cli.lanes import Lanes
from lmaas.cli.loop import run
from lmaas.service import cores, logs
from lmaas.service.signals import on_signal
from lmaas.service.supervisor import PERMANENT, Supervisor
from lmaas.workers import parallelism, preloading
from lmaas.workers.repository import Repository, silence, trusted

LAST_PORT: Final = 65_535


@click.group(invoke_without_command=True)
@click.option("--model", "served", multiple=True, help="Serve this one; repeat for more.  [all]")
@options.broker
@options.models
@options.setting("processes", help="Worker processes; 0: as the models are fastest.", type=int)
@options.setting("prefetch", help="Packs held ahead, for each lane.", type=int)
@options.setting("threads", help="Threads of an ONNX session; 0: as measured.", type=int)
@options.setting("health_port", help="Tell health and metrics here; process i at +i.", type=int)
@click.pass_context
def command(context: click.Context, /, served: tuple[str, ...], **arguments: Any) -> None:
    """Serve models from the queue until stopped; or ask a worker that runs for its health.

    The first Ctrl-C or SIGTERM drains: what was begun is finished and answered, the rest goes
    back to the queue. The second one ends at once.
    """
    context.obj = arguments, served
    if context.invoked_subcommand is not None:
        return
    settings = Settings.load("worker", **arguments)
    lanes = Lanes.for_worker(settings, served, arguments)
    if problem := extras.lacking("numpy", "onnxruntime", "aiohttp"):
        raise LmaasError(problem)
    logs.configure(logging.INFO, settings.log_format, Redaction(settings))
    count = process_count(settings, served)
    settings = msgspec.structs.replace(settings, processes=count)
    if settings.health_port + count - 1 > LAST_PORT:
        raise SettingsError(
            f"health_port is {settings.health_port}, and the last of {count} processes would be at "
            f"{settings.health_port + count - 1}; ports end at {LAST_PORT}"
        )
    if count == 1:
        run(_serve_alone(settings, served, lanes))
    else:
        run(supervise(settings, served, count, lanes))


def process_count(settings: Settings, served: tuple[str, ...]) -> int:
    """Processes that serve these models, or all."""
    if settings.processes:
        return settings.processes
    repository = Repository(*settings.model_folders, trust=trusted(settings))
    manifests = repository.manifests(served)
    return parallelism.processes(settings, manifests, cores.usable())


async def _serve_alone(settings: Settings, served: tuple[str, ...], lanes: Lanes | None) -> None:
    if lanes is not None:
        await lanes.make()
    await serve(settings, served)


def _exit_at_once() -> None:
    os._exit(Exit.INTERRUPTED)


async def serve(
    settings: Settings,
    served: tuple[str, ...],
    ready: Callable[[], object] = lambda: None,
    force: Callable[[], object] = _exit_at_once,
) -> None:
    """One worker, in this process.

    `ready` is called once it consumes, `force` at every signal but the first.
    """
    from lmaas.workers.worker import Worker  # a supervisor of several needs no model runtime

    worker = Worker(settings, served, mortal=True)
    on_signal(worker.stop, force)
    started = asyncio.Event()

    async def tell() -> None:
        await started.wait()
        ready()

    telling = asyncio.create_task(tell())
    try:
        await worker.run(started)
    except WorkerStuck as error:
        logs.complain(str(error))
        os._exit(Exit.FAILED)  # a normal exit would wait for the thread
    finally:
        telling.cancel()


async def supervise(
    settings: Settings, served: tuple[str, ...], count: int, lanes: Lanes | None = None
) -> None:
    """`count` workers, each in a process of its own, until a signal comes."""
    supervisor = supervised(settings, served, count)
    on_signal(supervisor.stop, supervisor.force)
    before = lanes.make if lanes is not None else None
    await supervisor.prepare(preloading.variables(settings, served), before)
    await supervisor.run()


def supervised(settings: Settings, served: tuple[str, ...], count: int) -> Supervisor:
    """`count` workers, to be run."""
    modules = ("lmaas.workers.worker", "lmaas.workers.preloading")
    return Supervisor(serve_in_child, (settings, served), count, *modules)


def serve_in_child(
    settings: Settings, served: tuple[str, ...], index: int, tell: Callable[..., object]
) -> None:
    """What a supervised process runs, the `index`-th from 0.

    `tell()` says that it is ready, `tell(words)` why it ends.
    """
    streams.prepare()
    logs.configure(logging.INFO, settings.log_format, Redaction(settings))
    if index:
        silence()  # the first one says it
    if settings.health_port:
        port = settings.health_port + index
        settings = msgspec.structs.replace(settings, health_port=port)
    try:
        # It is the supervisor who forces. Here a second signal is the same one: what a whole group
        # of processes gets comes to us, and again from the supervisor.
        run(serve(settings, served, tell, force=lambda: None))
    except LmaasError as error:
        tell(str(error))
        permanent = isinstance(error, ModelError | BrokerRefused | TopologyMismatch | SettingsError)
        sys.exit(PERMANENT if permanent else Exit.FAILED)


# --------------------------------------------------------------------- health


@command.command()
@options.setting("health_host", "--host", help="Where the workers are.")
@options.setting("health_port", "--port", help="Of the first process.", type=int)
@options.setting("processes", help="How many processes; 0: as for the worker.", type=int)
@click.option("--ready/--live", default=True, help="Whether it consumes, or only that it runs.")
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=3.0,
    help="Seconds to wait for each answer.",
)
@click.pass_context
def health(context: click.Context, /, ready: bool, timeout: float, **arguments: Any) -> None:
    """Ask the workers of this machine, or of another, how they are: a line each.

    For probes: it ends with 0 when all are well, else with 1.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    of_worker, served = context.obj
    settings = Settings.load("worker", **of_worker | given)
    if not settings.health_port:
        raise SettingsError(
            "no health_port is set: give --port, and start the workers with --health-port"
        )
    path = "/health/ready" if ready else "/health/live"
    well = True
    for port in range(settings.health_port, settings.health_port + process_count(settings, served)):
        problem = _problem(settings.health_host, port, path, timeout)
        click.echo(f"{settings.health_host}:{port} {problem or ('ready' if ready else 'live')}")
        well = well and problem is None
    context.exit(Exit.OK if well else Exit.FAILED)


def _problem(host: str, port: int, path: str, timeout: float) -> str | None:
    """What is wrong with one process; None when it is well."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, OverflowError, http.client.HTTPException) as error:
        return f"no answer: {error or type(error).__name__}"
    finally:
        connection.close()
    if answer.status == http.HTTPStatus.OK:
        return None
    try:
        return f"not well: {json.loads(body)['problem']}"
    except (ValueError, LookupError, TypeError):
        return f"not a worker of ours: HTTP {answer.status}"
