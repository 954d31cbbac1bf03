"""The life of a worker: start, run, drain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from broker_config import tracing
from broker_config.connection import Publisher
from broker_config.errors import ModelNotFound, WorkerStuck
from broker_config.estimator import Estimator
from broker_config.messages import Code, ItemError
from broker_config.scheduling import Cost
from broker_config.settings import Settings
from workers import metrics
from workers.answering import Answerer, failed_reply
from workers.apart import Apart
from workers.consumer import Consumer, Delivery, Lane
from workers.ready_queue import ReadyQueue
from workers.replier import Answer, Replier
from workers.repository import Repository
from workers.watch import Watch

log = logging.getLogger(__name__)

#: Seconds after the last pack that came back until the process for such packs is ended.
APART_IDLE: Final = 30.0
#: Seconds that a worker whose run does not end has to say what else there is to say, before the
#: system ends it: the run may keep Python's lock, so that nothing else of the worker runs.
ALARM_GRACE: Final = 5.0


class Worker:
    """Serves models from their lanes until it is told to stop."""

    def __init__(
        self, settings: Settings, models: Sequence[str] = (), *, mortal: bool = False
    ) -> None:
        """`models` are served; all of the repository when none is named.

        With `mortal` the system ends the whole process when a run does not end and even keeps the
        event loop from turning. Raises ModelNotFound when the repository is empty.
        """
        self.name = f"{socket.gethostname()}-{os.getpid()}"
        self.settings = settings
        self.models = list(models) or Repository(settings.models).models()
        if not self.models:
            raise ModelNotFound(
                f"no models in {settings.models!r}; train one, or name the folder with --models"
            )
        self._answerer = Answerer(settings, self.name)
        # One thread: the event loop stays free for heartbeats, and one batch runs at a time.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._ready: ReadyQueue[Delivery] = ReadyQueue(settings.ageing)
        self._apart = Apart(settings, self.name, self.models)
        self._apart_executor = ThreadPoolExecutor(1, thread_name_prefix="apart")
        #: Packs that came back.
        self._suspects: ReadyQueue[Delivery] = ReadyQueue(settings.ageing)
        self._mortal = mortal
        #: What packs cost, by model.
        self.estimators: dict[str, Estimator] = {}
        #: The packs that run.
        self.running: Sequence[Delivery] = ()
        #: None until the lanes are consumed.
        self.watch: Watch | None = None
        self._stop = asyncio.Event()
        self._overdue = asyncio.Event()
        self._settling: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        """Begin to drain; `run` returns when that is done. For a signal handler."""
        self._stop.set()

    @property
    def not_ready(self) -> str | None:
        """Why nothing is taken from the queues; None when it is."""
        if self._stop.is_set():
            return "draining"
        return self.watch.problem if self.watch else "starting"

    @property
    def lanes(self) -> Sequence[Lane]:
        """What it consumes."""
        return self.watch.lanes if self.watch else ()

    @property
    def held(self) -> int:
        """Packs that wait here to be run."""
        return len(self._ready) + len(self._suspects)

    async def run(self, started: asyncio.Event | None = None) -> None:
        """Serve until `stop`; `started` is set when all lanes are consumed.

        Raises ModelError or BrokerError when it cannot go on, WorkerStuck when a run does not end
        within `pack_timeout`, or within `drain_timeout` after `stop`: its thread still runs then.
        """
        try:
            async with contextlib.AsyncExitStack() as stack:
                if self.settings.health_port:
                    # It costs a worker that tells nobody neither time nor memory.
                    from workers.health import serving

                    await stack.enter_async_context(serving(self))
                starting = asyncio.create_task(self._start(stack), name="start")
                if await self._ended_before_stop(starting):
                    links = starting.result()
                    log.info(
                        "ready: %s",
                        ", ".join(self.models),
                        extra={"action": "worker_ready", "worker": self.name},
                    )
                    if started:
                        started.set()
                    await self._until_stopped(*links)
        finally:
            self._apart.stop()
            for executor in (self._executor, self._apart_executor):
                executor.shutdown(wait=False, cancel_futures=True)

    async def _start(self, stack: contextlib.AsyncExitStack) -> tuple[Publisher, Consumer]:
        loop = asyncio.get_running_loop()
        self.estimators = await loop.run_in_executor(self._executor, self._load)
        publisher = Publisher(self.settings, f"{self.name} publish")
        consumer = Consumer(self.settings, self.name, self.estimators, self._ready, self._suspects)
        await stack.enter_async_context(publisher)
        await stack.enter_async_context(consumer.session)
        self.watch = Watch(publisher, consumer)
        return publisher, consumer

    async def _ended_before_stop(self, task: asyncio.Task[Any]) -> bool:
        """Waits for the task or `stop`, which cancels it: the broker may be long in coming."""
        stopping = asyncio.create_task(self._stop.wait(), name="stop")
        try:
            await asyncio.wait([task, stopping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _cancelled(task, stopping)
        return not task.cancelled()

    def _load(self) -> dict[str, Estimator]:
        """Load the newest version of every model; their calibration says what packs cost."""
        estimators = {}
        for model in self.models:
            calibration = self._answerer.load(model).manifest.calibration
            cost = Cost(calibration.fixed_seconds, calibration.seconds_per_byte)
            estimators[model] = Estimator(cost)
        return estimators

    async def _until_stopped(self, publisher: Publisher, consumer: Consumer) -> None:
        replier = Replier(self.name, self.settings, publisher, consumer)
        working = asyncio.gather(
            asyncio.create_task(self._work(replier, consumer), name="work"),
            asyncio.create_task(self._work_apart(replier), name="work apart"),
        )
        stopping = asyncio.create_task(self._stop.wait(), name="stop")
        overdue = asyncio.create_task(self._overdue.wait(), name="overdue")
        sessions = (publisher, consumer.session)
        failing = [asyncio.create_task(session.failed()) for session in sessions]
        assert self.watch is not None
        failing.append(asyncio.create_task(self.watch.run(), name="watch"))
        ending: list[asyncio.Future[Any]] = [working, *failing]
        try:
            await asyncio.wait([stopping, overdue, *ending], return_when=asyncio.FIRST_COMPLETED)
            if stopping.done() or overdue.done():
                await self._drain(working, consumer)
            for future in ending:
                if future.done():
                    future.result()
        finally:
            await _cancelled(stopping, overdue, *ending)

    async def _drain(self, working: asyncio.Future[Any], consumer: Consumer) -> None:
        """Take no more, finish what was begun, send what is to be sent."""
        stuck = self._overdue.is_set()
        limit = ALARM_GRACE / 2 if stuck else self.settings.drain_timeout
        log.info("draining", extra={"action": "drain"})
        try:
            async with asyncio.timeout(limit):
                await consumer.stop()
                if not stuck:
                    await asyncio.wait([working])
                while self._settling:
                    await asyncio.wait(self._settling)
        except TimeoutError:
            stuck = True
        if stuck:
            which = "pack_timeout" if self._overdue.is_set() else "drain_timeout"
            raise WorkerStuck(
                f"a run did not end within {getattr(self.settings, which):g} s (setting {which}); "
                "the broker gives its packs to another worker"
            )

    async def _work(self, replier: Replier, consumer: Consumer) -> None:
        """Take, run, answer, until the ready queue is closed; replies go out meanwhile."""
        loop = asyncio.get_running_loop()
        while deliveries := await self._ready.take():
            wanted = [d for d in deliveries if not self._settled_unrun(d, replier)]
            if not wanted:
                continue
            overdue = loop.call_later(self.settings.pack_timeout, self._overdue.set)
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
                if self._settled_unrun(delivery, replier):
                    continue
                _begin([delivery])
                run = loop.run_in_executor(self._apart_executor, self._apart.answer, delivery.pack)
                reply = await run
                metrics.ran([delivery], time.monotonic() - delivery.began)
                self._settle(replier.finish(delivery, Answer.of(delivery, reply)))

    async def _next_suspects(self) -> list[Delivery]:
        """When none comes for a while, the process for them is ended."""
        try:
            async with asyncio.timeout(APART_IDLE):
                return await self._suspects.take()
        except TimeoutError:
            await asyncio.get_running_loop().run_in_executor(
                self._apart_executor, self._apart.close
            )
        return await self._suspects.take()

    def _settled_unrun(self, delivery: Delivery, replier: Replier) -> bool:
        """Whether nobody wants it to be run any more; what has to be said is on its way then."""
        deadline = delivery.headers.deadline_ms
        if replier.is_cancelled(delivery):
            self._settle(replier.skip(delivery))
        elif delivery.belongs is not None:
            self._settle(replier.move(delivery, delivery.belongs))
        elif deadline and time.time() > deadline / 1000 + self.settings.clock_skew:
            metrics.deadline_missed()
            log.info(
                "deadline passed",
                extra={"action": "deadline_exceeded", **tracing.context(delivery.headers)},
            )
            fault = ItemError(
                code=Code.DEADLINE_EXCEEDED, message="its deadline passed in the queue"
            )
            reply = failed_reply(delivery.pack, fault, self.name)
            self._settle(replier.finish(delivery, Answer.of(delivery, reply)))
        else:
            return False
        return True

    def _observe(self, deliveries: list[Delivery], seconds: float, consumer: Consumer) -> None:
        """Learn from packs that ran together, when they were of one model."""
        models = {d.pack.request.model for d in deliveries if d.pack.request}
        if len(models) != 1 or not (estimator := self.estimators.get(models.pop())):
            return
        sizes = [d.pack.size for d in deliveries]
        for delivery, share in zip(deliveries, estimator.shares(sizes, seconds), strict=True):
            consumer.prefetch.ran(delivery.lane, share)
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
        signal.setitimer(signal.ITIMER_REAL, self.settings.pack_timeout + ALARM_GRACE)
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
        replies = self._answerer.answer([delivery.pack for delivery in deliveries])
        return [
            Answer.of(delivery, reply) for delivery, reply in zip(deliveries, replies, strict=True)
        ]


def _begin(deliveries: Sequence[Delivery]) -> None:
    now = time.monotonic()
    for delivery in deliveries:
        delivery.began = now
    metrics.began(deliveries)


async def _cancelled(*tasks: asyncio.Future[Any]) -> None:
    """Cancels those that have not ended, and waits for their end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
