"""`lmaas up`: everything on this machine, with one command."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from broker_config.errors import SettingsError
from broker_config.local_node import LocalNode
from broker_config.settings import STATE_FOLDER, UP_FILE, Settings
from lmaas.cli import logs, options
from lmaas.cli.loop import run
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
    logs.configure(logging.INFO)
    run(_up(settings, served))


async def _up(settings: Settings, served: tuple[str, ...]) -> None:
    count = settings.processes or len(os.sched_getaffinity(0))
    async with LocalNode(STATE_FOLDER / "broker") as node:
        settings = msgspec.structs.replace(settings, broker_url=node.url)
        with _published(UP_FILE, node.url):
            click.echo(f"broker: {settings.broker}, found by the other commands through {UP_FILE}")
            await supervise(settings, served, count)


@contextlib.contextmanager
def _published(path: Path, url: str) -> Iterator[None]:
    """The broker's URL where `Settings.load` looks for it, for this user's eyes only."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(f'broker_url = "{url}"\n')
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error.strerror}") from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
