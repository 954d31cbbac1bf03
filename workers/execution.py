"""Runs what a worker holds: together in the inference thread, and isolated what came back.

What runs together is begun and left alone between two batches when something shorter has come.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Final

from lmaas.broker_config import tracing
from lmaas.broker_config.codes import Code
from lmaas.broker_config.errors import ModelDamaged, ModelNotFound
from lmaas.broker_config.estimator import Estimator
from lmaas.broker_config.messages import ItemError
from lmaas.broker_config.seals import Seal, Seals
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.together import all_of
from lmaas.workers import metrics
from lmaas.workers.answering import Answerer
from lmaas.workers.begun import Begun
from lmaas.workers.consumer import Consumer
from lmaas.workers.delivery import Delivery
from lmaas.workers.isolated.processes import Isolation
from lmaas.workers.models import Models
from lmaas.workers.pack import failed_reply, read
from lmaas.workers.ready_queue import ReadyQueue
from lmaas.workers.run import Run
from lmaas.workers.settling.answer import Answer
from lmaas.workers.settling.settler import Settler
from lmaas.workers.shares import Shares

log = logging.getLogger(__name__)

#: Seconds after the last pack that came back until the process for such packs is ended.
ISOLATED_IDLE: Final = 30.0
#: What runs is left alone for what takes less than this share of what is left of it. Packs of about
#: the same size, each estimated a little too short, would else all be begun, and none be ended.
SHORTER: Final = 0.5
#: See `grace`.
LONGEST_GRACE: Final = 5.0


def grace(settings: Settings) -> float:
    """Seconds that a worker whose run does not end has to say what else there is to say.

    Then the system ends it: the run may keep Python's lock, so that nothing else of it runs.
    """
    return min(settings.pack_timeout / 2, LONGEST_GRACE)


class Execution:
    """Takes packs from the ready queues, runs them, and hands their answers to the settler."""

    def __init__(
        self, settings: Settings, worker: str, models: Sequence[str], *, mortal: bool
    ) -> None:
        """`worker` is the name in the replies; `models` are those that were named, if any.

        With `mortal` the system ends the whole process when a run does not end and even keeps the
        event loop from turning.
        """
        self._settings = settings
        self._seals = Seals(settings)
        self._worker = worker
        self._named = bool(models)
        self._mortal = mortal
        self._answerer = Answerer(settings, worker)
        #: What is served, as far as it can be loaded.
        self.models = list(models) or self.loaded.repository.models()
        # One thread: the event loop stays free for heartbeats, and one batch runs at a time.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._isolation = Isolation(settings, worker, self.loaded.current)
        self._settling: set[asyncio.Task[None]] = set()
        #: What was done for each tenant.
        self._shares = Shares(settings.tenant_memory)
        #: Packs that came for the first time, and those that came back.
        self.ready: ReadyQueue[Delivery] = ReadyQueue(settings.ageing, self._shares)
        self.redelivered: ReadyQueue[Delivery] = ReadyQueue(settings.ageing, self._shares)
        #: What packs cost, by model; once the models are loaded.
        self.estimators: dict[str, Estimator] = {}
        #: The packs that run.
        self.running: Sequence[Delivery] = ()
        #: What was left alone for something shorter.
        self._paused: list[Begun] = []
        #: Set when a run has passed its time limit.
        self.overdue = asyncio.Event()

    @property
    def loaded(self) -> Models:
        """The versions that are loaded, and which of them answer."""
        return self._answerer.models

    async def load(self) -> None:
        """Load the current version of every model.

        Raises ModelNotFound or ModelDamaged when a named one cannot be, or none can.
        """
        loop = asyncio.get_running_loop()
        self.estimators = await loop.run_in_executor(self._executor, self._load)

    def _load(self) -> dict[str, Estimator]:
        """Their manifests say what packs cost."""
        models = self.loaded
        estimators = {}
        for model in self.models:
            try:
                manifest = models.load(model).manifest
            except ModelDamaged as error:
                if self._named:
                    raise
                models.repository.tell(f"not served: {error}")
            else:
                estimators[model] = Estimator(manifest.cost.calibration)
        if not estimators:
            raise ModelNotFound(
                f"no model can be served of those in {models.repository}; train one, or name its "
                "folder with --models"
            )
        self.models = list(estimators)
        return estimators

    async def run(self, settler: Settler, consumer: Consumer) -> None:
        """Until the ready queues are closed and empty."""
        await all_of(self._work(settler, consumer), self._work_isolated(settler))

    async def settled(self) -> None:
        """Waits until every answer so far is with the broker."""
        while self._settling:
            await asyncio.wait(self._settling)

    def close(self) -> None:
        """A run that goes on is left to itself; isolated processes are ended."""
        self._isolation.stop()
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _work(self, settler: Settler, consumer: Consumer) -> None:
        """Take, run, answer, until the ready queue is closed; replies go out meanwhile."""
        while begun := await self._next(settler):
            answers = await self._run_on(begun, settler)
            if answers is None:
                self._paused.append(begun)
                continue
            metrics.ran(begun.deliveries, begun.spent)
            self._observe(begun.deliveries, begun.spent, consumer)
            for delivery, answer in zip(begun.deliveries, answers, strict=True):
                self._settle(settler.finish(delivery, answer))

    async def _next(self, settler: Settler) -> Begun | None:
        """What is to run now: what was left alone, or what comes before it; None at the end."""
        while True:
            begun = self._first_paused()
            if begun is not None and not self._comes_before(begun):
                self._paused.remove(begun)
            elif deliveries := await self.ready.take():
                begun = Begun(deliveries)
            else:
                return None
            begun.drop({one for one in begun.deliveries if self._settled_unrun(one, settler)})
            if begun.deliveries:
                return begun

    def _first_paused(self) -> Begun | None:
        """What comes first of what was left alone."""
        if not self._paused:
            return None
        order = self.ready.order(set[str]().union(*(one.tenants for one in self._paused)))
        return min(self._paused, key=lambda one: one.place(order))

    async def _run_on(self, begun: Begun, settler: Settler) -> list[Answer] | None:
        """The answers; None when it was left alone before its end."""
        loop = asyncio.get_running_loop()
        left = self._settings.pack_timeout - begun.spent
        overdue = loop.call_later(left, self.overdue.set)
        self.running = begun.deliveries
        if begun.run is None:
            _begin(begun.deliveries)
        try:
            return await loop.run_in_executor(self._executor, self._run, begun, settler)
        finally:
            self.running = ()
            overdue.cancel()

    def _comes_before(self, begun: Begun) -> bool:
        """Whether something that waits is far shorter than what is left of what was begun.

        The next pack of the same job or stream never is: that does not end sooner by it.
        """
        order = self.ready.order(begun.tenants)
        head = self.ready.head_in(order)
        if head is None:
            return False
        place, delivery = head
        if place >= begun.place(order) or delivery.seconds >= SHORTER * begun.remaining:
            return False
        return not delivery.stream or delivery.stream not in {
            one.stream for one in begun.deliveries
        }

    async def _work_isolated(self, settler: Settler) -> None:
        """The same for packs that came back: each alone, in a process beside us."""
        while deliveries := await self._next_redelivered():
            for delivery in deliveries:
                await settler.claims.look(delivery)
                if not self._settled_unrun(delivery, settler):
                    running = asyncio.create_task(self._run_isolated(delivery, settler))
                    await self._isolation.do(running)
        await self._isolation.done()

    async def _run_isolated(self, delivery: Delivery, settler: Settler) -> None:
        _begin([delivery])
        delivery.pack, reply = await self._isolation.answer(delivery.pack, *_body(delivery))
        seconds = time.monotonic() - delivery.began
        metrics.ran([delivery], seconds)
        self._shares.add(delivery.tenant, seconds)
        self._settle(settler.finish(delivery, Answer.of(delivery, reply)))

    async def _next_redelivered(self) -> list[Delivery]:
        """When none comes for a while, the processes for them are ended."""
        try:
            async with asyncio.timeout(ISOLATED_IDLE):
                return await self.redelivered.take()
        except TimeoutError:
            await self._isolation.rest()
        return await self.redelivered.take()

    def _settled_unrun(self, delivery: Delivery, settler: Settler) -> bool:
        """Whether nobody wants it to be run any more; what has to be said is on its way then."""
        if settler.claims.is_cancelled(delivery):
            self._settle(settler.skip(delivery))
        elif delivery.belongs is not None:
            self._settle(settler.move(delivery, delivery.belongs))
        elif self._is_late(delivery):
            metrics.deadline_missed()
            log.info(
                "deadline passed",
                extra={"action": "deadline_exceeded", **tracing.context(delivery.headers)},
            )
            self._settle(self._expire(delivery, settler))
        elif settler.claims.is_away(delivery):
            self._settle(settler.wait(delivery))
        else:
            return False
        return True

    def _is_late(self, delivery: Delivery) -> bool:
        deadline = delivery.headers.deadline_ms
        return deadline is not None and time.time() > deadline / 1000 + self._settings.clock_skew

    async def _expire(self, delivery: Delivery, settler: Settler) -> None:
        """Each of its items has the error, so that they have to be known."""
        if not delivery.pack.is_read:
            if delivery.is_redelivered:
                delivery.pack = await self._isolation.read(*_body(delivery))
            else:
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(self._executor, self._read, delivery)
        reply = failed_reply(delivery.pack, _late(delivery.headers.deadline_ms or 0), self._worker)
        await settler.finish(delivery, Answer.of(delivery, reply))

    def _observe(self, deliveries: list[Delivery], seconds: float, consumer: Consumer) -> None:
        """Learn from packs that ran together, which are of one model, if any of them was run."""
        if all(d.pack.request is None for d in deliveries):
            return
        estimator = self.estimators[deliveries[0].model]
        packs = [(len(d.pack), d.pack.size) for d in deliveries]
        for delivery, share in zip(deliveries, estimator.shares(packs, seconds), strict=True):
            consumer.ran(delivery, share)
            self._shares.add(delivery.tenant, share)
        estimator.observe(packs, seconds)
        consumer.order_again(deliveries[0])
        consumer.tune()

    def _settle(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    @contextlib.contextmanager
    def _alarm(self, seconds: float) -> Iterator[None]:
        """The system ends the process (SIGALRM) when a run goes on although it is overdue."""
        if not self._mortal:
            yield
            return
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.0) + grace(self._settings))
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _run(self, begun: Begun, settler: Settler) -> list[Answer] | None:
        """In the inference thread, until all of it is answered or something else comes first."""
        began = time.perf_counter()
        try:
            with self._alarm(self._settings.pack_timeout - begun.spent):
                run = begun.run or self._begun(begun)
                ended = run.advance(lambda: self._is_left_alone(begun, settler))
                return begun.answers() if ended else None
        finally:
            begun.spent += time.perf_counter() - began

    def _begun(self, begun: Begun) -> Run:
        for delivery in begun.deliveries:
            self._read(delivery)
            delivery.pack.seconds = delivery.seconds
        return begun.begin(self._answerer)

    def _is_left_alone(self, begun: Begun, settler: Settler) -> bool:
        """Whether the event loop has to look before the next batch."""
        return self._comes_before(begun) or any(
            settler.claims.is_cancelled(one) or self._is_late(one) for one in begun.deliveries
        )

    def _read(self, delivery: Delivery) -> None:
        """What the event loop has left unread."""
        if not delivery.pack.is_read:
            before = delivery.pack
            delivery.pack = read(
                delivery.message.body,
                delivery.message.content_type,
                self._settings,
                delivery.model,
                self._seals.opening(delivery.seal),
            )
            delivery.pack.arrived, delivery.pack.version = before.arrived, before.version


def _body(delivery: Delivery) -> tuple[bytes, str | None, str, Seal | None]:
    """With the model whose lane it came by, and its seal."""
    message = delivery.message
    return message.body, message.content_type, delivery.model, delivery.seal


def _late(deadline_ms: int) -> ItemError:
    """Whoever set the deadline, and still waits, has another clock."""
    # It has passed, so that it is in a year that there is.
    deadline, now = datetime.fromtimestamp(deadline_ms / 1000, UTC), datetime.now(UTC)
    return ItemError(
        code=Code.DEADLINE_EXCEEDED,
        message=(
            f"its deadline passed in the queue: {deadline:%F %T} UTC, and this worker's clock "
            f"shows {now:%F %T}; if it was sent just now, the sender's clock is wrong, or ours"
        ),
    )


def _begin(deliveries: Sequence[Delivery]) -> None:
    now = time.monotonic()
    for delivery in deliveries:
        delivery.began = now
    metrics.began(deliveries)
