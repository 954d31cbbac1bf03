"""Runs what a worker holds: together in the inference thread, and apart what came back."""

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
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.together import all_of
from lmaas.workers import metrics
from lmaas.workers.answering import Answerer, failed_reply, read
from lmaas.workers.apart import Apart
from lmaas.workers.consumer import Consumer, Delivery
from lmaas.workers.ready_queue import ReadyQueue
from lmaas.workers.replier import Answer, Replier

log = logging.getLogger(__name__)

#: Seconds after the last pack that came back until the process for such packs is ended.
APART_IDLE: Final = 30.0
#: See `grace`.
LONGEST_GRACE: Final = 5.0


def grace(settings: Settings) -> float:
    """Seconds that a worker whose run does not end has to say what else there is to say.

    Then the system ends it: the run may keep Python's lock, so that nothing else of it runs.
    """
    return min(settings.pack_timeout / 2, LONGEST_GRACE)


class Execution:
    """Takes packs from the ready queues, runs them, and hands their answers to the replier."""

    def __init__(
        self, settings: Settings, worker: str, models: Sequence[str], *, mortal: bool
    ) -> None:
        """`worker` is the name in the replies; `models` are those that were named, if any.

        With `mortal` the system ends the whole process when a run does not end and even keeps the
        event loop from turning.
        """
        self._settings = settings
        self._worker = worker
        self._named = bool(models)
        self._mortal = mortal
        self._answerer = Answerer(settings, worker)
        #: What is served, as far as it can be loaded.
        self.models = list(models) or self._answerer.repository.models()
        # One thread: the event loop stays free for heartbeats, and one batch runs at a time.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._apart = Apart(settings, worker)
        self._apart_executor = ThreadPoolExecutor(1, thread_name_prefix="apart")
        self._settling: set[asyncio.Task[None]] = set()
        #: Packs that came for the first time, and those that came back.
        self.ready: ReadyQueue[Delivery] = ReadyQueue(settings.ageing)
        self.suspects: ReadyQueue[Delivery] = ReadyQueue(settings.ageing)
        #: What packs cost, by model; once the models are loaded.
        self.estimators: dict[str, Estimator] = {}
        #: The packs that run.
        self.running: Sequence[Delivery] = ()
        #: Set when a run has passed its time limit.
        self.overdue = asyncio.Event()

    async def load(self) -> None:
        """Load the newest version of every model.

        Raises ModelNotFound or ModelDamaged when a named one cannot be, or none can.
        """
        loop = asyncio.get_running_loop()
        self.estimators = await loop.run_in_executor(self._executor, self._load)

    def _load(self) -> dict[str, Estimator]:
        """Their manifests say what packs cost."""
        repository = self._answerer.repository
        estimators = {}
        for model in self.models:
            try:
                manifest = self._answerer.load(model).manifest
            except ModelDamaged as error:
                if self._named:
                    raise
                repository.tell(f"not served: {error}")
            else:
                estimators[model] = Estimator(manifest.cost.line)
                self._apart.versions[model] = manifest.version
        if not estimators:
            raise ModelNotFound(
                f"no model can be served of those in {repository}; train one, or name its folder "
                "with --models"
            )
        self.models = list(estimators)
        return estimators

    async def run(self, replier: Replier, consumer: Consumer) -> None:
        """Until the ready queues are closed and empty."""
        await all_of(self._work(replier, consumer), self._work_apart(replier))

    async def settled(self) -> None:
        """Waits until every answer so far is with the broker."""
        while self._settling:
            await asyncio.wait(self._settling)

    def close(self) -> None:
        """A run that goes on is left to itself; the process apart is ended."""
        self._apart.stop()
        for executor in (self._executor, self._apart_executor):
            executor.shutdown(wait=False, cancel_futures=True)

    async def _work(self, replier: Replier, consumer: Consumer) -> None:
        """Take, run, answer, until the ready queue is closed; replies go out meanwhile."""
        loop = asyncio.get_running_loop()
        while deliveries := await self.ready.take():
            wanted = [d for d in deliveries if not self._settled_unrun(d, replier)]
            if not wanted:
                continue
            overdue = loop.call_later(self._settings.pack_timeout, self.overdue.set)
            self.running = wanted
            _begin(wanted)
            answers, seconds = await loop.run_in_executor(self._executor, self._run, wanted)
            self.running = ()
            overdue.cancel()
            metrics.ran(wanted, seconds)
            self._observe(wanted, seconds, consumer)
            for delivery, answer in zip(wanted, answers, strict=True):
                self._settle(replier.finish(delivery, answer))

    async def _work_apart(self, replier: Replier) -> None:
        """The same for packs that came back: each alone, in the process beside us."""
        loop = asyncio.get_running_loop()
        while deliveries := await self._next_suspects():
            for delivery in deliveries:
                await replier.look_for_caller(delivery)
                if self._settled_unrun(delivery, replier):
                    continue
                _begin([delivery])
                delivery.pack, reply = await loop.run_in_executor(
                    self._apart_executor, self._apart.answer, delivery.pack, *_body(delivery)
                )
                metrics.ran([delivery], time.monotonic() - delivery.began)
                self._settle(replier.finish(delivery, Answer.of(delivery, reply)))

    async def _next_suspects(self) -> list[Delivery]:
        """When none comes for a while, the process for them is ended."""
        try:
            async with asyncio.timeout(APART_IDLE):
                return await self.suspects.take()
        except TimeoutError:
            await asyncio.get_running_loop().run_in_executor(
                self._apart_executor, self._apart.close
            )
        return await self.suspects.take()

    def _settled_unrun(self, delivery: Delivery, replier: Replier) -> bool:
        """Whether nobody wants it to be run any more; what has to be said is on its way then."""
        deadline = delivery.headers.deadline_ms
        if replier.is_cancelled(delivery):
            self._settle(replier.skip(delivery))
        elif delivery.belongs is not None:
            self._settle(replier.move(delivery, delivery.belongs))
        elif deadline and time.time() > deadline / 1000 + self._settings.clock_skew:
            metrics.deadline_missed()
            log.info(
                "deadline passed",
                extra={"action": "deadline_exceeded", **tracing.context(delivery.headers)},
            )
            self._settle(self._expire(delivery, deadline, replier))
        elif replier.is_away(delivery):
            self._settle(replier.wait(delivery))
        else:
            return False
        return True

    async def _expire(self, delivery: Delivery, deadline_ms: int, replier: Replier) -> None:
        """Each of its items has the error, so that they have to be known."""
        if not delivery.pack.is_read:
            loop = asyncio.get_running_loop()
            if delivery.is_suspect:
                delivery.pack = await loop.run_in_executor(
                    self._apart_executor, self._apart.read, *_body(delivery)
                )
            else:
                await loop.run_in_executor(self._executor, self._read, delivery)
        reply = failed_reply(delivery.pack, _late(deadline_ms), self._worker)
        await replier.finish(delivery, Answer.of(delivery, reply))

    def _observe(self, deliveries: list[Delivery], seconds: float, consumer: Consumer) -> None:
        """Learn from packs that ran together, which are of one model, if any of them was run."""
        if all(d.pack.request is None for d in deliveries):
            return
        estimator = self.estimators[deliveries[0].model]
        sizes = [d.pack.size for d in deliveries]
        for delivery, share in zip(deliveries, estimator.shares(sizes, seconds), strict=True):
            consumer.ran(delivery, share)
        estimator.observe(sizes, seconds)
        consumer.tune()

    def _settle(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    @contextlib.contextmanager
    def _alarm(self) -> Iterator[None]:
        """The system ends the process (SIGALRM) when a run goes on although it is overdue."""
        if not self._mortal:
            yield
            return
        signal.setitimer(signal.ITIMER_REAL, self._settings.pack_timeout + grace(self._settings))
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _run(self, deliveries: list[Delivery]) -> tuple[list[Answer], float]:
        """In the inference thread: the answers, and the seconds they took."""
        began = time.perf_counter()
        with self._alarm():
            return self._answer(deliveries), time.perf_counter() - began

    def _answer(self, deliveries: list[Delivery]) -> list[Answer]:
        for delivery in deliveries:
            self._read(delivery)
        replies = self._answerer.answer([delivery.pack for delivery in deliveries])
        return [
            Answer.of(delivery, reply) for delivery, reply in zip(deliveries, replies, strict=True)
        ]

    def _read(self, delivery: Delivery) -> None:
        """What the event loop has left unread."""
        if not delivery.pack.is_read:
            arrived = delivery.pack.arrived
            delivery.pack = read(
                delivery.message.body,
                delivery.message.content_type,
                self._settings,
                delivery.model,
            )
            delivery.pack.arrived = arrived


def _body(delivery: Delivery) -> tuple[bytes, str | None, str]:
    """With the model whose lane it came by."""
    return delivery.message.body, delivery.message.content_type, delivery.model


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
