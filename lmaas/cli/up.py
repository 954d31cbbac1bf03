"""`lmaas up`: everything on this machine, with one command."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Coroutine
from typing import Any

import click
import msgspec

from lmaas.broker_config.local_node import LocalNode
from lmaas.broker_config.settings import STATE_FOLDER, UP_FILE, Settings
from lmaas.cli import logs, options
from lmaas.cli.loop import run
from lmaas.cli.published import published
from lmaas.cli.worker import supervise


@click.command()
@click.option("--model", "served", multiple=True, help="Serve this one; repeat for more.  [all]")
@options.setting("models", help="Folder of the model repository.")
@options.setting("processes", help="Worker processes; 0 for one a core.", type=int)
def command(served: tuple[str, ...], **arguments: Any) -> None:
    """Run a private broker and workers on this machine until stopped.

    What was accepted survives a restart. Other commands and clients of the same user find the
    broker by themselves while it runs.
    """
    settings = Settings.load(**arguments)
    logs.configure(logging.INFO, settings.log_format)
    run(_up(settings, served))


async def _up(settings: Settings, served: tuple[str, ...]) -> None:
    count = settings.processes or len(os.sched_getaffinity(0))
    async with LocalNode(STATE_FOLDER / "broker") as node:
        settings = msgspec.structs.replace(settings, broker_url=node.url)
        with published(UP_FILE, node.url):
            click.echo(f"broker: {settings.broker}, found by the other commands through {UP_FILE}")
            await _while_up(node, supervise(settings, served, count))


async def _while_up(node: LocalNode, work: Coroutine[Any, Any, None]) -> None:
    """Until the work ends, or the node does: then raises why."""
    working = asyncio.create_task(work)
    failing = asyncio.create_task(node.failed())
    try:
        await asyncio.wait([working, failing], return_when=asyncio.FIRST_COMPLETED)
        (working if working.done() else failing).result()
    finally:
        working.cancel()
        failing.cancel()
        await asyncio.gather(working, return_exceptions=True)
