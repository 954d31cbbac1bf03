"""A worker, a client and jobs on the test's own queues; worker processes; lines that break."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import struct
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import aio_pika
import msgspec
import pamqp.encode
import pamqp.frame
import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aiormq.exceptions import ChannelNotFoundEntity
from pamqp.commands import Connection
from yarl import URL

from lmaas.broker_config.codes import meaning
from lmaas.broker_config.declaring import declare
from lmaas.broker_config.estimator import Estimator
from lmaas.broker_config.headers import Headers
from lmaas.broker_config.local_node import LocalNode
from lmaas.broker_config.messages import JSON, Item, ItemError, Reply, Request, Result
from lmaas.broker_config.replies import decoded_reply
from lmaas.broker_config.scheduling import LANES, UNKNOWN, Cost
from lmaas.broker_config.sealing import ENCODING, KEY_HEADER, OVERHEAD, Label
from lmaas.broker_config.seals import Seal, Seals
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import Names, journal, routing_key, topology
from lmaas.producer.batch import Jobs
from lmaas.producer.client import Client
from lmaas.producer.dead_letter import request_of, seal_of
from lmaas.producer.publishing import PackPublisher
from lmaas.workers.begun import Begun
from lmaas.workers.consumer import Consumer
from lmaas.workers.delivery import WITHHELD, Delivery
from lmaas.workers.pack import Pack, read
from lmaas.workers.pool import Pool
from lmaas.workers.settling.answer import Answer
from lmaas.workers.settling.settler import Settler
from lmaas.workers.worker import Worker
from tests import leaks, tls

MODELS = Path(__file__).parents[2] / "models"
#: Seconds after which something that should happen has failed to. A worker whose lines are dead may
#: drain for 25 s (drain_timeout), and then close two sessions in 10 s each.
LIMIT = 120

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
    for text in texts[
        ::250
    ]:  # as a canary the beginning of a text, which may be cut where it is told
        leaks.canary(text[:40])
    return texts


@contextlib.asynccontextmanager
async def serving(settings: Settings, worker: Worker | None = None) -> AsyncIterator[Worker]:
    """A worker in this process; it drains at the end."""
    worker = worker or Worker(settings)
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


async def in_process(settings: Settings, texts: list[str]) -> list[tuple[str | None, float | None]]:
    """Label and score of each text without a queue."""
    items = [Item(id=str(place), text=text) for place, text in enumerate(texts)]
    async with Pool(settings, "sentiment") as pool:
        found = []
        for start in range(0, len(items), 1_000):
            reply = await pool.run(Request(model="sentiment", items=items[start : start + 1_000]))
            found += [(result.label, result.score) for result in reply.results]
        return found


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


async def make_lanes(settings: Settings) -> None:
    async with channel_to(settings) as channel:
        await declare(
            channel,
            topology(settings.names, settings.queue_type, ["sentiment"], settings.retry_delays),
        )
        await declare(channel, journal(settings.names, settings.queue_type))


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


def sent_in(dead_letter: AbstractIncomingMessage, settings: Settings) -> Request:
    """The request that was dead-lettered, sealed or not."""
    seals, body = Seals(settings), dead_letter.body
    if seal := seal_of(dead_letter, seals):
        body = seals.open(body, seal)
    request = request_of(body, dead_letter.content_type)
    assert request is not None
    return request


def as_told(error: ItemError, settings: Settings) -> ItemError:
    """As logs and headers have it: where packs are sealed, without words that may quote a text."""
    withheld = settings.payload_keys and meaning(error.code).quotes
    return msgspec.structs.replace(error, message=WITHHELD) if withheld else error


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

    def send_to_group(self, number: signal.Signals) -> None:
        """As a terminal does it at Ctrl-C, and systemd."""
        os.killpg(self.pid, number)

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


#: What a broker says that is being shut down.
CLOSE = pamqp.frame.marshal(
    Connection.Close(320, "CONNECTION_FORCED - broker forced connection closure", 0, 0), 0
)


class Proxy:
    """A line to the broker that can be cut, go dead, or be slow; with TLS, where the broker has it,
    on both sides.
    """

    def __init__(self, target: URL, certificates: tls.Certificates | None) -> None:
        self._target = target
        self._there = certificates and certificates.of_client()
        self._writers: set[asyncio.StreamWriter] = set()
        #: Of connections that go dead, those to come too while `_stalled`.
        self._dead: set[asyncio.StreamWriter] = set()
        self._stalled = False
        self._delay = 0.0
        #: The broker closes a connection together with this of its pieces; 0: with none.
        self.closes_with = 0
        self.url = ""
        #: Connections so far.
        self.count = 0

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(self._target.host, self._target.port, ssl=self._there)
        ours = {writer, there[1]}
        self._writers |= ours
        if self._stalled:
            self._dead |= ours
        self.count += 1
        await asyncio.gather(
            self._pump(reader, there[1]), self._pump(there[0], writer, self.closes_with)
        )
        for each in ours:  # of a dead one, who knows that its own end was closed
            each.transport.abort()
        self._writers -= ours
        self._dead -= ours

    def cut(self) -> None:
        """Resets every connection, whatever is on its way on it."""
        for writer in self._writers:
            writer.transport.abort()

    def stall(self) -> None:
        """Every packet vanishes from now on, the news of a closed end too; sockets stay open."""
        self._stalled = True
        self._dead |= self._writers

    def resume(self) -> None:
        """New connections work. Those that are dead stay it."""
        self._stalled = False

    def slow(self, seconds: float) -> None:
        """Each piece of up to 64 KiB takes so long, in each direction."""
        self._delay = seconds

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pieces: int = 0
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while content := await reader.read(1 << 16):
                pieces -= 1
                if pieces == 0:
                    writer.write(content + CLOSE)
                    break
                if self._delay:
                    await asyncio.sleep(self._delay)
                if writer not in self._dead:
                    writer.write(content)
                    await writer.drain()
        if writer in self._dead:  # the other end hears nothing, not even that we are gone
            return
        writer.close()


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


# ------------------------------------------------- workers without a model, for scheduling

#: What the workers and publishers of a Stage believe of every pack, in seconds a byte.
PER_BYTE = 1e-5
#: Bytes of a pack of one item, without its text; about.
ENVELOPE = 45


class Stage:
    """Stands in for a worker's inference: notes the packs, answers at once, or holds them.

    To the worker each run took as long as it was estimated to take; by the clock it takes nothing,
    or with `works` as long.
    """

    def __init__(self, name: str = "stage", *, works: bool = False) -> None:
        self.name = name
        self._works = works
        #: The id of each pack's first item, by run.
        self.runs: list[list[str]] = []
        #: The lane that each pack was run from.
        self.lanes: dict[str, str] = {}
        self._permits = float("inf")
        self._permitted = threading.Condition()
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self.worker: Worker
        self.consumer: Consumer

    @property
    def packs(self) -> list[str]:
        """In the order in which they were begun."""
        return [pack for run in self.runs for pack in run]

    def hold(self) -> None:
        """From the next run on, no run ends."""
        self._permit(0)

    def step(self) -> None:
        """Ends one run."""
        self._permit(self._permits + 1)

    def release(self) -> None:
        self._permit(float("inf"))

    def _permit(self, runs: float) -> None:
        with self._permitted:
            self._permits = runs
            self._permitted.notify_all()

    async def began(self, packs: int = 1) -> None:
        """Waits until so many have been begun."""
        async with asyncio.timeout(LIMIT):
            while len(self.packs) < packs:
                self._changed.clear()
                await self._changed.wait()

    async def has(self, packs: int) -> None:
        """Waits until the worker holds so many that it has not begun."""

        async def holds() -> bool:
            return len(self.worker.execution.ready) == packs

        await until(holds)

    def answer(self, packs: Sequence[Pack]) -> list[Reply]:
        """In the place of a run."""
        self.runs.append([pack.request.items[0].id for pack in packs if pack.request])
        with contextlib.suppress(RuntimeError):  # its worker, and with it the test, is gone
            self._loop.call_soon_threadsafe(self._changed.set)
        with self._permitted:
            assert self._permitted.wait_for(lambda: self._permits > 0, 2 * LIMIT), "held for ever"
            self._permits -= 1
        if self._works:
            time.sleep(PER_BYTE * sum(pack.size for pack in packs))
        return [self._reply(pack) for pack in packs]

    async def _isolated(
        self,
        _: Pack,
        body: bytes,
        content_type: str | None,
        model: str,
        seal: Seal | None = None,
    ) -> tuple[Pack, Reply]:
        """In the place of Isolation.answer."""
        opening = Seals(self.worker.settings).opening(seal)
        pack = read(body, content_type, self.worker.settings, model, opening)
        return pack, (await asyncio.to_thread(self.answer, [pack]))[0]

    def _reply(self, pack: Pack) -> Reply:
        if pack.request is None:
            return Reply(model="", worker=self.name, results=[], error=pack.error)
        results = [Result(id=item.id, label="positive", score=1.0) for item in pack.request.items]
        return Reply(model=pack.request.model, worker=self.name, results=results)

    def cast(self, settings: Settings) -> Worker:
        """A worker whose inference this is, which may hold a run for as long as a test needs."""
        patient = having(settings, pack_timeout=max(settings.pack_timeout, 4 * LIMIT))
        worker = self.worker = Worker(patient)
        worker.name = self.name
        execution = worker.execution
        observe = execution._observe

        def run(begun: Begun, _: Settler) -> list[Answer]:
            for delivery in begun.deliveries:
                execution._read(delivery)
                if delivery.pack.request:
                    self.lanes[delivery.pack.request.items[0].id] = delivery.lane
            begun.spent = sum(delivery.seconds for delivery in begun.deliveries)
            replies = self.answer([delivery.pack for delivery in begun.deliveries])
            return [Answer.of(*pair) for pair in zip(begun.deliveries, replies, strict=True)]

        def observed(deliveries: list[Delivery], seconds: float, consumer: Consumer) -> None:
            self.consumer = consumer
            observe(deliveries, seconds, consumer)

        execution._isolation.answer = self._isolated  # type: ignore[method-assign]
        execution._run = run  # type: ignore[method-assign]
        execution._observe = observed  # type: ignore[method-assign]
        return worker

    @contextlib.asynccontextmanager
    async def serving(self, settings: Settings) -> AsyncIterator[Stage]:
        """It drains at the end."""
        async with serving(settings, self.cast(settings)):
            try:
                yield self
            finally:
                self.release()


@pytest.fixture
def priced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pack costs PER_BYTE, for its publisher and for its worker."""

    def estimator(cost: Cost = UNKNOWN) -> Estimator:
        return Estimator(Cost(per_byte=PER_BYTE))

    monkeypatch.setattr("lmaas.producer.publishing.Estimator", estimator)
    monkeypatch.setattr("lmaas.producer.publishing._GUESS", estimator())
    monkeypatch.setattr("lmaas.workers.execution.Estimator", estimator)


class Double(float):
    """A number that is sent as 64 bits, as Java and Go do it; aio-pika sends 32."""


class Sender:
    """Publishes packs one after the other, and hears the replies; where there are payload keys, it
    seals and opens them.
    """

    def __init__(self, publisher: PackPublisher, channel: AbstractChannel, reply_to: str) -> None:
        self.publisher = publisher
        self._seals = Seals(publisher.settings)
        self._channel = channel
        self._reply_to = reply_to
        self._replies: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()

    async def send(self, name: str, seconds: float = 0.001, **headers: Any) -> None:
        """A pack that takes so long; 0.0006 s is the least."""
        request = Request(model="sentiment", items=[self._item(name, seconds)])
        await self.publisher.publish_pack(
            request, reply_to=self._reply_to, correlation_id=name, headers=Headers(**headers)
        )

    async def raw(self, name: str, seconds: float, lane: str, **properties: Any) -> None:
        """The same in JSON from a foreign program, which chooses the lane itself."""
        item = self._item(name, seconds)
        content = {"model": "sentiment", "items": [{"id": item.id, "text": item.text}]}
        body = json.dumps(content).encode()
        if self._seals.are_used:
            label = Label("request", "sentiment", self._reply_to, name, JSON)
            body, key = await self._seals.seal(body, label)
            headers = properties.pop("headers", {}) | {KEY_HEADER: key}
            properties |= {"headers": headers, "content_encoding": ENCODING}
        await self.body(name, body, lane, **properties)

    async def body(self, name: str, body: bytes, lane: str, **properties: Any) -> None:
        """These bytes, as they are."""
        exchange = await self._channel.get_exchange(
            self.publisher.settings.names.work, ensure=False
        )
        message = aio_pika.Message(
            body,
            content_type=JSON,
            correlation_id=name,
            reply_to=self._reply_to,
            **properties,
        )
        await exchange.publish(message, routing_key("sentiment", lane))

    def _item(self, name: str, seconds: float) -> Item:
        """That of a pack which takes so long, with its seal."""
        around = ENVELOPE + len(name) + (OVERHEAD if self._seals.are_used else 0)
        return Item(id=name, text="x" * max(1, round(seconds / PER_BYTE) - around))

    async def heard(self, message: AbstractIncomingMessage) -> None:
        await self._replies.put(message)

    async def reply(self) -> tuple[str, Reply]:
        """The next one, with its correlation id."""
        async with asyncio.timeout(LIMIT):
            message = await self._replies.get()
        name, content_type = message.correlation_id or "", message.content_type
        label = Label("reply", "sentiment", self._reply_to, name, content_type or "")
        seal = self._seals.found(message.content_encoding, message.headers, lambda: label)
        return name, await decoded_reply(message.body, content_type, self._seals.opening(seal))

    async def replies(self, count: int) -> dict[str, Reply]:
        """The next ones, no two to the same pack."""
        found = [await self.reply() for _ in range(count)]
        assert len(dict(found)) == count
        assert self._replies.empty()
        return dict(found)


@pytest.fixture
def doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a Double go out as what it is."""
    encode = pamqp.encode.encode_table_value

    def encoded(value: Any) -> bytes:
        return b"d" + struct.pack(">d", value) if isinstance(value, Double) else encode(value)

    monkeypatch.setattr("pamqp.encode.encode_table_value", encoded)


def of_others(names: Names, name: str) -> str:
    """A results queue as other programs have them: no user's, and bound to nothing."""
    return f"{names.results}.client.{name}"


@contextlib.asynccontextmanager
async def sending(settings: Settings) -> AsyncIterator[Sender]:
    async with PackPublisher(settings, "sender") as publisher, channel_to(settings) as channel:
        name = of_others(settings.names, uuid.uuid4().hex)
        queue = await channel.declare_queue(name, exclusive=True)
        sender = Sender(publisher, channel, queue.name)
        await queue.consume(sender.heard, no_ack=True)
        yield sender


@pytest.fixture
async def sender(settings: Settings, lanes: None) -> AsyncIterator[Sender]:
    async with sending(settings) as sender:
        yield sender


def having(settings: Settings, **changes: Any) -> Settings:
    return msgspec.structs.replace(settings, **changes)
