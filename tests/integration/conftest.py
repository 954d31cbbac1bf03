"""A worker, a client and jobs on the test's own queues, and what may happen to them."""

from __future__ import annotations

import asyncio
import os
import random
import struct
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pamqp.encode
import pytest
from yarl import URL

from lmaas.broker_config.estimator import Estimator
from lmaas.broker_config.local_node import LocalNode
from lmaas.broker_config.scheduling import UNKNOWN, Cost
from lmaas.broker_config.settings import Settings
from lmaas.producer.batch import Jobs
from lmaas.producer.client import Client
from lmaas.workers.worker import Worker
from tests import leaks, tls
from tests.integration.lanes import MODELS, depth, make_lanes, serving, waiting_packs
from tests.integration.proxy import Proxy
from tests.integration.sender import Double, Sender, sending
from tests.integration.stage import PER_BYTE
from tests.integration.worker_process import Process, StartWorker

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
    texts = [
        f"{number} " + " ".join(source.choices(words, k=source.randint(1, 80)))
        for number in range(5_000)
    ]
    for text in texts[::250]:
        leaks.canary(text[:40])  # of which the end may be cut where it is told
    return texts


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
    """The lanes of a model whose worker has left, and a journal of jobs."""
    await make_lanes(settings)


@pytest.fixture
async def start_worker(settings: Settings) -> AsyncIterator[StartWorker]:
    """Starts worker processes, which do not outlive the test."""
    started: list[Process] = []

    async def start(
        *arguments: str,
        module: Sequence[str] = ("lmaas", "worker"),
        until: str | None = "ready",
        **environment: str,
    ) -> Process:
        mine = {
            "LMAAS_BROKER_URL": settings.broker_url,
            "LMAAS_PREFIX": settings.prefix,
            "LMAAS_MODELS": settings.models,
        }
        command = (sys.executable, "-m", *module, *(arguments or ("--processes", "1")))
        process = Process(
            await asyncio.create_subprocess_exec(
                *command,
                stderr=asyncio.subprocess.PIPE,
                env={**os.environ, **mine, **environment},
                start_new_session=True,
            )
        )
        started.append(process)
        if until:
            await process.says(until)
        return process

    yield start
    for process in started:
        await process.kill()


@pytest.fixture
async def proxy(broker_url: str, certificates: tls.Certificates | None) -> AsyncIterator[Proxy]:
    target = URL(broker_url)
    proxy = Proxy(target, certificates)
    here = certificates and certificates.of_server()
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0, ssl=here)
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


@pytest.fixture
def priced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pack costs PER_BYTE, for its publisher and for its worker."""

    def estimator(cost: Cost = UNKNOWN) -> Estimator:
        return Estimator(Cost(per_byte=PER_BYTE))

    monkeypatch.setattr("lmaas.producer.publishing.Estimator", estimator)
    monkeypatch.setattr("lmaas.producer.publishing._GUESS", estimator())
    monkeypatch.setattr("lmaas.workers.execution.Estimator", estimator)


@pytest.fixture
def doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a Double go out as what it is."""
    encode = pamqp.encode.encode_table_value

    def encoded(value: Any) -> bytes:
        return b"d" + struct.pack(">d", value) if isinstance(value, Double) else encode(value)

    monkeypatch.setattr("pamqp.encode.encode_table_value", encoded)


@pytest.fixture
async def sender(settings: Settings, lanes: None) -> AsyncIterator[Sender]:
    async with sending(settings) as sender:
        yield sender
