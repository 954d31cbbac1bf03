"""Speed and memory while 1,000, 100,000 or 1,000,000 items wait.

The lane is filled as a batch job fills it, in packs of 256, before the worker starts. From then on
each reply is followed by a new pack, so that as many items wait to the end, and the producer has
the same to do whatever waits. Each measurement has a broker of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

import psutil
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue

from benchmarks import rig
from benchmarks.report import Figure, Grid, Plot, Report, Series, bars
from lmaas.broker_config.connection import Session
from lmaas.broker_config.declaring import declare
from lmaas.broker_config.errors import MessageError
from lmaas.broker_config.headers import Headers
from lmaas.broker_config.messages import Item, Request, decode_reply
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import client_results, topology
from lmaas.producer.publishing import PackPublisher
from lmaas.producer.window import windowed

WAITING = (1_000, 100_000, 1_000_000)
PACK = Settings().pack_items
WORDS = 60
#: Different packs, which are published in turn.
PACKS = 32
#: Seconds with a worker before those that count, and those.
WARM_UP = 2.0
SECONDS = 6.0
#: The best of so many runs each, in turn: other work on the machine only ever slows down.
ROUNDS = 2


@dataclass(frozen=True, kw_only=True)
class Found:
    """What one run has found: items a second and bytes."""

    published: float
    answered: float
    worker: int
    broker: int


async def measure() -> Report:
    texts = [" ".join(review.split()[:WORDS]) for review in rig.reviews()[: PACKS * PACK]]
    runs: dict[int, list[Found]] = {waiting: [] for waiting in WAITING}
    for _, waiting in itertools.product(range(ROUNDS), WAITING):
        runs[waiting].append(await _run(texts, waiting))
    found = {waiting: _best(each) for waiting, each in runs.items()}
    few, many = found[WAITING[0]], found[WAITING[-1]]
    return Report(
        benchmark="backlog",
        setting=f"texts of {WORDS} words in packs of {PACK}, as many waiting to the end; one "
        f"worker process, {SECONDS:g} s after {WARM_UP:g} s to warm up; best of {ROUNDS}, memory "
        "the highest",
        figures=[
            Figure(name=f"speed with {WAITING[-1]:,} waiting / with {WAITING[0]:,}",
                   value=many.answered / few.answered, unit="", at_least=0.9),
            # Of 1,000 there are too few packs to measure.
            *(Figure(name=f"publishing {waiting:,}", value=found[waiting].published, unit="items/s")
              for waiting in WAITING[1:]),
        ],
        tables=[_grid(found)],
        plots=_plots(found),
    )  # fmt: skip


def _best(runs: Sequence[Found]) -> Found:
    return Found(
        published=max(run.published for run in runs),
        answered=max(run.answered for run in runs),
        worker=max(run.worker for run in runs),
        broker=max(run.broker for run in runs),
    )


async def _run(texts: Sequence[str], waiting: int) -> Found:
    async with rig.broker() as settings, _backlog(settings, texts) as backlog:
        packs = round(waiting / PACK)
        began = time.perf_counter()
        await backlog.fill(packs)
        published = packs * PACK / (time.perf_counter() - began)
        async with rig.workers(settings, 1) as worker:
            return Found(
                published=published,
                answered=await backlog.speed(),
                worker=psutil.Process(worker.pid).memory_info().rss,
                broker=_broker_bytes(),
            )


def _broker_bytes() -> int:
    """Resident, of the Erlang VM that is our child."""
    children = psutil.Process().children(recursive=True)
    return sum(child.memory_info().rss for child in children if child.name() == "beam.smp")


# ---------------------------------------------------------------------- backlog


class _Backlog:
    """Packs in the lane, and after each reply one more."""

    def __init__(self, settings: Settings, texts: Sequence[str]) -> None:
        items = [Item(id=str(place), text=text) for place, text in enumerate(texts)]
        self._requests = itertools.cycle(
            Request(model=rig.MODEL, items=items[start : start + PACK])
            for start in range(0, len(items), PACK)
        )
        self._settings = settings
        self._replies = settings.names.client_results("backlog")
        self._queue: AbstractQueue | None = None
        self._answered = 0
        self._failure: Exception | None = None
        self.publisher = PackPublisher(settings, "backlog publish")
        self.session = Session(settings, "backlog replies", self._prepare)

    async def _prepare(self, channel: AbstractChannel) -> None:
        names = self._settings.names
        # The lanes, which no worker has declared yet.
        await declare(channel, topology(names, self._settings.queue_type, [rig.MODEL]))
        await declare(channel, client_results(names, "backlog"))
        self._queue = await channel.get_queue(self._replies)
        await self._queue.consume(self._on_reply, no_ack=True)

    async def fill(self, packs: int) -> None:
        """Publish so many, with as many on their way as a job has."""
        sent = windowed(_count(packs), self._publish, self._settings.window)
        async with contextlib.aclosing(sent):
            async for _ in sent:
                pass

    async def _publish(self, _: object = None) -> None:
        await self.publisher.publish_pack(
            next(self._requests),
            reply_to=self._replies,
            correlation_id=uuid.uuid4().hex,
            headers=Headers(),
        )

    async def _on_reply(self, message: AbstractIncomingMessage) -> None:
        try:
            reply = decode_reply(message.body, message.content_type)
            if reply.error is not None:
                raise MessageError(str(reply.error))
            self._answered += len(reply.results)
            await self._publish()
        except Exception as error:  # a callback's error would only be logged
            self._failure = error

    async def speed(self) -> float:
        """Items a second that are answered while the backlog is there."""
        await asyncio.sleep(WARM_UP)
        before, began = self._answered, time.perf_counter()
        await asyncio.sleep(SECONDS)
        speed = (self._answered - before) / (time.perf_counter() - began)
        if self._failure is not None:
            raise self._failure
        return speed


@contextlib.asynccontextmanager
async def _backlog(settings: Settings, texts: Sequence[str]) -> AsyncIterator[_Backlog]:
    backlog = _Backlog(settings, texts)
    async with backlog.publisher, backlog.session:
        yield backlog


async def _count(packs: int) -> AsyncIterator[int]:
    for number in range(packs):
        yield number


# ----------------------------------------------------------------------- report


def _grid(found: Mapping[int, Found]) -> Grid:
    return Grid(
        title="By items waiting",
        columns=["waiting", "answered, items/s", "worker, MiB", "broker, MiB"],
        rows=[
            [waiting, run.answered, run.worker / 2**20, run.broker / 2**20]
            for waiting, run in found.items()
        ],
    )


def _plots(found: Mapping[int, Found]) -> list[Plot]:
    names = [f"{waiting:,} waiting" for waiting in found]
    return [
        bars(
            "Speed of one worker, by what waits",
            "items/s",
            {name: run.answered for name, run in zip(names, found.values(), strict=True)},
            ours=names,
            name="speed",
        ),
        Plot(
            title="Resident memory, by what waits",
            kind="bars",
            y="MiB",
            categories=names,
            series=[
                Series(name="worker", y=[run.worker / 2**20 for run in found.values()]),
                Series(name="broker", y=[run.broker / 2**20 for run in found.values()]),
            ],
            ours=["worker"],
            name="memory",
        ),
    ]
