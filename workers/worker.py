"""The life of a worker: start, run, drain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from broker_config.connection import Publisher
from broker_config.errors import ModelNotFound
from broker_config.estimator import Estimator
from broker_config.messages import Code, ItemError, Reply, failed
from broker_config.scheduling import Cost
from broker_config.settings import Settings
from workers.answering import Answerer
from workers.consumer import Consumer, Delivery
from workers.ready_queue import ReadyQueue
from workers.replier import Replier, encoded
from workers.repository import Repository

log = logging.getLogger(__name__)


class Worker:
    """Serves models from their lanes until it is told to stop."""

    def __init__(self, settings: Settings, models: Sequence[str] = ()) -> None:
        """`models` are served; all of the repository when none is named.

        Raises ModelNotFound when the repository is empty.
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
        #: What packs cost, by model.
        self.estimators: dict[str, Estimator] = {}
        self._stop = asyncio.Event()
        self._settling: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        """Begin to drain; `run` returns when that is done. For a signal handler."""
        self._stop.set()

    async def run(self, started: asyncio.Event | None = None) -> None:
        """Serve until `stop`; `started` is set when all lanes are consumed.

        Raises ModelError or BrokerError when it cannot go on.
        """
        try:
            async with contextlib.AsyncExitStack() as stack:
                starting = asyncio.create_task(self._start(stack), name="start")
                if await self._ended_before_stop(starting):
                    links = starting.result()
                    log.info("ready: %s", ", ".join(self.models), extra={"action": "worker_ready"})
                    if started:
                        started.set()
                    await self._until_stopped(*links)
        finally:
            self._executor.shutdown(wait=False, cancel_futures=True)

    async def _start(self, stack: contextlib.AsyncExitStack) -> tuple[Publisher, Consumer]:
        loop = asyncio.get_running_loop()
        self.estimators = await loop.run_in_executor(self._executor, self._load)
        publisher = Publisher(self.settings, f"{self.name} publish", outlasts_alarms=True)
        consumer = Consumer(self.settings, self.name, self.estimators, self._ready)
        await stack.enter_async_context(publisher)
        await stack.enter_async_context(consumer.session)
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
        replier = Replier(self.name, self.settings.names, publisher, consumer)
        working = asyncio.create_task(self._work(replier, consumer), name="work")
        stopping = asyncio.create_task(self._stop.wait(), name="stop")
        lost = [asyncio.create_task(session.failed()) for session in (publisher, consumer.session)]
        tasks: list[asyncio.Task[Any]] = [working, stopping, *lost]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if stopping.done():
                await self._drain(working, consumer)
            for task in (working, *lost):
                if task.done():
                    task.result()
        finally:
            await _cancelled(*tasks)

    async def _drain(self, working: asyncio.Task[None], consumer: Consumer) -> None:
        log.info("draining", extra={"action": "drain"})
        await consumer.stop()
        _, late = await asyncio.wait([working], timeout=self.settings.drain_timeout)
        if late:
            log.warning(
                "not finished within %g s: the broker will redeliver it",
                self.settings.drain_timeout,
                extra={"action": "drain_timeout"},
            )

    async def _work(self, replier: Replier, consumer: Consumer) -> None:
        """Take, run, answer, until the ready queue is closed; replies go out meanwhile."""
        loop = asyncio.get_running_loop()
        while deliveries := await self._ready.take():
            wanted = [d for d in deliveries if not self._settled_unrun(d, replier)]
            if not wanted:
                continue
            bodies, seconds = await loop.run_in_executor(self._executor, self._run, wanted)
            self._observe(wanted, seconds, consumer)
            for delivery, body in zip(wanted, bodies, strict=True):
                self._settle(replier.finish(delivery, body))
        if self._settling:
            await asyncio.wait(self._settling)

    def _settled_unrun(self, delivery: Delivery, replier: Replier) -> bool:
        """Whether nobody wants it to be run any more; what has to be said is on its way then."""
        deadline = delivery.headers.deadline_ms
        if replier.is_cancelled(delivery):
            self._settle(replier.skip(delivery))
        elif delivery.belongs is not None:
            self._settle(replier.move(delivery, delivery.belongs))
        elif deadline and time.time() > deadline / 1000 + self.settings.clock_skew:
            log.info("deadline passed", extra={"action": "deadline_exceeded"})
            fault = ItemError(
                code=Code.DEADLINE_EXCEEDED, message="its deadline passed in the queue"
            )
            self._settle(replier.finish(delivery, encoded(delivery, self._failed(delivery, fault))))
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

    def _run(self, deliveries: list[Delivery]) -> tuple[list[bytes], float]:
        """In the inference thread: the bodies of the replies, and the seconds they took."""
        began = time.perf_counter()
        return self._answer(deliveries), time.perf_counter() - began

    def _answer(self, deliveries: list[Delivery]) -> list[bytes]:
        """A model that fails over a pack fails its items, not us."""
        try:
            replies = self._answerer.answer([delivery.pack for delivery in deliveries])
        except Exception as error:
            if len(deliveries) > 1:  # the others go on without the one at fault
                return [body for delivery in deliveries for body in self._answer([delivery])]
            log.exception("inference failed", extra={"action": "inference_failed"})
            fault = ItemError(code=Code.INTERNAL, message=_words(error))
            replies = [self._failed(delivery, fault) for delivery in deliveries]
        return [
            encoded(delivery, reply) for delivery, reply in zip(deliveries, replies, strict=True)
        ]

    def _failed(self, delivery: Delivery, fault: ItemError) -> Reply:
        request = delivery.pack.request
        if request is None:
            return Reply(model="", results=[], worker=self.name, error=fault)
        return Reply(model=request.model, results=failed(request.items, fault), worker=self.name)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".encode("utf-8", "backslashreplace").decode()


async def _cancelled(*tasks: asyncio.Task[Any]) -> None:
    """Cancels those that have not ended, and waits for their end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
