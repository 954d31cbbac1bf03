"""What benchmarks stand on: real reviews, a private broker, worker processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import click

from broker_config.local_node import LocalNode
from broker_config.settings import Settings

MODEL = "sentiment"
MODELS = Path(__file__).parents[1] / "models"


def imdb() -> Path:
    """The IMDB archive in the folder that LMAAS_DATASETS names."""
    path = Path(os.environ.get("LMAAS_DATASETS", "")) / "aclImdb_v1.tar.gz"
    if not path.is_file():
        raise click.ClickException(
            "set LMAAS_DATASETS to the folder that has aclImdb_v1.tar.gz (see docs/benchmarks.md)"
        )
    return path


def reviews() -> list[str]:
    """The 25,000 test reviews of IMDB, shuffled the same way each time."""
    from random import Random

    from training.datasets import load_imdb

    texts = list(load_imdb(imdb()).test.texts)
    Random(7).shuffle(texts)
    return texts


@contextlib.asynccontextmanager
async def broker() -> AsyncIterator[Settings]:
    """Settings for a private RabbitMQ that ends with the block."""
    async with LocalNode() as node:
        yield Settings(broker_url=node.url, models=str(MODELS))


@contextlib.asynccontextmanager
async def process(
    settings: Settings, *command: str, ready: bytes = b"ready", times: int = 1
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A Python process with these settings, which has printed `ready` so many times."""
    child = await _started(settings, *command)
    assert child.stderr is not None
    try:
        for _ in range(times):
            while ready not in (line := await child.stderr.readline()):
                if not line:
                    raise click.ClickException(f"{' '.join(command)} ended before it was ready")
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        await child.communicate()


async def run(settings: Settings, *command: str) -> None:
    """A Python process with these settings, to its good end."""
    child = await _started(settings, *command)
    _, complaint = await child.communicate()
    if child.returncode:
        raise click.ClickException(f"{' '.join(command)}: {complaint.decode()}")


async def _started(settings: Settings, *command: str) -> asyncio.subprocess.Process:
    environment = os.environ | {
        f"LMAAS_{name.upper()}": str(getattr(settings, name))
        for name in ("broker_url", "prefix", "models")
    }
    return await asyncio.create_subprocess_exec(
        sys.executable, *command, env=environment, stderr=asyncio.subprocess.PIPE
    )


def workers(
    settings: Settings, count: int
) -> contextlib.AbstractAsyncContextManager[asyncio.subprocess.Process]:
    """`lmaas worker` with `count` processes."""
    command = ("-m", "lmaas", "worker", "--processes", str(count))
    return process(settings, *command, times=count)
