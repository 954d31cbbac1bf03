"""The parking lot: read it and leave everything there, send packs to their lanes again, drop them.

It is read page by page: a consumer with a prefetch of one page, all of which is taken and not
acknowledged, then the next consumer. So memory holds one page however much is parked, and closing
the channel puts back what was not acknowledged: on a classic queue in its order, on a quorum queue
with pages exchanged. What was parked twice (`broker_config.letters`) is read once, for which memory
holds the ids of what was read. A queue that is exclusive to the connection says that somebody
reads, because two readers would see half of the packs each.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, TypeVar

from aio_pika.abc import (
    AbstractChannel,
    AbstractConnection,
    AbstractIncomingMessage,
    AbstractQueue,
)
from aiormq.exceptions import ChannelAccessRefused, ChannelLockedResource, ChannelNotFoundEntity

from lmaas.broker_config.connection import Session, harmless_when_gone
from lmaas.broker_config.errors import BrokerError, BrokerUnavailable, Unroutable
from lmaas.broker_config.hosts import Pauses, is_gone
from lmaas.broker_config.letters import has_twins
from lmaas.broker_config.publisher import Publisher
from lmaas.broker_config.settings import Settings
from lmaas.producer.checkpoint import Output
from lmaas.producer.parked import Filter, Parked, again, describe, exported, lane_key
from lmaas.producer.threads import settled

T = TypeVar("T")

log = logging.getLogger(__name__)

#: Messages of the first page, and of the largest; bodies of a page, in bytes and about.
FIRST_PAGE: Final = 100
LARGEST_PAGE: Final = 500
PAGE_BYTES: Final = 16 * 1024 * 1024
#: Unacknowledged messages of a channel, about: at each ack the broker walks over those before it.
CHANNEL_HOLDS: Final = 2_000
#: Seconds without a delivery after which the broker is asked whether anything is left: somebody
#: else may have emptied the queue meanwhile.
SILENCE: Final = 2.0
#: Seconds to wait until the broker has everything back, and between two looks.
HAND_BACK_TIMEOUT: Final = 30.0
HAND_BACK_PAUSE: Final = 0.02
#: Seconds for which the sign that somebody reads is not believed yet: on RabbitMQ 4.3 it outlives
#: the connection of who has read by a moment.
TAKEN_PATIENCE: Final = 3.0
#: Lost connections in a row, without a page in between, after which a replay gives up; and seconds
#: after each, in which the session notices.
MOST_LOSSES: Final = 5
LOSS_PAUSE: Final = 0.1


class Letter(NamedTuple):
    """A parked message, and what can be said of it."""

    parked: Parked
    message: AbstractIncomingMessage


#: Gets how many messages were looked at, and how many there are.
Report = Callable[[int, int], None]


@dataclass(slots=True)
class Outcome:
    """What came of a replay or a purge."""

    #: Messages that left the parking lot.
    done: int = 0
    #: Routing key -> messages that stay, because no queue takes them.
    unroutable: Counter[str] = field(default_factory=Counter)
    #: Ids that were asked for and are not parked.
    missing: frozenset[str] = frozenset()


async def read(
    settings: Settings, wanted: Filter, report: Report | None = None
) -> AsyncGenerator[list[Letter], None]:
    """The matches, oldest first, a page at a time; all of them stay parked.

    A page that was taken from here is not held any more. What is parked meanwhile is not read.
    Raises BrokerUnavailable when somebody else is reading, or the connection is lost: then nothing
    has happened, and it may be begun anew.
    """
    looked = 0
    twins = _Twins()
    try:
        async with _Lot(settings) as lot, contextlib.aclosing(lot.pages()) as pages:
            async for page in pages:
                looked += len(page)
                yield [one for one in _matching(page, wanted) if twins.is_first(one)]
                if report:
                    report(looked, lot.total)
    except _LostError as error:
        raise BrokerUnavailable(
            f"the connection to {settings.broker} was lost while {settings.names.dead} was read; "
            "nothing was taken out of it: try again"
        ) from error


async def replay(settings: Settings, wanted: Filter, report: Report | None = None) -> Outcome:
    """Publish the matches to their lanes again; each leaves the parking lot once that is confirmed.

    An interruption, whatever it is, loses nothing: at worst packs that had been published but not
    acknowledged, `LARGEST_PAGE` at most, are published a second time by the next replay. After a
    lost connection it goes on by itself. What fails again and is parked anew meanwhile stays
    parked. Raises BrokerUnavailable when somebody else is reading or the broker does not come
    back, Busy when a lane is full.
    """
    outcome = Outcome()
    async with Publisher(settings, "dead letters publish") as publisher:

        async def publish(message: AbstractIncomingMessage) -> bool:
            # The lane's own key, because that of one worker's lane may have gone with the worker.
            key = lane_key(message.routing_key) or message.routing_key or ""
            try:
                fresh = again(message, int(time.time() * 1000))
                await publisher.publish(settings.names.work, key, fresh)
            except Unroutable:
                outcome.unroutable[key] += 1
                return False
            return True

        await _Removal(settings, wanted, publish, outcome, report).run()
    return outcome


async def purge(settings: Settings, wanted: Filter, report: Report | None = None) -> Outcome:
    """Drop the matches for good. Raises what `replay` raises, but Busy."""

    async def drop(_: AbstractIncomingMessage) -> bool:
        return True

    outcome = Outcome()
    await _Removal(settings, wanted, drop, outcome, report).run()
    return outcome


async def export(
    settings: Settings, wanted: Filter, output: Output, report: Report | None = None
) -> int:
    """Write the matches as lines of JSON (see `parked.exported`); how many. They stay parked.

    Raises what `read` raises, and DataError.
    """

    def write(page: list[Letter]) -> None:
        output.write(
            b"".join(exported(message, parked, settings) + b"\n" for parked, message in page)
        )

    count = 0
    async with contextlib.aclosing(read(settings, wanted, report)) as pages:
        async for page in pages:
            count += len(page)
            await settled(write, page)
    return count


def _matching(page: list[AbstractIncomingMessage], wanted: Filter) -> list[Letter]:
    letters = (Letter(describe(message), message) for message in page)
    return [letter for letter in letters if wanted.matches(letter.parked)]


class _Twins:
    """Tells what was parked twice."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def is_first(self, letter: Letter) -> bool:
        """Whether this letter comes for the first time."""
        name = letter.parked.message_id
        if name is None or not has_twins(name):
            return True
        before = len(self._seen)
        self._seen.add(bytes.fromhex(name))
        return len(self._seen) > before


class _TakenError(BrokerUnavailable):
    """Somebody else reads."""


class _LostError(Exception):
    """The connection went away under a reader."""


async def _channel_of(connection: AbstractConnection) -> AbstractChannel:
    return await connection.channel()


def next_size(page: list[AbstractIncomingMessage]) -> int:
    """Messages of the page after this one: many small ones, or a few large ones."""
    mean = sum(len(message.body) for message in page) / len(page)
    return max(1, min(LARGEST_PAGE, int(PAGE_BYTES / max(mean, 1))))


class _Lot:
    """The parking lot while this process reads it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._name = settings.names.dead
        self._session = Session(settings, "dead letters", self._prepare)
        self._arrivals: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        self._lost = asyncio.Event()
        self._channels: list[AbstractChannel] = []
        self._held = 0
        self._began = False
        #: Messages that there were when `pages` began.
        self.total = 0

    async def __aenter__(self) -> Self:
        """Raises BrokerUnavailable while somebody else reads."""
        pauses = Pauses()
        patience = asyncio.get_running_loop().time() + TAKEN_PATIENCE
        while True:
            try:
                await self._session.__aenter__()
                return self
            except _TakenError:
                if asyncio.get_running_loop().time() >= patience:
                    raise
            await asyncio.sleep(pauses.next())

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self._hand_back()
        finally:
            await self._session.__aexit__(kind, error, traceback)

    async def _prepare(self, channel: AbstractChannel) -> None:
        try:
            await channel.declare_queue(f"{self._name}.reader", exclusive=True)
            await channel.get_queue(self._name)
        except ChannelLockedResource as error:
            raise self._is_read_by_others() from error
        except ChannelNotFoundEntity as error:
            raise BrokerError(
                f"{self._settings.broker} has no parking lot {self._name}: no worker was there "
                "yet, or LMAAS_PREFIX is another one (`lmaas broker declare` makes it)"
            ) from error

    def _is_read_by_others(self) -> _TakenError:
        return _TakenError(
            f"{self._name} is being read by somebody else at this moment; try again when they are "
            "done"
        )

    async def pages(self) -> AsyncGenerator[list[AbstractIncomingMessage], None]:
        """What is there now, each message once; after a loss it may be called again.

        When a page comes, the acks of the page before it have reached the broker. Raises
        _LostError; BrokerUnavailable when the connection does not come back.
        """
        self._arrivals, self._lost = asyncio.Queue(), asyncio.Event()
        self._channels.clear()
        self._held = 0
        queue = await self._opened()
        left = self.total = queue.declaration_result.message_count or 0
        size, full = FIRST_PAGE, CHANNEL_HOLDS
        while left:
            if self._held >= full:
                queue = await self._opened()
                full = self._held + CHANNEL_HOLDS
            page = await self._unless_lost(self._page(queue, min(left, size)))
            if not page:
                break
            self._held += len(page)
            left -= len(page)
            size = next_size(page)
            yield page
        await self._unless_lost(self._ready(queue.channel))

    async def _opened(self) -> AbstractQueue:
        """The queue on one more channel."""
        channel = await self._session.ask(_channel_of)
        self._channels.append(channel)
        gone = self._lost

        def lost(*_: object) -> None:
            gone.set()

        channel.close_callbacks.add(lost)
        (await channel.get_underlay_channel()).on_consumer_cancel_callbacks.add(lost)
        return await self._unless_lost(channel.get_queue(self._name))

    async def _unless_lost(self, operation: Coroutine[Any, Any, T]) -> T:
        """Raises _LostError when the connection goes away before the end of it.

        aiormq may wait for ever for a connection that was lost an instant before.
        """
        running = asyncio.ensure_future(operation)
        lost = asyncio.ensure_future(self._lost.wait())
        try:
            await asyncio.wait([running, lost], return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                raise _LostError
            return running.result()
        except BaseException as error:
            if not is_gone(error):
                raise
            raise _LostError from error
        finally:
            running.cancel()
            lost.cancel()

    async def _page(self, queue: AbstractQueue, size: int) -> list[AbstractIncomingMessage]:
        """The next so many messages; fewer when somebody else has emptied the queue."""
        await queue.channel.set_qos(size)
        try:
            consumer = await queue.consume(self._arrivals.put, exclusive=True)
        except ChannelAccessRefused as error:
            if self._began:  # the broker has not noticed yet that our last connection is gone
                raise _LostError from error
            raise self._is_read_by_others() from error
        self._began = True
        page: list[AbstractIncomingMessage] = []
        while len(page) < size and (message := await self._next(queue)) is not None:
            page.append(message)
        # A full page is the whole prefetch: nothing can be on its way to this consumer any more.
        await queue.cancel(consumer)
        return page

    async def _next(self, queue: AbstractQueue) -> AbstractIncomingMessage | None:
        """None when nothing is left."""
        while self._arrivals.empty():
            try:
                async with asyncio.timeout(SILENCE):
                    return await self._arrivals.get()
            except TimeoutError:
                if not await self._ready(queue.channel) and self._arrivals.empty():
                    return None
        return self._arrivals.get_nowait()

    async def ack(self, messages: list[AbstractIncomingMessage]) -> None:
        """Raises _LostError: which of them the broker has is not known then."""

        async def send() -> None:
            for message in messages:
                await message.channel.basic_ack(message.delivery_tag or 0, wait=False)

        await self._unless_lost(send())
        self._held -= len(messages)

    async def _hand_back(self) -> None:
        """Return what is held, and wait until it is there: the next reader counts on it."""
        if not (self._channels and self._session.is_up):
            return
        with harmless_when_gone("hand_back"):
            # Not by a nack: the broker works it off page by page, ten times as long.
            await asyncio.gather(*(channel.close() for channel in self._channels))
            channel = await self._session.channel()
            async with asyncio.timeout(HAND_BACK_TIMEOUT):
                while await self._ready(channel) < self._held:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(HAND_BACK_PAUSE)

    async def _ready(self, channel: AbstractChannel) -> int:
        return (await channel.get_queue(self._name)).declaration_result.message_count or 0


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Also when cancelled: what was released and stays would be released again the next time."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=HAND_BACK_TIMEOUT)
        task.cancel()
        raise


class _Removal:
    """Takes the matches out of the parking lot, each after it was released to where it goes."""

    def __init__(
        self,
        settings: Settings,
        wanted: Filter,
        release: Callable[[AbstractIncomingMessage], Awaitable[bool]],
        outcome: Outcome,
        report: Report | None,
    ) -> None:
        """`release` says whether the message may go."""
        self._lot = _Lot(settings)
        self._settings = settings
        self._wanted = wanted
        self._release = release
        self._outcome = outcome
        self._report = report
        self._found: set[str] = set()
        #: What was released, by the ids of which a second message is the same letter.
        self._released: set[bytes] = set()
        #: Released in this page; in a page whose acks may have been lost with the connection.
        self._recent: Counter[str] = Counter()
        self._doubtful: Counter[str] = Counter()
        self._losses = 0

    async def run(self) -> None:
        try:
            async with self._lot:
                while not await self._pass():  # noqa: ASYNC110 - the session has no event for it
                    await asyncio.sleep(LOSS_PAUSE)
        except BrokerError as error:
            if not self._outcome.done:
                raise
            raise type(error)(
                f"{error}; {self._outcome.done:,} had left the parking lot before, the others are "
                "still there"
            ) from error
        self._outcome.missing = self._wanted.ids - self._found

    async def _pass(self) -> bool:
        """From the oldest to the newest; False when the connection was lost on the way."""
        self._outcome.unroutable.clear()
        looked = 0
        try:
            async with contextlib.aclosing(self._lot.pages()) as pages:
                async for page in pages:
                    self._recent.clear()
                    await _to_the_end(self._take_out(page))
                    self._losses = 0
                    looked += len(page)
                    if self._report:
                        self._report(looked, self._lot.total)
        except _LostError as error:
            self._losses += 1
            if self._losses > MOST_LOSSES:
                raise BrokerUnavailable(
                    f"the connection to {self._settings.broker} is lost again and again"
                ) from error
            self._doubtful += self._recent
            log.warning("connection lost, going on", extra={"action": "dead_letters_interrupted"})
            return False
        return True

    async def _take_out(self, page: list[AbstractIncomingMessage]) -> None:
        twins = _Twins()
        letters: dict[bool, list[Letter]] = {True: [], False: []}
        for letter in _matching(page, self._wanted):
            letters[twins.is_first(letter)].append(letter)
        for some in letters.values():  # the second of two knows then what became of the first
            results = await asyncio.gather(*map(self._may_go, some), return_exceptions=True)
            await self._lot.ack(
                [one.message for one, may_go in zip(some, results, strict=True) if may_go is True]
            )
            for result in results:
                if isinstance(result, BaseException):
                    raise result

    async def _may_go(self, letter: Letter) -> bool:
        parked = letter.parked
        self._found |= self._wanted.named(parked)
        # Where ids are not unique, a message might be taken for its twin that was released.
        name = parked.id if parked.id == parked.message_id else ""
        if has_twins(name) and bytes.fromhex(name) in self._released:
            return True
        if name and self._doubtful[name] > 0:
            self._doubtful[name] -= 1
        elif await self._release(letter.message):
            self._outcome.done += 1
        else:
            return False
        self._recent[name] += 1
        if has_twins(name):
            self._released.add(bytes.fromhex(name))
        return True
