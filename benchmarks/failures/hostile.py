"""A good client beside somebody who means harm: does it notice?"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import msgspec

from benchmarks import rig
from benchmarks.failures import queues
from benchmarks.failures.attacks import Attack, attacks
from benchmarks.failures.malformed import meant, number_of
from benchmarks.failures.observed import free_port, observed
from benchmarks.failures.polling import until
from benchmarks.failures.processes import started
from benchmarks.failures.raw import RawChannel
from benchmarks.report import Figure, Grid, Report
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import routing_key
from lmaas.producer.client import Client

#: Seconds of the calm phase; of a call to the next; from an attack to the next.
CALM: Final = 15.0
PAUSE: Final = 0.005
BETWEEN: Final = 0.3
#: Seconds for all attacks to be answered or dead-lettered.
PATIENCE: Final = 60.0
#: Goals: of the good client's p99 under attack to that in the calm, and of the worker's memory.
MAY_SLOW: Final = 2.0
MAY_GROW: Final = 50 * 2**20

GOOD: Final = "a wonderful, moving film"
WORKER: Final = ("-m", "lmaas", "worker", "--processes", "1")


@dataclass(slots=True)
class Found:
    """What was seen of the good client, and of the worker."""

    #: Seconds of each call of the good client.
    calm: list[float] = field(default_factory=list)
    attacked: list[float] = field(default_factory=list)
    #: Messages that the broker made of the attacks; answers to them and dead letters.
    expected: Counter[int] = field(default_factory=Counter)
    answered: Counter[int | None] = field(default_factory=Counter)
    dead_lettered: Counter[int | None] = field(default_factory=Counter)
    kinds: dict[int, str] = field(default_factory=dict)
    #: Bytes by which the worker's memory grew, in the end and for a moment.
    grown: int = 0
    peak: int = 0
    #: Seconds for which its event loop stood still, at most.
    blocked: float = 0.0
    redelivered: int = 0
    disconnected: int = 0
    #: Messages in lanes and retry queues when all is done.
    left: int = 0
    code: int | None = None

    @property
    def wrong(self) -> dict[str, tuple[int, int, int]]:
        """Kinds that were not answered as often as sent: sent, answered, dead-lettered."""
        return {
            self.kinds[number]: (sent, self.answered[number], self.dead_lettered[number])
            for number, sent in self.expected.items()
            if self.answered[number] != sent or self.dead_lettered[number] > sent
        }


async def hostile(
    settings: Settings, chosen: list[Attack], calm: float = CALM, between: float = BETWEEN
) -> Found:
    """Each attack once against a worker of its own, on the lanes of these settings."""
    found = Found()
    settings = msgspec.structs.replace(settings, health_port=free_port())
    answers = f"{settings.names.results}.client.hostile"
    async with (
        started(settings, *WORKER) as worker,
        queues.connected(settings) as connection,
        connection.channel() as channel,
        Client(settings) as client,
        RawChannel(settings) as answered,
        RawChannel(settings) as dead_lettered,
        observed(worker, settings.health_port) as seen,
    ):
        await channel.declare_queue(answers, durable=True)
        await _call_until(client, found.calm, asyncio.get_running_loop().time() + calm)
        seen.begin()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(_read(answered, answers, found.answered)),
                group.create_task(_read(dead_lettered, settings.names.dead, found.dead_lettered)),
                group.create_task(_call_until(client, found.attacked, float("inf"))),
            ]
            await _attack(settings, chosen, answers, between, found)

            async def settled() -> bool:
                return worker.code is not None or not found.wrong

            try:
                async with asyncio.timeout(PATIENCE):
                    await until(settled)
            except TimeoutError:
                pass  # it is in the report
            for task in tasks:
                task.cancel()
        await seen.count()
        found.grown, found.peak = seen.memory - seen.before, seen.most_memory - seen.before
        found.blocked, found.redelivered = seen.longest, seen.redelivered
        found.disconnected = worker.said("connection lost")
        found.code = worker.code if worker.code is not None else await worker.drained()
        found.left = await queues.waiting(connection, settings)
        await channel.queue_delete(answers)
    return found


async def _attack(
    settings: Settings, chosen: list[Attack], answers: str, between: float, found: Found
) -> None:
    async with RawChannel(settings) as raw:
        for number, attack in enumerate(chosen):
            message = meant(number, attack, routing_key(rig.MODEL, "short"), answers)
            found.kinds[number], found.expected[number] = attack.kind, attack.copies
            await raw.publish_all(
                settings.names.work, [(message.key, message.properties, message.body)]
            )
            await asyncio.sleep(between)


async def _call_until(client: Client, seconds: list[float], end: float) -> None:
    """One call after the other. Raises as soon as one fails."""
    while asyncio.get_running_loop().time() < end:
        began = time.monotonic()
        result = await client.classify(rig.MODEL, GOOD)
        assert result.label == "positive"
        seconds.append(time.monotonic() - began)
        await asyncio.sleep(PAUSE)


async def _read(raw: RawChannel, queue: str, numbers: Counter[int | None]) -> None:
    async for properties, _ in raw.consume(queue):
        numbers[number_of(properties)] += 1


async def measure(settings: Settings) -> Found:
    """All attacks."""
    return await hostile(settings, attacks(rig.MODEL))


def _p99(seconds: list[float]) -> float:
    return sorted(seconds)[int(0.99 * (len(seconds) - 1))]


def report(found: Found) -> Report:
    calm, attacked = _p99(found.calm), _p99(found.attacked)
    longest = 1000 * max(found.attacked)
    return Report(
        benchmark="hostile",
        setting=f"{len(found.expected)} messages that mean harm, one of each kind, to one worker, "
        "which serves a good client meanwhile; memory from the first attack on",
        figures=[
            Figure(name="good client, p99 in the calm", value=1000 * calm, unit="ms"),
            Figure(name="good client, p99 under attack", value=1000 * attacked, unit="ms"),
            Figure(name="the one to the other", value=attacked / calm, unit="", at_most=MAY_SLOW),
            Figure(name="good client, longest under attack", value=longest, unit="ms"),
            Figure(name="memory grew by", value=found.grown / 2**20, unit="MiB",
                   at_most=MAY_GROW / 2**20),
            Figure(name="and for a moment by", value=found.peak / 2**20, unit="MiB"),
            Figure(name="event loop stood still, longest", value=1000 * found.blocked, unit="ms"),
            Figure(name="delivered again", value=found.redelivered, unit="packs", at_most=0),
            Figure(name="worker ended or lost its connection",
                   value=found.disconnected + (found.code != 0), unit="times", at_most=0),
            Figure(name="kinds not answered once a message", value=len(found.wrong), unit="kinds",
                   at_most=0),
            Figure(name="left in lanes and retry queues", value=found.left, unit="messages",
                   at_most=0),
        ],
        tables=[
            Grid(title="Not answered once a message",
                 columns=["kind", "messages", "answers", "dead-lettered"],
                 rows=[[kind, *counts] for kind, counts in found.wrong.items()]),
        ] if found.wrong else [],
    )  # fmt: skip
