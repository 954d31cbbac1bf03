"""Plays a trace to a worker: packs go out when the trace says, whether earlier ones are answered
or not (an open loop), and what became of each is noted.

A pack's service time is what the worker says that its items took, and an overhead that is the same
for all packs of a run: what passed from one answer to the next beyond that, on average over the
packs that were there already. A wait is the time from publish to answer, without the service time;
ways through the broker count as waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final, Self

import click
import msgspec
import numpy as np

from benchmarks import paced, queueing, rig, simulator, traces
from benchmarks.load import arrive
from benchmarks.queueing import Seconds
from benchmarks.traces import Trace
from lmaas.broker_config.headers import Headers
from lmaas.broker_config.messages import Item, Reply, Request
from lmaas.broker_config.settings import Settings
from lmaas.producer.publishing import PackPublisher
from lmaas.producer.replies import Replies

#: Packs before those that count: estimates and prefetch settle.
WARM_UP: Final = 200
#: Seconds of a byte at the worker's pace: twenty-five times what the shipped model takes.
BYTE_SECONDS: Final = 1e-6
#: Packs that the overhead is measured with: mean seconds, coefficient of variation, load.
PACKS: Final = 600
MEAN, VARIATION, LOAD = 0.009, 1.5, 0.8
#: Seconds after which a pack has come to the worker.
ROUND_TRIP: Final = 0.002
#: Seconds within which a pack of a burst is published, at the slowest.
PUBLISHING: Final = 0.002
#: Classes are divided at these shares of the packs, by size.
CUTS: Final = (0.5, 1 - traces.LONGEST)


@dataclass(frozen=True)
class Run:
    """What became of the packs of a trace, one a place, in seconds from the beginning."""

    published: Seconds
    answered: Seconds
    #: Service times: what the worker says, and the overhead.
    seconds: Seconds
    #: How much later than the trace says a pack was published.
    late: Seconds

    #: What is overhead in each of `seconds`.
    overhead: float

    @classmethod
    def of(cls, rows: Sequence[tuple[float, float, float]], due: Seconds) -> Self:
        """From (published, answered, what the worker says) of each pack, in order of publishing."""
        published, answered, said = np.array(rows).T
        overhead = _overhead(published, answered, said)
        return cls(published, answered, said + overhead, published - due, overhead)

    @property
    def took(self) -> Seconds:
        return self.answered - self.published

    @property
    def waits(self) -> Seconds:
        return self.took - self.seconds

    @property
    def way(self) -> float:
        """The median wait of packs that found nothing unanswered: the way through the broker."""
        before = np.maximum.accumulate(np.concatenate(([0.0], self.answered[:-1])))
        alone = self.published >= before
        return float(np.median(self.waits[alone]))

    @property
    def rate(self) -> float:
        """Packs a second."""
        return float(self.published.size / self.published.max())

    @property
    def load(self) -> float:
        return self.rate * float(self.seconds.mean())

    def replayed(self, rule: simulator.Policy) -> Seconds:
        """Waits of the same packs with these service times under another rule."""
        return simulator.replay(self.published, self.seconds, rule)

    def by_class(self, values: Seconds) -> list[queueing.SizeClass]:
        """Of waits or times to answer."""
        return queueing.by_size(self.seconds, values, np.quantile(self.seconds, CUTS).tolist())


def _overhead(published: Seconds, answered: Seconds, said: Seconds) -> float:
    """The mean seconds beyond what the worker says, of packs for which it did not have to wait."""
    order = answered.argsort(kind="stable")
    gaps, own = np.diff(answered[order]), said[order[1:]]
    there = published[order[1:]] < answered[order[:-1]] - ROUND_TRIP
    # Who was run together with the one before counts as that one does: the gap before the first of
    # them has the time of all.
    together = gaps < own / 2
    there = there[np.maximum.accumulate(np.where(together, 0, np.arange(gaps.size)))]
    return max(float((gaps - own)[there].mean()), 0.0) if there.any() else 0.0


class Producer:
    """Publishes packs and says when: `Client.run` in its two halves."""

    def __init__(self, settings: Settings) -> None:
        self._replies = Replies(settings, uuid.uuid4().hex)
        self._publisher = PackPublisher(settings, "ordering")
        self.clock = asyncio.get_running_loop().time

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self._publisher)
            await stack.enter_async_context(self._replies.session)
            stack.push_async_callback(self._replies.close)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def publish(self, request: Request) -> asyncio.Task[tuple[float, float, float]]:
        """When it is confirmed: a task with its row for `Run.of`, on this clock.

        An answer may come before the confirm.
        """
        published = self.clock()
        correlation_id = uuid.uuid4().hex
        answer = self._replies.expect(correlation_id, request.model)
        sent = asyncio.create_task(
            self._publisher.publish_pack(
                request,
                reply_to=self._replies.queue_name,
                correlation_id=correlation_id,
                headers=Headers(),
            )
        )
        row = asyncio.create_task(self._row(published, sent, answer, request.model))
        await sent
        return row

    async def _row(
        self, published: float, sent: asyncio.Task[int], answer: asyncio.Future[Reply], model: str
    ) -> tuple[float, float, float]:
        reply = await answer
        answered = self.clock()
        if reply.timings is None:
            raise click.ClickException(f"a pack was refused: {reply.error or reply.results[0]}")
        self._publisher.learn(model, len(reply.results), await sent, reply.timings.cost)
        return published, answered, reply.timings.cost

    async def play(self, packs: Sequence[Request], arrivals: Seconds) -> Run:
        """Publish each pack at its time, however many are unanswered."""
        began = self.clock()
        sent = await arrive((began + arrivals).tolist(), lambda place: self.publish(packs[place]))
        rows = [await (await task) for task in sent]
        return Run.of([(p - began, a - began, c) for p, a, c in rows], arrivals)


class Packs:
    """Requests of real reviews, by their bytes of text."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._items = [Item(id=str(place), text=text) for place, text in enumerate(texts)]
        #: Bytes of text before each review.
        self._before = np.cumsum([0, *(len(text.encode()) for text in texts)])
        self._next = 0

    def of(self, sizes: Seconds) -> list[Request]:
        """A pack for each of `sizes` in bytes: at least a review, the next ones each time."""
        return [self._cut(size) for size in sizes.tolist()]

    def _cut(self, size: float) -> Request:
        if self._before[self._next] + size >= self._before[-1]:
            self._next = 0
        start = self._next
        end = int(np.searchsorted(self._before, self._before[start] + size))
        self._next = max(end, start + 1)
        return Request(model=rig.MODEL, items=self._items[start : self._next])


@dataclass
class Bench:
    """A broker, what is sent to it, and what one worker was found to take for it."""

    settings: Settings
    packs: Packs
    #: Seconds that a pack takes the worker beyond what it says, and those of a byte.
    overhead: float = 0.0
    per_byte: float = BYTE_SECONDS

    def requests(self, seconds: Seconds) -> list[Request]:
        """Packs that are expected to take so long."""
        return self.packs.of(np.maximum(seconds - self.overhead, 0) / self.per_byte)

    @contextlib.asynccontextmanager
    async def served(self, settings: Settings) -> AsyncIterator[Producer]:
        """One worker and a producer that have seen some packs."""
        async with self._worker(settings), Producer(settings) as producer:
            await self._warm_up(producer)
            yield producer

    def _worker(self, settings: Settings) -> contextlib.AbstractAsyncContextManager[object]:
        return paced.worker(settings, a_byte=BYTE_SECONDS)

    async def _warm_up(self, producer: Producer) -> None:
        await producer.play(self.requests(np.full(WARM_UP, MEAN)), np.zeros(WARM_UP))

    async def play(self, settings: Settings, trace: Trace) -> Run:
        async with self.served(settings) as producer:
            return await producer.play(self.requests(trace.seconds), trace.arrivals)

    async def burst(self, settings: Settings, packs: Sequence[Request]) -> Run:
        """All packs come while the worker is busy with a long one; time 0 is when it is done."""
        long = self.requests(np.array([PUBLISHING * len(packs)]))
        async with self.served(settings) as producer:
            busy = await producer.publish(*long)
            sent = [asyncio.create_task(producer.publish(pack)) for pack in packs]
            tasks = await asyncio.gather(*sent)
            if busy.done():
                raise click.ClickException(
                    "the worker began before all packs of a burst were there"
                )
            await busy
            rows = await asyncio.gather(*tasks)
        _, answered, said = min(rows, key=lambda row: row[1])
        began = answered - said - self.overhead
        there = [(0.0, answered - began, said) for _, answered, said in rows]
        return Run.of(there, np.zeros(len(packs)))

    async def calibrate(self) -> None:
        """Measure the overhead, and the seconds of a byte."""
        fifo = msgspec.structs.replace(self.settings, policy="fifo")
        trace = traces.steady(traces.lognormal(PACKS, MEAN, VARIATION), LOAD, 1.0, candidates=1)
        packs = self.requests(trace.seconds)
        async with self.served(fifo) as producer:
            run = await producer.play(packs, trace.arrivals)
        sent = sum(len(item.text or "") for pack in packs for item in pack.items)
        self.overhead = run.overhead
        self.per_byte = float((run.seconds - run.overhead).sum()) / sent
