"""What benchmarks stand on: real reviews, a private broker, worker processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

import click

from lmaas.broker_config.local_node import LocalNode
from lmaas.broker_config.messages import Item
from lmaas.broker_config.settings import Settings

MODEL = "sentiment"
MODELS = Path(__file__).parents[1] / "models"

#: Seconds for a process to say that it is ready, and to end when it was told to.
START_TIMEOUT = 30.0
STOP_TIMEOUT = 15.0


def imdb() -> Path:
    """The IMDB archive in the folder that LMAAS_DATASETS names."""
    path = Path(os.environ.get("LMAAS_DATASETS", "")) / "aclImdb_v1.tar.gz"
    if not path.is_file():
        raise click.ClickException(
            "IMDB's reviews are missing: set LMAAS_DATASETS to the folder that has "
            "aclImdb_v1.tar.gz; it is at https://ai.stanford.edu/~amaas/data/sentiment/ (80 MiB)"
        )
    return path


def reviews() -> list[str]:
    """The 25,000 test reviews of IMDB, shuffled the same way each time."""
    from random import Random

    from lmaas.training.datasets.of_imdb import load_imdb

    texts = list(load_imdb(imdb()).test.texts)
    Random(7).shuffle(texts)
    return texts


@contextlib.asynccontextmanager
async def broker() -> AsyncIterator[Settings]:
    """Settings for a private RabbitMQ that ends with the block."""
    async with LocalNode() as node:
        yield Settings(broker_url=node.url, models=str(MODELS))


@contextlib.contextmanager
def cores(count: int) -> Iterator[None]:
    """Processes that are started in the block share the first `count` cores."""
    every = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(every)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, every)


@contextlib.asynccontextmanager
async def process(
    settings: Settings, *command: str, ready: bytes = b"ready", times: int = 1
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A Python process with these settings, which has printed `ready` so many times.

    It ends with the block, and the processes that it started with it.
    """
    child = await _started(settings, *command)
    assert child.stderr is not None
    started = asyncio.get_running_loop().create_future()
    listening = asyncio.create_task(_listen(child.stderr, ready, times, started))
    try:
        try:
            await asyncio.wait_for(started, START_TIMEOUT)
        except (EOFError, TimeoutError) as error:
            raise click.ClickException(f"{' '.join(command)} is not ready: {error}") from error
        yield child
    finally:
        await end(child)
        await listening


async def _listen(
    stream: asyncio.StreamReader, ready: bytes, times: int, started: asyncio.Future[None]
) -> None:
    """Reads to the end, so that a process that logs never waits for a reader."""
    last: deque[bytes] = deque(maxlen=20)
    async for line in stream:
        last.append(line)
        times -= ready in line
        if times == 0 and not started.done():
            started.set_result(None)
    if not started.done():
        started.set_exception(EOFError(b"".join(last).decode(errors="replace")))


async def end(child: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        child.terminate()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(child.wait(), STOP_TIMEOUT)
    with contextlib.suppress(ProcessLookupError):  # what it has left behind
        os.killpg(child.pid, signal.SIGKILL)


async def run(settings: Settings, *command: str) -> None:
    """A Python process with these settings, to its good end."""
    child = await _started(settings, *command)
    _, complaint = await child.communicate()
    if child.returncode:
        raise click.ClickException(f"{' '.join(command)}: {complaint.decode()}")


def environment(settings: Settings) -> dict[str, str]:
    """All variables of a process that finds these settings, and of ours none.

    Those that have no value are left out, whatever our own environment has for them.
    """
    values = {
        f"LMAAS_{name.upper()}": getattr(settings, name) for name in settings.__struct_fields__
    }
    return {name: value for name, value in os.environ.items() if name not in values} | {
        name: ",".join(value) if isinstance(value, tuple) else str(value)
        for name, value in values.items()
        if value is not None
    }


async def _started(settings: Settings, *command: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        env=environment(settings),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )


def items(texts: Iterable[str]) -> list[Item]:
    """Texts as a model takes them."""
    return [Item(id="", text=text) for text in texts]


def workers(
    settings: Settings, count: int
) -> contextlib.AbstractAsyncContextManager[asyncio.subprocess.Process]:
    """`lmaas worker` with `count` processes."""
    command = ("-m", "lmaas", "worker", "--processes", str(count))
    return process(settings, *command, times=count)
