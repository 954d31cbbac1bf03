"""Concurrent single calls share a message: the first leaves at once, the next ones together."""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from lmaas.broker_config.errors import BrokerUnavailable, TimeLimitExceeded
from lmaas.broker_config.messages import Item, Options, Reply, Request, Result
from lmaas.broker_config.settings import Settings
from lmaas.producer.packer import Packer

#: Calls that can share a pack: model, version, top_k, min_score, and the seconds that the caller
#: waits. One timer a pack then does for all of them, and costs a call nothing.
Kind = tuple[str, str | None, int, float | None, float]


#: Calls are held back for this share of the time that answers take beside the work itself: where
#: packs queue up somewhere, more of them would only queue up, too, and larger ones cost less. So a
#: client has about the inverse of it on their way, ...
SHARE: Final = 0.5
#: ... but for no longer than so many times `linger`.
LONGEST: Final = 10
#: Of the newest answer in the average.
NEWEST: Final = 0.2

#: Sends a request whose callers give up after so many seconds, and who ask for this tenant; None:
#: for nobody but the client itself.
Send = Callable[[Request, float, str | None], Awaitable[Reply]]


@dataclass(slots=True)
class _Gathering:
    """Calls of one kind that wait to leave."""

    packer: Packer
    #: For whom all of them ask; None: for several, or not told.
    tenant: str | None
    items: list[Item] = field(default_factory=list)
    callers: list[asyncio.Future[Result]] = field(default_factory=list)
    timer: asyncio.Handle | None = None

    def drop_cancelled(self) -> None:
        """What nobody waits for any more is not sent."""
        if any(caller.cancelled() for caller in self.callers):
            waiting = [not caller.cancelled() for caller in self.callers]
            self.items = [*itertools.compress(self.items, waiting)]
            self.callers = [*itertools.compress(self.callers, waiting)]

    def tell(self, results: list[Result]) -> None:
        """In the pack an item's id is its place; its caller gets the one that he gave."""
        for caller, item, result in zip(self.callers, self.items, results, strict=True):
            if not caller.done():
                caller.set_result(msgspec.structs.replace(result, id=item.id))

    def fail(self, error: Exception) -> None:
        """Tell every caller that still waits."""
        for caller in self.callers:
            if not caller.done():
                caller.set_exception(error)


class Linger:
    """Gathers calls into packs.

    With nothing on its way a pack leaves at the end of the loop's current turn, so that a lone
    call waits for nobody and a burst is one pack. While a pack is on its way the next one waits
    until it is full, `linger` seconds old, or until nothing is on its way any more: the callers
    that have an answer call again in the turn before, so that they share the next pack. It waits
    longer than `linger` where answers come late because packs queue up.
    """

    def __init__(
        self,
        settings: Settings,
        send: Send,
        seconds: Callable[[str, int, int], float],
        why_silent: Callable[[], str] = lambda: "is a worker running?",
    ) -> None:
        """`seconds` estimates the time that a model takes for so many items, of so many bytes
        together; `why_silent` says why there may be no answer, for the words of a time limit.
        """
        self._settings = settings
        self._send = send
        self._seconds = seconds
        self._why_silent = why_silent
        self._gatherings: dict[Kind, _Gathering] = {}
        self._on_their_way: dict[asyncio.Task[None], _Gathering] = {}
        #: Seconds that answers of each model take lately, without those of the work itself.
        self._queued: dict[str, float] = {}

    def add(self, kind: Kind, item: Item, tenant: str | None = None) -> asyncio.Future[Result]:
        """A future of the item's result, which may also be TimeLimitExceeded.

        Calls of several tenants share a pack, which then is sent for none of them.
        """
        loop = asyncio.get_running_loop()
        gathering = self._gatherings.get(kind) or self._begun(kind, tenant)
        if gathering.tenant != tenant:
            gathering.tenant = None
        caller: asyncio.Future[Result] = loop.create_future()
        gathering.callers.append(caller)
        if full := gathering.packer.add(item):
            self._leave(kind, full)
        elif gathering.timer is None:
            if self._on_their_way:
                gathering.timer = loop.call_later(self._patience(kind[0]), self._leave, kind)
            else:
                gathering.timer = loop.call_soon(self._leave, kind)
        return caller

    def _patience(self, model: str) -> float:
        linger = self._settings.linger
        return min(max(linger, SHARE * self._queued.get(model, 0.0)), LONGEST * linger)

    def _learn(self, model: str, queued: float) -> None:
        before = self._queued.get(model, queued)
        self._queued[model] = before + NEWEST * (queued - before)

    def given_up(self, answer: asyncio.Future[Result]) -> None:
        """Nobody waits for it; a pack on its way for whose answers nobody waits is cancelled."""
        for task, gathering in self._on_their_way.items():
            if answer in gathering.callers:
                if all(caller.done() for caller in gathering.callers):
                    task.cancel()
                    self._forget(task)  # one that has not begun to run never will
                return

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._on_their_way.pop(task, None)
        if not self._on_their_way:
            self._leave_soon()

    def _begun(self, kind: Kind, tenant: str | None) -> _Gathering:
        estimate = functools.partial(self._seconds, kind[0])
        gathering = self._gatherings[kind] = _Gathering(Packer(self._settings, estimate), tenant)
        return gathering

    def _leave(self, kind: Kind, items: list[Item] | None = None) -> None:
        """`items` of a pack that is full."""
        gathering = self._gatherings.pop(kind)
        gathering.items = items or gathering.packer.rest()
        if gathering.timer:
            gathering.timer.cancel()
        task = asyncio.create_task(self._deliver(kind, gathering))
        self._on_their_way[task] = gathering

    async def _deliver(self, kind: Kind, gathering: _Gathering) -> None:
        """Forgotten before its callers are told: what they ask next waits for no pack."""
        task = asyncio.current_task()
        assert task is not None
        try:
            try:
                results = await self._results(kind, gathering)
            finally:
                self._on_their_way.pop(task, None)
        except Exception as error:
            gathering.fail(error)
        else:
            gathering.tell(results)
        if not self._on_their_way:
            self._leave_soon()

    def _leave_soon(self) -> None:
        """What waited for a pack that was on its way."""
        loop = asyncio.get_running_loop()
        for kind, gathering in self._gatherings.items():
            if gathering.timer:
                gathering.timer.cancel()
            gathering.timer = loop.call_soon(self._leave, kind)

    async def _results(self, kind: Kind, gathering: _Gathering) -> list[Result]:
        """In the order of its items. Raises what its callers are told."""
        gathering.drop_cancelled()
        if not gathering.items:
            return []
        model, version, top_k, min_score, limit = kind
        items = [
            msgspec.structs.replace(item, id=str(place))
            for place, item in enumerate(gathering.items)
        ]
        options = Options(top_k=top_k, min_score=min_score)
        request = Request(model=model, version=version, items=items, options=options)
        loop = asyncio.get_running_loop()
        sent = loop.time()
        try:
            async with asyncio.timeout(limit):
                reply = await self._send(request, limit, gathering.tenant)
        except TimeoutError as error:
            raise TimeLimitExceeded(
                f"no answer from model {model!r} within {limit:g} s; {self._why_silent()}"
            ) from error
        self._learn(model, loop.time() - sent - (reply.timings.ran if reply.timings else 0.0))
        return reply.results

    async def close(self) -> None:
        """Gives up what waits and what is on its way; the callers get BrokerUnavailable."""
        tasks = list(self._on_their_way)
        for gathering in (*self._gatherings.values(), *self._on_their_way.values()):
            if gathering.timer:
                gathering.timer.cancel()
            gathering.fail(BrokerUnavailable("the client was closed"))
        self._gatherings.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
