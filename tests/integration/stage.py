"""Workers without a model, for what is about scheduling alone."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Sequence

from lmaas.broker_config.messages import Reply, Result
from lmaas.broker_config.seals import Seal, Seals
from lmaas.broker_config.settings import Settings
from lmaas.workers.begun import Begun
from lmaas.workers.consumer import Consumer
from lmaas.workers.delivery import Delivery
from lmaas.workers.pack import Pack, read
from lmaas.workers.settling.answer import Answer
from lmaas.workers.settling.settler import Settler
from lmaas.workers.worker import Worker
from tests.integration.lanes import LIMIT, having, serving, until

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
