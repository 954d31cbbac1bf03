"""Where faults happen: a private broker, a line to it, workers under their supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

import click
import msgspec

from benchmarks import rig
from benchmarks.failures import queues
from benchmarks.failures.faults import Fault, Kind
from benchmarks.failures.job import Producer
from benchmarks.failures.log import Log
from benchmarks.failures.pauses import Pauses
from benchmarks.failures.polling import until
from benchmarks.failures.processes import Process, started
from benchmarks.failures.proxy import Proxy
from benchmarks.failures.waits import Span
from lmaas.broker_config.errors import LocalNodeError
from lmaas.broker_config.local_node import LocalNode
from lmaas.broker_config.settings import Settings

WORKERS: Final = 2
#: Seconds between heartbeats: who vanishes is found out after two or three of them.
HEARTBEAT: Final = 2
#: Seconds that one run may take.
PACK_TIMEOUT: Final = 1.0
#: Tries of what may go better the next time.
MAX_ATTEMPTS: Final = 2
#: Seconds after which a system has not recovered from a fault.
LIMIT: Final = 120.0
#: Seconds for the broker to answer what it is asked when everything stands still.
ANSWER_LIMIT: Final = 40.0
_QUESTIONS: Final = (
    ("list_queues", "name", "messages_ready", "messages_unacknowledged", "consumers"),
    ("list_connections", "name", "state", "client_properties"),
    ("eval", "rabbit_diagnostics:maybe_stuck()."),
)

CALM: Final = ("-m", "lmaas", "worker", "--processes", str(WORKERS))
POISONED: Final = ("-m", "benchmarks.poisoned", "--processes", str(WORKERS))


class Hung(click.ClickException):
    """Nothing went on, or not in time."""

    exit_code = 4


@dataclass(slots=True)
class Happened:
    """A fault, and what came of it; in seconds."""

    fault: Fault
    #: Rows that were done when it happened.
    rows: int
    #: Until the broker could be reached again; of half-open connections, until both ends knew.
    outage: float = 0.0
    #: When the outage ended, on the monotonic clock.
    whole: float = 0.0
    #: Until the packs that a killed worker held were with others, and how many there were.
    redelivered: float | None = None
    held: int = 0
    #: From the end of the outage until every worker consumed again.
    consuming: float | None = None
    #: The longest time without a row that had not been done before.
    pause: float = 0.0

    @property
    def span(self) -> Span:
        """Of the outage."""
        return Span(self.whole - self.outage, self.whole)


@dataclass(slots=True)
class Stage:
    """All that can be broken, and the settings of those who use it through the line."""

    settings: Settings
    #: For those who look on: past the line.
    direct: Settings
    node: LocalNode
    proxy: Proxy
    log: Log
    source: Random = field(default_factory=Random)

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, seed: int, pack_items: int, window: int, log: Log, payload_keys: str | None = None
    ) -> AsyncIterator[Stage]:
        with tempfile.TemporaryDirectory() as folder:
            async with LocalNode(Path(folder) / "node") as node, Proxy.serving(node.url) as proxy:
                settings = Settings(
                    broker_url=proxy.url,
                    models=str(rig.MODELS),
                    heartbeat=HEARTBEAT,
                    pack_timeout=PACK_TIMEOUT,
                    max_attempts=MAX_ATTEMPTS,
                    pack_items=pack_items,
                    window=window,
                    payload_keys=payload_keys,
                )
                direct = msgspec.structs.replace(settings, broker_url=node.url)
                try:
                    yield cls(settings, direct, node, proxy, log, Random(seed))
                finally:
                    if log.folder:
                        shutil.copytree(node.folder / "log", log.folder / "broker")

    def workers(self, command: tuple[str, ...]) -> contextlib.AbstractAsyncContextManager[Process]:
        """A supervisor and its workers, ready."""
        return started(self.settings, *command, times=WORKERS, log=self.log)

    @contextlib.asynccontextmanager
    async def within(
        self, seconds: float, workers: Process, producer: Producer
    ) -> AsyncIterator[None]:
        """Raises Hung when the block takes longer, after everybody has told what they were at."""
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as error:
            await self._ask_everybody(workers, producer)
            raise Hung(f"it stood still, or was not done within {seconds:g} s") from error

    async def _ask_everybody(self, workers: Process, producer: Producer) -> None:
        """Into the log: the broker's queues and processes that wait, the stacks of ours."""
        for question in _QUESTIONS:
            try:
                async with asyncio.timeout(ANSWER_LIMIT):
                    answer = await self.node.ctl("--timeout", f"{ANSWER_LIMIT / 2:g}", *question)
            except (LocalNodeError, TimeoutError) as error:
                answer = f"no answer: {error!r}"
            self.log.note(" ".join(question), answer)
        await asyncio.gather(workers.aborted(), producer.aborted())

    async def strike(self, fault: Fault, workers: Process, producer: Producer) -> Happened:
        """Let it happen; returns when the system is whole again and goes on."""
        happened = Happened(fault, producer.rows())
        whole = asyncio.Event()
        self.log.note("fault", f"{fault.kind} at {happened.rows:,} rows")
        async with self.within(LIMIT, workers, producer):
            watching = asyncio.create_task(self._watch(happened, producer, whole))
            try:
                await self._strike(happened, workers, producer)
                ended = time.monotonic()
                await until_consuming(workers, self.direct)
                happened.consuming = time.monotonic() - ended
                whole.set()
                await watching
            finally:
                watching.cancel()
        return happened

    async def _watch(self, happened: Happened, producer: Producer, whole: asyncio.Event) -> None:
        """The longest time without a new row, until there is one and the system is whole again."""
        rows, pauses = happened.rows, Pauses()

        async def goes_on() -> bool:
            nonlocal rows
            ready = whole.is_set()
            if producer.rows() <= rows and not await producer.done():
                return False
            pauses.note()
            happened.pause, rows = pauses.longest, max(rows, producer.rows())
            return ready

        await until(goes_on)

    async def _strike(self, happened: Happened, workers: Process, producer: Producer) -> None:
        fault = happened.fault
        match fault.kind:
            case Kind.WORKER:
                await self._kill_worker(happened, workers)
            case Kind.PRODUCER:
                await producer.kill()
                await producer.start()
            case Kind.CUT:
                self.proxy.cut()
            case Kind.RESTART:
                await self._outage(happened, self.node.restart())
            case Kind.CRASH:
                await self._outage(happened, self._crash())
            case Kind.STALL:
                await self._outage(happened, self.proxy.stall(fault.seconds))
            case Kind.SLOW:
                await self._outage(happened, self.proxy.slow(fault.seconds))
            case Kind.HALF_OPEN:
                await self._outage(happened, self.proxy.half_open())

    async def _outage(self, happened: Happened, outage: Coroutine[Any, Any, None]) -> None:
        began = time.monotonic()
        await outage
        happened.whole = time.monotonic()
        happened.outage = happened.whole - began

    async def _crash(self) -> None:
        self.node.kill()
        await self.node.start()

    async def _kill_worker(self, happened: Happened, workers: Process) -> None:
        """And wait until what it held is with another one."""
        victims = workers.workers()
        if not victims:  # between an end and a start
            await until_consuming(workers, self.direct)
            victims = workers.workers()
        before = len(self.proxy.redeliveries), len(self.proxy.ended)
        began = time.monotonic()
        os.kill(self.source.choice(victims).pid, signal.SIGKILL)

        async def disconnected() -> bool:
            return len(self.proxy.ended) >= before[1] + 2  # one to publish, one to consume

        async def redelivered() -> bool:
            return len(self.proxy.redeliveries) >= wanted

        await until(disconnected)
        happened.held = sum(held for _, held in self.proxy.ended[before[1] :])
        wanted = before[0] + happened.held
        await until(redelivered)
        last = self.proxy.redeliveries[wanted - 1] if happened.held else began
        happened.redelivered = max(0.0, last - began)


async def until_consuming(workers: Process, settings: Settings) -> None:
    """Every worker consumes every lane, and every process is there."""

    async def consuming() -> bool:
        check_alive(workers)
        return (
            await queues.consuming(connection, settings) >= WORKERS
            and len(workers.workers()) >= WORKERS
        )

    async with queues.connected(settings) as connection:
        await until(consuming)


def check_alive(workers: Process) -> None:
    """Raises when the supervisor has ended by itself: nobody would ever answer again."""
    if workers.code is not None:
        last = "\n".join(workers.lines[-30:])
        raise click.ClickException(f"the supervisor ended with {workers.code}: {last}")
