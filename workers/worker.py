"""The life of a worker: start, run, drain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from lmaas.broker_config.connection import Session
from lmaas.broker_config.errors import LimitReached, WorkerStuck
from lmaas.broker_config.estimator import Estimator
from lmaas.broker_config.messages import CANCEL, CARDS
from lmaas.broker_config.publisher import Publisher
from lmaas.broker_config.seals import Seals
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.statuses import STATUS, LaneStatus, WorkerStatus, encode_status
from lmaas.workers.callers import Callers
from lmaas.workers.cancelled import Cancelled
from lmaas.workers.cards import Cards
from lmaas.workers.consumer import Consumer
from lmaas.workers.execution import Execution, grace
from lmaas.workers.lane import Lane
from lmaas.workers.notices import Notices
from lmaas.workers.questions import Answer, Questions
from lmaas.workers.settling.settler import Settler
from lmaas.workers.updates import Updates
from lmaas.workers.watch import Watch

log = logging.getLogger(__name__)


class Worker:
    """Serves models from their lanes until it is told to stop."""

    def __init__(
        self, settings: Settings, models: Sequence[str] = (), *, mortal: bool = False
    ) -> None:
        """`models` are served; when none is named, all of the repository that can be.

        With `mortal` the system ends the whole process when a run does not end and even keeps the
        event loop from turning.
        """
        self.name = f"{socket.gethostname()}-{os.getpid()}"
        self.settings = settings
        self.execution = Execution(settings, self.name, models, mortal=mortal)
        #: None until the lanes are consumed.
        self.watch: Watch | None = None
        self._stop = asyncio.Event()
        self.callers = Callers(settings.names, settings.gateway_users)
        self.cancelled = Cancelled(settings.names, Seals(settings))

    def stop(self) -> None:
        """Begin to drain; `run` returns when that is done. For a signal handler."""
        self._stop.set()

    @property
    def models(self) -> list[str]:
        """What is served."""
        return self.execution.models

    @property
    def identity(self) -> Mapping[str, object]:
        return {"worker": self.name, "models": self.models}

    @property
    def not_alive(self) -> str | None:
        """That a run has passed its time limit."""
        limit = self.settings.pack_timeout
        return f"a run takes longer than {limit:g} s" if self.execution.overdue.is_set() else None

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
        return len(self.execution.ready) + len(self.execution.redelivered)

    @property
    def running(self) -> int:
        """Packs that run."""
        return len(self.execution.running)

    @property
    def versions(self) -> Mapping[str, str]:
        """What answers of each model now."""
        return self.execution.loaded.current

    @property
    def model_problems(self) -> int:
        """Versions that could not be used, and other trouble that was told of models."""
        return len(self.execution.loaded.repository.told)

    @property
    def estimators(self) -> Mapping[str, Estimator]:
        """What packs of each model cost."""
        return self.execution.estimators

    @property
    def status(self) -> WorkerStatus:
        """For who asks over the broker."""
        shared = self.settings.names.work_queue
        lanes = [
            LaneStatus(
                model=lane.model,
                lane=lane.name,
                taken=lane.taken,
                waited=max(lane.waited, 0.0),
                own=0 if lane.queue.name == shared(lane.model, lane.name) else lane.depth,
            )
            for lane in self.lanes
        ]
        return WorkerStatus(
            worker=self.name,
            models=dict(self.versions),
            problem=self.not_ready,
            held=self.held,
            running=self.running,
            lanes=lanes,
        )

    async def _tell_status(self, _model: str, content_type: str) -> bytes:
        return encode_status(self.status, content_type)

    async def run(self, started: asyncio.Event | None = None) -> None:
        """Serve until `stop`; `started` is set when all lanes are consumed.

        Raises ModelError or BrokerError when it cannot go on, WorkerStuck when a run does not end
        within `pack_timeout`, or within `drain_timeout` after `stop`: its thread still runs then.
        """
        try:
            async with contextlib.AsyncExitStack() as stack:
                if self.settings.health_port:
                    # It costs a worker that tells nobody neither time nor memory.
                    from lmaas.service.health import serving
                    from lmaas.workers.state import State

                    host, port = self.settings.health_host, self.settings.health_port
                    await stack.enter_async_context(serving(self, State(self), host, port))
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
            self.execution.close()

    async def _start(self, stack: contextlib.AsyncExitStack) -> tuple[Publisher, Consumer]:
        await self.execution.load()
        publisher = Publisher(self.settings, f"{self.name} publish", outlasts_alarms=True)
        execution = self.execution
        cards = Cards(self.settings, execution.loaded, execution.estimators)
        answers: dict[str, Answer] = {CARDS: cards.answer, STATUS: self._tell_status}
        questions = Questions(self.callers, publisher, answers)
        handlers = {**dict.fromkeys(answers, questions.hear), CANCEL: self.cancelled.hear}
        notices = Notices(self.settings.names, execution.estimators, handlers)
        consumer = Consumer(
            self.settings,
            self.name,
            execution.estimators,
            execution.loaded.current,
            execution.ready,
            execution.redelivered,
            notices.listen,
            self.callers,
        )
        await _entered(stack, publisher)
        stack.push_async_callback(self.callers.close)
        await self.callers.learn_rights(publisher)
        await _entered(stack, consumer.session)
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

    async def _until_stopped(self, publisher: Publisher, consumer: Consumer) -> None:
        settler = Settler(
            self.name, self.settings, publisher, consumer, self.cancelled, self.callers
        )
        working = asyncio.create_task(self.execution.run(settler, consumer), name="execution")
        stopping = asyncio.create_task(self._stop.wait(), name="stop")
        overdue = asyncio.create_task(self.execution.overdue.wait(), name="overdue")
        sessions = (publisher, consumer.session)
        failing = [asyncio.create_task(session.failed()) for session in sessions]
        assert self.watch is not None
        updates = Updates(self.execution.loaded, self.execution.estimators)
        failing.append(asyncio.create_task(self.watch.run(), name="watch"))
        failing.append(asyncio.create_task(updates.run(), name="updates"))
        ending = [working, *failing]
        try:
            await asyncio.wait([stopping, overdue, *ending], return_when=asyncio.FIRST_COMPLETED)
            if stopping.done() or overdue.done():
                await self._drain(working, consumer)
            for future in ending:
                if future.done():
                    future.result()
        finally:
            await _cancelled(stopping, overdue, *ending)

    async def _drain(self, working: asyncio.Task[None], consumer: Consumer) -> None:
        """Take no more, finish what was begun, send what is to be sent."""
        stuck = self.execution.overdue.is_set()
        limit = grace(self.settings) / 2 if stuck else self.settings.drain_timeout
        log.info("draining", extra={"action": "drain"})
        try:
            async with asyncio.timeout(limit):
                await consumer.stop()
                if not stuck:
                    await asyncio.wait([working])
                await self.execution.settled()
        except TimeoutError:
            stuck = True
        if self.execution.overdue.is_set():
            raise WorkerStuck(
                f"a run did not end within {self.settings.pack_timeout:g} s (setting "
                "pack_timeout); the broker gives its packs to another worker"
            )
        if stuck:
            raise WorkerStuck(
                f"what was begun was not finished within {self.settings.drain_timeout:g} s "
                "(setting drain_timeout); the broker gives it to another worker"
            )
        log.info("drained", extra={"action": "drained"})


async def _entered(stack: contextlib.AsyncExitStack, session: Session) -> None:
    """At a limit of the broker a worker waits for as long as it takes: others leave some day."""
    while True:
        with contextlib.suppress(LimitReached):  # the session's log has it
            await stack.enter_async_context(session)
            return


async def _cancelled(*tasks: asyncio.Task[Any]) -> None:
    """Cancels those that have not ended, and waits for their end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
