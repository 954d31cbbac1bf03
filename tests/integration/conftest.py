"""A worker, a client and jobs on the test's own queues; worker processes; lines that break."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import aio_pika
import msgspec
import pytest
from aio_pika.abc import AbstractChannel
from aiormq.exceptions import ChannelNotFoundEntity
from yarl import URL

from broker_config.local_node import LocalNode
from broker_config.scheduling import LANES
from broker_config.settings import Settings
from broker_config.topology import declare, topology
from producer.batch import Jobs
from producer.client import Client
from workers.worker import Worker

MODELS = Path(__file__).parents[2] / "models"
#: Seconds after which something that should happen has failed to.
LIMIT = 30

_SPEECH = (
    "this film was a truly great and moving story with brilliant acting but the plot is dull "
    "boring awful wasted two hours of my life do not watch it again loved every minute café 電影"
)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The test's own queues, and the shipped models."""
    return msgspec.structs.replace(settings, models=str(MODELS), processes=1)


@pytest.fixture
def texts() -> list[str]:
    """Five thousand different texts of one to eighty words."""
    source, words = random.Random(11), _SPEECH.split()
    return [
        f"{number} " + " ".join(source.choices(words, k=source.randint(1, 80)))
        for number in range(5_000)
    ]


@contextlib.asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Worker]:
    """A worker in this process; it drains at the end."""
    worker = Worker(settings)
    started = asyncio.Event()
    running = asyncio.create_task(worker.run(started))
    try:
        async with asyncio.timeout(LIMIT):
            starting = asyncio.create_task(started.wait())
            await asyncio.wait([starting, running], return_when=asyncio.FIRST_COMPLETED)
            starting.cancel()
        if running.done():
            running.result()
        yield worker
    finally:
        worker.stop()
        async with asyncio.timeout(LIMIT):
            await running


@pytest.fixture
async def worker(settings: Settings) -> AsyncIterator[Worker]:
    """A worker for the test's queues, in whose lanes nothing may be left."""
    async with serving(settings) as worker:
        yield worker
    assert await waiting_packs(settings) == 0


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    async with Client(settings) as client:
        yield client
    assert await depth(settings, settings.names.client_results(client.id)) is None


@pytest.fixture
async def jobs(settings: Settings) -> AsyncIterator[Jobs]:
    async with Jobs(settings) as jobs:
        yield jobs


@pytest.fixture
async def lanes(settings: Settings) -> None:
    """The lanes of a model whose worker has left."""
    await make_lanes(settings)


async def make_lanes(settings: Settings) -> None:
    async with channel_to(settings) as channel:
        await declare(channel, topology(settings.names, settings.queue_type, ["sentiment"]))


@contextlib.asynccontextmanager
async def channel_to(settings: Settings) -> AsyncIterator[AbstractChannel]:
    """A plain aio-pika channel, as a foreign program has it."""
    async with (
        await aio_pika.connect(settings.broker_url) as connection,
        connection.channel(on_return_raises=True) as channel,
    ):
        yield channel


async def depth(settings: Settings, queue: str) -> int | None:
    """Messages that are ready in a queue; None when there is no such queue."""
    counts = await _counts(settings, queue)
    return counts and counts[0]


async def consumers(settings: Settings, queue: str) -> int | None:
    """Consumers of a queue; None when there is no such queue."""
    counts = await _counts(settings, queue)
    return counts and counts[1]


async def _counts(settings: Settings, queue: str) -> tuple[int, int] | None:
    with contextlib.suppress(ChannelNotFoundEntity):
        async with channel_to(settings) as channel:
            result = (await channel.get_queue(queue)).declaration_result
            return result.message_count or 0, result.consumer_count or 0
    return None


async def waiting_packs(settings: Settings) -> int:
    """Packs in the lanes that nobody has taken."""
    names = [settings.names.work_queue("sentiment", lane) for lane in LANES]
    return sum([await depth(settings, name) or 0 for name in names])


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Polls: of a queue's depth the broker tells nobody."""
    async with asyncio.timeout(LIMIT):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


class Process:
    """`lmaas worker` as a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid
        self.lines: list[str] = []
        self._told = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            async with self._told:
                self.lines.append(line.decode())
                self._told.notify_all()

    async def says(self, word: str, times: int = 1) -> None:
        """Waits until so many lines have the word."""
        async with asyncio.timeout(LIMIT), self._told:
            await self._told.wait_for(lambda: sum(word in line for line in self.lines) >= times)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def ended(self) -> int:
        """The exit code."""
        async with asyncio.timeout(LIMIT):
            code = await self._process.wait()
            await self._reader
        return code

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self.ended()


StartWorker = Callable[..., Awaitable[Process]]


@pytest.fixture
async def start_worker(settings: Settings) -> AsyncIterator[StartWorker]:
    """Starts worker processes, which do not outlive the test."""
    started: list[Process] = []

    async def start(*arguments: str, until: str | None = "ready", **environment: str) -> Process:
        mine = {
            "LMAAS_BROKER_URL": settings.broker_url,
            "LMAAS_PREFIX": settings.prefix,
            "LMAAS_MODELS": settings.models,
        }
        command = (sys.executable, "-m", "lmaas", "worker", *(arguments or ("--processes", "1")))
        process = Process(
            await asyncio.create_subprocess_exec(
                *command,
                stderr=asyncio.subprocess.PIPE,
                env={**os.environ, **mine, **environment},
            )
        )
        started.append(process)
        if until:
            await process.says(until)
        return process

    yield start
    for process in started:
        await process.kill()


class Proxy:
    """A TCP line to the broker that can be cut."""

    def __init__(self, target: URL) -> None:
        self._target = target
        self._writers: set[asyncio.StreamWriter] = set()
        self.url = ""
        #: Connections so far.
        self.count = 0

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(self._target.host, self._target.port)
        ours = {writer, there[1]}
        self._writers |= ours
        self.count += 1
        await asyncio.gather(_pump(reader, there[1]), _pump(there[0], writer))
        self._writers -= ours

    def cut(self) -> None:
        """Resets every connection, whatever is on its way on it."""
        for writer in self._writers:
            writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while content := await reader.read(1 << 16):
            writer.write(content)
            await writer.drain()
    writer.close()


@pytest.fixture
async def proxy(broker_url: str) -> AsyncIterator[Proxy]:
    target = URL(broker_url)
    proxy = Proxy(target)
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    proxy.url = str(target.with_host("127.0.0.1").with_port(server.sockets[0].getsockname()[1]))
    yield proxy
    server.close()
    proxy.cut()
    await server.wait_closed()


@pytest.fixture(scope="session")
def own_node(rabbitmq: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNode]:
    node = LocalNode(tmp_path_factory.mktemp("own") / "node")
    yield node
    asyncio.run(node.stop())


@pytest.fixture
async def node(own_node: LocalNode) -> LocalNode:
    """A broker beside the session's, to be stopped and killed; it runs when a test begins."""
    await own_node.start()
    return own_node
