"""Sends what is in the outbox, apart from all other work; several gateways share it by leases."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections import Counter
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from lmaas.producer.gateway.addresses import connector
from lmaas.producer.gateway.callbacks.attempt import Attempt, attempt
from lmaas.producer.gateway.callbacks.outbox import Outbox
from lmaas.producer.gateway.callbacks.schedule import Verdict, delay, verdict
from lmaas.producer.gateway.settings.callbacks import Callbacks
from lmaas.producer.gateway.state import State, deliveries
from lmaas.producer.gateway.state.deliveries import Claimed, Settled

log = logging.getLogger(__name__)

#: Seconds between two looks for what other gateways have put there, or have not sent.
LOOK: Final = 0.5
#: Seconds beyond its time limit for which one that is being sent is left alone by other gateways.
_MARGIN: Final = 10.0
#: Seconds between two looks for what is too old.
_TIDY: Final = 600.0


class Dispatcher:
    """While it is open, what is due is sent."""

    def __init__(self, state: State, outbox: Outbox, settings: Callbacks) -> None:
        self._state = state
        self._outbox = outbox
        self._settings = settings
        self._name = secrets.token_hex(8)
        #: Requests that are on their way, by host.
        self._hosts: Counter[str] = Counter()
        #: Host -> Unix time until when it wants to be left alone.
        self._paused: dict[str, float] = {}
        #: What is known here, and not yet in the state.
        self._finished: list[Settled] = []
        self._tidied = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        guarded = connector(self._outbox.receivers.allowed)
        self._http = aiohttp.ClientSession(
            connector=guarded, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
        )
        self._start(self._run())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Whoever comes next sends again what is on its way at this moment."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.close()
        async with self._state.writing() as connection:
            await deliveries.settle(connection, self._name, self._finished, time.time())
            await deliveries.release(connection, self._name)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self) -> None:
        filled = self._outbox.filled
        while True:
            filled.clear()
            try:
                wait = await self._turn()
            except SQLAlchemyError as error:
                log.warning("the outbox of callbacks: %s", error, extra={"action": "callbacks"})
                wait = LOOK
            except Exception:
                log.exception("the outbox of callbacks", extra={"action": "bug"})
                wait = LOOK
            # Not `wait_for`: that of Python 3.11 may lose the cancellation that ends this.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await filled.wait()

    async def _turn(self) -> float:
        """Writes down what has finished and sends what is due; seconds until more may be due."""
        now = time.time()
        finished, self._finished = self._finished, []
        try:
            if not finished and (wait := await self._wait(now)):
                return wait
            async with self._state.writing() as connection:
                await deliveries.settle(connection, self._name, finished, now)
                claimed = await self._claim(connection, now)
                await self._tidy(connection, now)
        except BaseException:
            self._finished = finished + self._finished
            raise
        for delivery in claimed:
            self._hosts[delivery.host] += 1
            self._start(self._send(delivery))
        return 0.0

    async def _wait(self, now: float) -> float:
        """Seconds until one is due that there is room for; 0: there is one now."""
        if self._hosts.total() >= self._settings.concurrency:
            return LOOK
        busy = [host for host, room in self._rooms(now).items() if room <= 0]
        async with self._state.reading() as connection:
            due = await deliveries.next_due(connection, now, busy)
        return LOOK if due is None else min(max(0.0, due - now), LOOK)

    def _rooms(self, now: float) -> dict[str, int]:
        """How many more each host that is in use may have."""
        self._paused = {host: until for host, until in self._paused.items() if until > now}
        most = self._settings.concurrency_per_host
        return {host: most - sent for host, sent in self._hosts.items()} | dict.fromkeys(
            self._paused, 0
        )

    async def _claim(self, connection: AsyncConnection, now: float) -> list[Claimed]:
        return await deliveries.claim(
            connection,
            self._name,
            now,
            self._settings.timeout + _MARGIN,
            self._settings.concurrency - self._hosts.total(),
            self._rooms(now),
            self._settings.concurrency_per_host,
        )

    async def _tidy(self, connection: AsyncConnection, now: float) -> None:
        if now - self._tidied > _TIDY:
            self._tidied = now
            await deliveries.forget(connection, now - self._settings.keep)

    async def _send(self, delivery: Claimed) -> None:
        try:
            made = await attempt(
                self._http, self._outbox.receivers, delivery, self._settings.timeout
            )
        finally:
            self._hosts[delivery.host] -= 1
            if not self._hosts[delivery.host]:
                del self._hosts[delivery.host]
        self._finished.append(self._settled(delivery, made))
        self._outbox.filled.set()

    def _settled(self, delivery: Claimed, made: Attempt) -> Settled:
        state, wait = self._next(delivery, made)
        if state in {deliveries.FAILED, deliveries.DISABLED}:
            log.warning(
                "callback %s to %s is %s: %s",
                delivery.id,
                delivery.host,
                state,
                made.error,
                extra={"action": "callback", "delivery": delivery.id},
            )
        due = made.at + made.seconds + wait
        return Settled(delivery, made.at, made.seconds, made.status, made.error, state, due)

    def _next(self, delivery: Claimed, made: Attempt) -> tuple[str, float]:
        """Its new state, and the seconds until the next try."""
        found = verdict(made.status)
        if found is Verdict.DELIVERED:
            return deliveries.DELIVERED, 0.0
        if found is Verdict.GONE:
            return deliveries.DISABLED, 0.0
        asked = made.retry_after if found is Verdict.SLOW_DOWN else None
        if asked:
            self._paused[delivery.host] = time.time() + asked
        wait = delay(self._settings.delays, delivery.tried + 1, self._settings.jitter, asked)
        return (deliveries.FAILED, 0.0) if wait is None else (deliveries.PENDING, wait)
