"""What is parked: read it and leave everything there, send packs to their lanes again, drop them.

What was parked twice (`broker_config.letters`) is read once, for which memory holds the ids of what
was read.
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

from aio_pika.abc import (
    AbstractIncomingMessage,
)

from lmaas.broker_config.errors import BrokerError, BrokerUnavailable, Unroutable
from lmaas.broker_config.letters import has_twins
from lmaas.broker_config.publisher import Publisher
from lmaas.broker_config.settings import Settings
from lmaas.producer.checkpoint import Output
from lmaas.producer.parked import Filter, Parked, again, describe, exported, lane_key
from lmaas.producer.parking_lot import HAND_BACK_TIMEOUT, LostError, Lot
from lmaas.producer.threads import settled

T = TypeVar("T")

log = logging.getLogger(__name__)

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
        async with Lot(settings) as lot, contextlib.aclosing(lot.pages()) as pages:
            async for page in pages:
                looked += len(page)
                yield [one for one in _matching(page, wanted) if twins.is_first(one)]
                if report:
                    report(looked, lot.total)
    except LostError as error:
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
        self._lot = Lot(settings)
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
