"""Four kinds of load, one after the other, against what is running."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec

from lmaas.bench import mix
from lmaas.bench.figures import (
    Bulk,
    Phase,
    Report,
    Size,
    SizeClass,
    Tally,
    bulk_of,
    phase,
    said,
    size_classes,
)
from lmaas.bench.texts import Texts
from lmaas.broker_config.errors import ItemFailed, LmaasError, ModelNotFound
from lmaas.broker_config.messages import Item, Reply, Request
from lmaas.broker_config.settings import Settings
from lmaas.producer.client import Client

#: Each phase's part of the time. The last one has the rarest requests.
UNLOADED: Final = 0.15
CONCURRENT: Final = 0.25
BULK: Final = 0.2
MIXED: Final = 0.4

#: Seconds that a caller whose call failed leaves the others alone.
PAUSE: Final = 0.1

#: Is told what begins, and the share of the time that should have passed by then.
Tell = Callable[[str, float], None]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure."""

    model: str
    texts: Texts
    #: Of all phases together. What has left by then is waited for.
    seconds: float
    callers: int


async def measure(settings: Settings, plan: Plan, tell: Tell) -> Report:
    """Measure what serves the model now; starts nothing.

    Raises ModelNotFound, BrokerError and TimeLimitExceeded when not even one text is answered, and
    LmaasError when a whole phase is without an answer. Else what fails is counted.
    """
    # It takes a while, and nothing is connected yet that would have to wait.
    packs = mix.packs(plan.model, plan.texts.texts, settings)
    began = datetime.now(UTC)
    async with Client(settings) as client:
        version = (await _first(client, plan)).version
        calls = _Calls(client, plan)
        tell("single calls, one at a time", 0.0)
        unloaded = await calls.closed_loop(1, UNLOADED * plan.seconds)
        tell(f"single calls, {plan.callers:,} at a time", UNLOADED)
        concurrent = await calls.closed_loop(plan.callers, CONCURRENT * plan.seconds)
        tell("bulk", UNLOADED + CONCURRENT)
        rehearsal, bulk = await _bulks(settings, plan, concurrent.items_per_second)
        tell("packs of all sizes", UNLOADED + CONCURRENT + BULK)
        mixture = _Mixture(client, packs)
        mixed = await mixture.run(bulk.items_per_second, MIXED * plan.seconds)
    return Report(
        began=began.isoformat(timespec="seconds"),
        broker=settings.broker,
        model=plan.model,
        version=version,
        policy=settings.policy,
        texts=plan.texts.source,
        texts_used=len(plan.texts.texts),
        texts_left_out=plan.texts.left_out,
        mean_text_bytes=plan.texts.mean_bytes,
        callers=plan.callers,
        workers=len(mixture.workers),
        unloaded=unloaded,
        concurrent=concurrent,
        rehearsal=rehearsal,
        bulk=bulk,
        mixed=mixed,
    )


async def _first(client: Client, plan: Plan) -> Reply:
    """The reply to one text; raises what stands against it."""
    if not await client.workers(plan.model):
        raise ModelNotFound(
            f"no worker serves model {plan.model!r} at {client.settings.broker} at this moment; "
            f"start one with `lmaas worker --model {plan.model}`"
        )
    item = Item(id="0", text=plan.texts.texts[0])
    reply = await client.run(Request(model=plan.model, items=[item]))
    if error := reply.results[0].error:
        raise ItemFailed("0", error.code, error.message)
    return reply


class _Calls:
    """Callers who each make one single call after the other."""

    def __init__(self, client: Client, plan: Plan) -> None:
        self._client = client
        self._model = plan.model
        self._texts = itertools.cycle(plan.texts.texts)

    async def closed_loop(self, callers: int, seconds: float) -> Phase:
        """Nobody begins a call after `seconds`."""
        tally = Tally()
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(self._caller(tally, began + seconds))
        took = time.perf_counter() - began
        _check_answered(tally)
        return phase(tally, took)

    async def _caller(self, tally: Tally, end: float) -> None:
        while (began := time.perf_counter()) < end:
            try:
                result = await self._client.classify(
                    self._model, next(self._texts), errors="return"
                )
            except LmaasError as error:
                tally.fail(error, 1)
                await asyncio.sleep(PAUSE)
            else:
                tally.add([result], time.perf_counter() - began)


async def _bulks(
    settings: Settings, plan: Plan, items_per_second: float
) -> tuple[Bulk | None, Bulk]:
    """The bulk, and a rehearsal when `items_per_second` are too few for full packs.

    The packs are so small that a full window is answered within the phase, however slow the model
    is. A few callers with single calls say little about that; the rehearsal says more.
    """

    def affordable(rate: float, seconds: float) -> int:
        return max(1, min(settings.pack_items, int(rate * seconds / settings.window)))

    seconds = BULK * plan.seconds
    rehearsal = None
    if affordable(items_per_second, seconds) < settings.pack_items:
        pack_items = affordable(items_per_second, seconds / 4)
        rehearsal = await _bulk(settings, plan, pack_items, seconds / 4)
        items_per_second = max(items_per_second, rehearsal.items_per_second)
        seconds *= 3 / 4
    bulk = await _bulk(settings, plan, affordable(items_per_second, seconds), seconds)
    return rehearsal, bulk


async def _bulk(settings: Settings, plan: Plan, pack_items: int, seconds: float) -> Bulk:
    """One long stream of texts, as from a file."""
    tally = Tally()
    async with Client(msgspec.structs.replace(settings, pack_items=pack_items)) as client:
        began = time.perf_counter()
        source = _Until(began + seconds, plan.texts.texts)
        try:
            async for result in client.classify_many(plan.model, source):
                tally.add([result])
        except LmaasError as error:
            tally.fail(error, source.sent - tally.answered - tally.failures.total())
        took = time.perf_counter() - began
    _check_answered(tally)
    return bulk_of(tally, took, pack_items)


@dataclass(slots=True)
class _Until:
    """Texts in turn, until a moment on `time.perf_counter`; counts them."""

    end: float
    texts: Sequence[str]
    sent: int = 0

    def __iter__(self) -> Iterator[str]:
        for text in itertools.cycle(self.texts):
            self.sent += 1
            yield text
            if time.perf_counter() >= self.end:
                return


class _Mixture:
    """Packs of all sizes, which leave when it is time and wait for no answer."""

    def __init__(self, client: Client, packs: dict[int, list[Request]]) -> None:
        self._client = client
        self._packs = packs
        #: By items of a pack.
        self._sizes: dict[int, Size] = {}
        #: Names of those that answered.
        self.workers: set[str] = set()

    async def run(self, items_per_second: float, seconds: float) -> list[SizeClass]:
        """About half of `items_per_second`, for `seconds`."""
        numbers = mix.shares(list(self._packs), items_per_second, seconds)
        variants = {size: itertools.cycle(self._packs[size]) for size in numbers}
        self._sizes = {size: Size(mix.seconds_of(size, items_per_second)) for size in numbers}
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for after, size in mix.departures(numbers, seconds):
                await asyncio.sleep(max(0.0, began + after - time.perf_counter()))
                group.create_task(self._send(next(variants[size])))
        took = time.perf_counter() - began
        _check_answered(*(size.tally for size in self._sizes.values()))
        return size_classes(self._sizes, took)

    async def _send(self, request: Request) -> None:
        size = self._sizes[len(request.items)]
        size.packs += 1
        # From now, and not from when it was due: timers are good for a millisecond only.
        began = time.perf_counter()
        try:
            reply = await self._client.run(request)
        except LmaasError as error:
            size.tally.fail(error, len(request.items))
            return
        size.tally.add(reply.results, time.perf_counter() - began)
        if reply.timings and reply.timings.cost > 0:
            size.costs.append(reply.timings.cost)
        self.workers.add(reply.worker or "")


def _check_answered(*tallies: Tally) -> None:
    """Raises LmaasError when nothing was: there is nothing to measure then."""
    if any(tally.answered for tally in tallies):
        return
    failures = sum((tally.failures for tally in tallies), Counter[str]())
    raise LmaasError(
        f"the workers stopped answering ({said(failures)}); look at their log, then measure again"
    )
