"""Malformed messages against a live worker, which serves a good client meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import msgspec
from aio_pika.abc import AbstractConnection

from benchmarks import rig
from benchmarks.failures import queues
from benchmarks.failures.malformed import Malformed, malformed, number_of
from benchmarks.failures.observed import Observed, free_port, observed
from benchmarks.failures.polling import until
from benchmarks.failures.processes import Process, started
from benchmarks.failures.raw import RawChannel
from benchmarks.report import Figure, Grid, Report
from lmaas.broker_config.settings import Settings
from lmaas.producer.client import Client

#: Messages whose confirms are waited for together; those that wait before more are sent.
BATCH: Final = 100
AHEAD: Final = 500
#: The share of the messages after which memory counts: caches are full then.
WARM_UP: Final = 0.25
#: Seconds between two looks, and between two calls of the good client.
POLL: Final = 0.05
#: Seconds without anything new after which nothing more is expected: longer than the first steps
#: of the retry ladder.
PATIENCE: Final = 45.0
#: Bytes that the allocator may keep, of a process of 100 MiB; that it may have for a moment.
MAY_GROW: Final = 16 * 2**20
MAY_PEAK: Final = 100 * 2**20
#: Seconds for which the event loop may stand still.
MAY_BLOCK: Final = 1.0

GOOD: Final = "a wonderful, moving film"
WORKER: Final = ("-m", "lmaas", "worker", "--processes", "1")


@dataclass(slots=True)
class Found:
    """What became of the messages."""

    sent: int = 0
    #: How many the broker made of those of which it makes more than one.
    copies: dict[int, int] = field(default_factory=dict)
    #: Those that asked for an answer, readably, with what was done to them.
    answerable: dict[int, str] = field(default_factory=dict)
    #: Answers and dead letters, by the message's number; None for copies that lost it.
    answered: Counter[int | None] = field(default_factory=Counter)
    dead_lettered: Counter[int | None] = field(default_factory=Counter)
    #: Messages that are in lanes and retry queues when the worker has ended.
    left: int = 0
    #: Seconds of each call of the good client.
    good: list[float] = field(default_factory=list)
    #: Resident bytes of the worker after the warm-up, and in the end.
    before: int = 0
    after: int = 0
    peak: int = 0
    #: Seconds for which its event loop stood still, at most.
    blocked: float = 0.0
    #: Packs that it was given again.
    redelivered: int = 0
    seconds: float = 0.0
    #: Times at which the worker lost a connection, and its exit code.
    disconnected: int = 0
    code: int | None = None

    @property
    def lost(self) -> dict[int, str]:
        """Neither answered nor dead-lettered, though they asked for an answer."""
        return {
            number: kind
            for number, kind in self.answerable.items()
            if not (self.answered[number] or self.dead_lettered[number])
        }

    @property
    def multiplied(self) -> dict[int | None, tuple[int, int]]:
        """Answers and dead letters of messages that have more of them than there were messages."""
        return {
            number: (self.answered[number], self.dead_lettered[number])
            for number in self.answered.keys() | self.dead_lettered.keys()
            if number is not None
            and max(self.answered[number], self.dead_lettered[number]) > self.copies.get(number, 1)
        }

    @property
    def settled(self) -> int:
        """Answers and copies so far."""
        return self.answered.total() + self.dead_lettered.total()


async def fuzz(settings: Settings, count: int, seed: int) -> Found:
    """`count` messages to a worker of its own, on the lanes of these settings."""
    found = Found()
    settings = msgspec.structs.replace(settings, health_port=free_port())
    began = time.monotonic()
    answers = f"{settings.names.results}.client.fuzz"
    async with (
        started(settings, *WORKER) as worker,
        observed(worker, settings.health_port) as seen,
        queues.connected(settings) as connection,
        connection.channel() as channel,
    ):
        await channel.declare_queue(answers, durable=True)
        enough = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            readers = [
                group.create_task(_read(settings, answers, found.answered)),
                group.create_task(_read(settings, settings.names.dead, found.dead_lettered)),
            ]
            good = group.create_task(_good_client(settings, found.good, enough))
            messages = malformed(seed, count, model=rig.MODEL, reply_to=answers)
            await _send(settings, connection, messages, count, worker, seen, found)
            await _until_settled(settings, connection, worker, found)
            await seen.count()
            found.redelivered, found.blocked = seen.redelivered, seen.longest
            found.after, found.peak = seen.memory, seen.most_memory
            enough.set()
            await good
            found.code = worker.code if worker.code is not None else await worker.drained()
            found.disconnected = worker.said("connection lost")
            found.left = await queues.waiting(connection, settings)
            for task in readers:
                task.cancel()
        await channel.queue_delete(answers)
    found.seconds = time.monotonic() - began
    return found


async def _send(
    settings: Settings,
    connection: AbstractConnection,
    messages: Iterator[Malformed],
    count: int,
    worker: Process,
    seen: Observed,
    found: Found,
) -> None:

    async def has_room() -> bool:
        return worker.code is not None or await queues.waiting(connection, settings) <= AHEAD

    async with RawChannel(settings) as raw:
        while batch := list(itertools.islice(messages, BATCH)):
            await raw.publish_all(
                settings.names.work, [(m.key, m.properties, m.body) for m in batch]
            )
            found.answerable |= {m.number: m.kind for m in batch if m.answerable}
            found.copies |= {m.number: m.copies for m in batch if m.copies > 1}
            found.sent += len(batch)
            await until(has_room, POLL)
            # What may still wait has taught the worker nothing.
            if not found.before and found.sent - AHEAD >= count * WARM_UP:
                seen.begin()
                found.before = seen.before


async def _until_settled(
    settings: Settings, connection: AbstractConnection, worker: Process, found: Found
) -> None:
    """Until all that is expected is there, or nothing new has come for long."""
    last, since = -1, time.monotonic()
    while worker.code is None and time.monotonic() - since < PATIENCE:
        if not found.lost and not await queues.waiting(connection, settings):
            return
        if found.settled != last:
            last, since = found.settled, time.monotonic()
        await asyncio.sleep(POLL)


async def _read(settings: Settings, queue: str, numbers: Counter[int | None]) -> None:
    async with RawChannel(settings) as raw:
        async for properties, _ in raw.consume(queue):
            numbers[number_of(properties)] += 1


async def _good_client(settings: Settings, seconds: list[float], enough: asyncio.Event) -> None:
    """Raises as soon as one call fails."""
    async with Client(settings) as client:
        while not enough.is_set():
            began = time.monotonic()
            result = await client.classify(rig.MODEL, GOOD)
            assert result.label == "positive"
            seconds.append(time.monotonic() - began)
            await asyncio.sleep(POLL)


def report(found: Found, seed: int) -> Report:
    calls = sorted(found.good)
    grown = found.after - found.before
    both = sum(1 for number in found.dead_lettered if found.answered[number])
    return Report(
        benchmark="fuzz",
        setting=f"{found.sent:,} malformed messages of seed {seed} to one worker, which serves a "
        f"good client meanwhile; memory after the first {WARM_UP:.0%}",
        figures=[
            Figure(name="worker ended or lost its connection",
                   value=found.disconnected + (found.code != 0), unit="times", at_most=0),
            Figure(name="asked for an answer, neither answered nor dead-lettered",
                   value=len(found.lost), unit="messages", at_most=0),
            Figure(name="left in lanes and retry queues", value=found.left, unit="messages",
                   at_most=0),
            Figure(name="more answers or dead letters than there were messages",
                   value=len(found.multiplied), unit="messages", at_most=0),
            Figure(name="delivered again", value=found.redelivered, unit="packs", at_most=0),
            Figure(name="memory grew by", value=grown / 2**20, unit="MiB",
                   at_most=MAY_GROW / 2**20),
            Figure(name="and for a moment by", value=(found.peak - found.before) / 2**20,
                   unit="MiB", at_most=MAY_PEAK / 2**20),
            Figure(name="event loop stood still, longest", value=found.blocked, unit="s",
                   at_most=MAY_BLOCK),
            Figure(name="good client, median", value=1000 * calls[len(calls) // 2], unit="ms"),
            Figure(name="good client, longest", value=1000 * calls[-1], unit="ms"),
            Figure(name="speed", value=found.sent / found.seconds, unit="messages/s"),
        ],
        tables=[
            Grid(
                title="What became of them",
                columns=["", "messages"],
                rows=[
                    ["asked for an answer, readably", len(found.answerable)],
                    ["answered", found.answered.total()],
                    ["dead-lettered", found.dead_lettered.total()],
                    ["both: answered with an error, and dead-lettered", both],
                ],
            ),
            Grid(title="Neither answered nor dead-lettered",
                 columns=["what was done to it", "messages"],
                 rows=[list(pair) for pair in Counter(found.lost.values()).most_common(20)]),
        ],
    )  # fmt: skip
