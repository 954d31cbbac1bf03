"""Dead letters: read them and leave them there, send them to their lanes again, drop them.

What is there twice (`broker_config.dead_letter_ids`) is read once, for which memory holds the ids
of what was read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeVar

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from lmaas.broker_config.dead_letter_ids import has_duplicates
from lmaas.broker_config.declaring import missing
from lmaas.broker_config.errors import BrokerError, BrokerUnavailable, Unroutable
from lmaas.broker_config.headers import Headers
from lmaas.broker_config.publisher import Publisher
from lmaas.broker_config.seals import Seals
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import Exchange, Topology
from lmaas.producer.checkpoint import Output
from lmaas.producer.dead_letter import (
    Filter,
    Summary,
    again,
    describe,
    exported,
    lane_key,
    put_here_by_broker,
    seal_of,
)
from lmaas.producer.dead_letter_queue import HAND_BACK_TIMEOUT, DeadLetterQueue, LostError
from lmaas.producer.threads import settled

T = TypeVar("T")

log = logging.getLogger(__name__)

#: Lost connections in a row, without a page in between, after which a replay gives up; and seconds
#: after each, in which the session notices.
MOST_LOSSES: Final = 5
LOSS_PAUSE: Final = 0.1


class DeadLetter(NamedTuple):
    """A message of the dead letter queue, and what can be said of it."""

    summary: Summary
    message: AbstractIncomingMessage


#: Gets how many messages were looked at, and how many there are.
Report = Callable[[int, int], None]


@dataclass(slots=True)
class Outcome:
    """What came of a replay or a purge."""

    #: Messages that left the dead letter queue.
    done: int = 0
    #: Routing key -> messages that stay, because no queue takes them.
    unroutable: Counter[str] = field(default_factory=Counter)
    #: Messages that stay, because their texts were redacted: there is nothing to send again.
    redacted: int = 0
    #: Ids that were asked for and are not there.
    missing: frozenset[str] = frozenset()


async def read(
    settings: Settings, wanted: Filter, report: Report | None = None
) -> AsyncGenerator[list[DeadLetter], None]:
    """The matches, oldest first, a page at a time; all of them stay there.

    A page that was taken from here is not held any more. What is dead-lettered meanwhile is not
    read.
    Raises BrokerUnavailable when somebody else is reading, or the connection is lost: then nothing
    has happened, and it may be begun anew.
    """
    looked = 0
    duplicates = _Duplicates()
    try:
        async with (
            DeadLetterQueue(settings) as dead_letter_queue,
            contextlib.aclosing(dead_letter_queue.pages()) as pages,
        ):
            async for page in pages:
                looked += len(page)
                yield [one for one in _matching(page, wanted) if duplicates.is_first(one)]
                if report:
                    report(looked, dead_letter_queue.total)
    except LostError as error:
        raise BrokerUnavailable(
            f"the connection to {settings.broker} was lost while {settings.names.dead} was read; "
            "nothing was taken out of it: try again"
        ) from error


async def replay(settings: Settings, wanted: Filter, report: Report | None = None) -> Outcome:
    """Publish the matches to their lanes again; each leaves its queue once that is confirmed.

    An interruption, whatever it is, loses nothing: at worst packs that had been published but not
    acknowledged, `LARGEST_PAGE` at most, are published a second time by the next replay. After a
    lost connection it goes on by itself. What fails again and is dead-lettered anew meanwhile
    stays there. Raises BrokerUnavailable when somebody else is reading or the broker does not
    come back, Busy when a lane is full.
    """
    outcome = Outcome()
    async with Publisher(settings, "dead letters publish") as publisher:
        lanes = _Lanes(settings, publisher)

        async def publish(message: AbstractIncomingMessage) -> bool:
            if Headers.from_table(message.headers).redacted:
                outcome.redacted += 1
                return False
            # The lane's own key, because that of one worker's lane may have gone with the worker.
            key = lane_key(message.routing_key) or message.routing_key or ""
            try:
                fresh = again(message, int(time.time() * 1000))
                if put_here_by_broker(message) and not settings.names.is_of(
                    message.reply_to or "", message.user_id
                ):
                    fresh.reply_to = None  # workers would believe the copy
                await lanes.publish(key, fresh)
            except Unroutable:
                outcome.unroutable[key] += 1
                return False
            return True

        await Removal(settings, wanted, publish, outcome, report).run()
    return outcome


async def purge(settings: Settings, wanted: Filter, report: Report | None = None) -> Outcome:
    """Drop the matches for good. Raises what `replay` raises, but Busy."""

    async def drop(_: AbstractIncomingMessage) -> bool:
        return True

    outcome = Outcome()
    await Removal(settings, wanted, drop, outcome, report).run()
    return outcome


def opened(dead_letter: DeadLetter, seals: Seals) -> bytes:
    """The body, of which a seal is taken off. Raises SealError."""
    message = dead_letter.message
    seal = seal_of(message, seals)
    return message.body if seal is None else seals.open(message.body, seal)


async def export(
    settings: Settings,
    wanted: Filter,
    output: Output,
    report: Report | None = None,
    *,
    open_sealed: bool = False,
) -> int:
    """Write the matches as lines of JSON (see `dead_letter.exported`); how many. They stay there.

    What is sealed stays so, unless `open_sealed`. Raises what `read` raises, DataError and
    SealError.
    """
    seals = Seals(settings)

    def line(one: DeadLetter) -> bytes:
        content = opened(one, seals) if open_sealed and one.summary.key is not None else None
        return exported(one.message, one.summary, settings, content) + b"\n"

    def write(page: list[DeadLetter]) -> None:
        output.write(b"".join(map(line, page)))

    count = 0
    async with contextlib.aclosing(read(settings, wanted, report)) as pages:
        async for page in pages:
            count += len(page)
            await settled(write, page)
    return count


def _matching(page: list[AbstractIncomingMessage], wanted: Filter) -> list[DeadLetter]:
    dead_letters = (DeadLetter(describe(message), message) for message in page)
    return [dead_letter for dead_letter in dead_letters if wanted.matches(dead_letter.summary)]


class _Lanes:
    """Where what is replayed goes."""

    def __init__(self, settings: Settings, publisher: Publisher) -> None:
        self._names = settings.names
        self._publisher = publisher
        #: The exchanges of models, and whether they are there.
        self._there: dict[str, bool] = {}

    async def publish(self, key: str, message: aio_pika.Message) -> None:
        """Raises Unroutable when there is no such lane, and what `Publisher.publish` raises."""
        exchange = Exchange(self._names.copies(key.rpartition(".")[0]), "direct")
        if exchange.name not in self._there:
            wanted = Topology((exchange,), (), ())
            lacking = await self._publisher.ask(lambda connection: missing(connection, wanted))
            self._there[exchange.name] = not lacking
        if not self._there[exchange.name]:
            raise Unroutable(f"no worker has ever served the model of {key!r}")
        await self._publisher.publish(exchange.name, key, message)


class _Duplicates:
    """Tells what is there twice."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def is_first(self, dead_letter: DeadLetter) -> bool:
        """Whether this dead letter comes for the first time."""
        name = dead_letter.summary.message_id
        if name is None or not has_duplicates(name):
            return True
        before = len(self._seen)
        self._seen.add(bytes.fromhex(name))
        return len(self._seen) > before


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Also when cancelled: what was released and stays would be released again the next time."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=HAND_BACK_TIMEOUT)
        task.cancel()
        raise


class Removal:
    """Takes the matches out of their queue, each after it was released to where it goes."""

    def __init__(
        self,
        settings: Settings,
        wanted: Filter,
        release: Callable[[AbstractIncomingMessage], Awaitable[bool]],
        outcome: Outcome,
        report: Report | None = None,
        *,
        queue: str | None = None,
    ) -> None:
        """`release` says whether the message may go; `queue`: not dead letters, but this one."""
        self._queue = DeadLetterQueue(settings, queue)
        self._settings = settings
        self._wanted = wanted
        self._release = release
        self._outcome = outcome
        self._report = report
        self._found: set[str] = set()
        #: What was released, by the ids of which a second message is the same dead letter.
        self._released: set[bytes] = set()
        #: Released in this page; in a page whose acks may have been lost with the connection.
        self._recent: Counter[str] = Counter()
        self._doubtful: Counter[str] = Counter()
        self._losses = 0

    async def run(self) -> None:
        try:
            async with self._queue:
                while not await self._pass():  # noqa: ASYNC110 - the session has no event for it
                    await asyncio.sleep(LOSS_PAUSE)
        except BrokerError as error:
            if not self._outcome.done:
                raise
            raise type(error)(
                f"{error}; {self._outcome.done:,} had left the queue before, the others "
                "are still there"
            ) from error
        self._outcome.missing = self._wanted.ids - self._found

    async def _pass(self) -> bool:
        """From the oldest to the newest; False when the connection was lost on the way."""
        self._outcome.unroutable.clear()
        self._outcome.redacted = 0
        looked = 0
        try:
            async with contextlib.aclosing(self._queue.pages()) as pages:
                async for page in pages:
                    self._recent.clear()
                    await _to_the_end(self._take_out(page))
                    self._losses = 0
                    looked += len(page)
                    if self._report:
                        self._report(looked, self._queue.total)
        except LostError as error:
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
        duplicates = _Duplicates()
        dead_letters: dict[bool, list[DeadLetter]] = {True: [], False: []}
        for dead_letter in _matching(page, self._wanted):
            dead_letters[duplicates.is_first(dead_letter)].append(dead_letter)
        for some in dead_letters.values():  # the second of two knows then what became of the first
            results = await asyncio.gather(*map(self._may_go, some), return_exceptions=True)
            await self._queue.ack(
                [one.message for one, may_go in zip(some, results, strict=True) if may_go is True]
            )
            for result in results:
                if isinstance(result, BaseException):
                    raise result

    async def _may_go(self, dead_letter: DeadLetter) -> bool:
        summary = dead_letter.summary
        self._found |= self._wanted.named(summary)
        # Where ids are not unique, a message might be taken for another that was released.
        name = summary.id if summary.id == summary.message_id else ""
        if has_duplicates(name) and bytes.fromhex(name) in self._released:
            return True
        if name and self._doubtful[name] > 0:
            self._doubtful[name] -= 1
        elif await self._release(dead_letter.message):
            self._outcome.done += 1
        else:
            return False
        self._recent[name] += 1
        if has_duplicates(name):
            self._released.add(bytes.fromhex(name))
        return True
