"""The journal of a user's batch jobs: one queue on the broker, an entry for each thing that
happened.

It is read without taking anything out: everything is consumed, and handed back by closing the
channel. The consumer is exclusive, so that two readers never see half of it each. A reader knows
that it has all when a mark comes that it has put at the end: the depth of a quorum queue can be
told before the messages that were in it have come, over another node.

While a reader holds everything, it drops what is needless: `needless` says which entries.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Annotated, Final, Literal

import aio_pika
import msgspec
from aio_pika import DeliveryMode
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aiormq.exceptions import AMQPError, ChannelAccessRefused, ChannelInvalidStateError

from lmaas.broker_config.connection import Session
from lmaas.broker_config.errors import BrokerError, BrokerUnavailable, SealError
from lmaas.broker_config.messages import JOB, JSON
from lmaas.broker_config.publisher import Publisher
from lmaas.broker_config.sealing import ENCODING, KEY_HEADER, Label
from lmaas.broker_config.seals import Seals
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import MOST_HELD, Names, QueueType

log = logging.getLogger(__name__)

State = Literal["submitting", "submitted", "cancelled", "collected"]
#: States in which nothing of a job is left.
ENDED: Final = ("cancelled", "collected")
#: Of so many jobs that have ended, the last ones, it is known what became of them.
ENDED_KEPT: Final = 100

#: Seconds to wait while somebody else reads the journal, and between two tries.
READ_TIMEOUT: Final = 10.0
READ_PAUSE: Final = 0.05
#: The end of the year 9999, in Unix seconds: there are no dates after it.
LAST_MOMENT: Final = 253_402_300_799
#: `type` property of a reader's mark. That of a reader that crashed is dropped after READ_TIMEOUT.
MARK: Final = "lmaas.mark.v1"

#: A process that writes, but never reads, looks how long the journal is after so many entries, ...
LOOK_EVERY: Final = 256
#: ... and reads it when it has more entries than this, and than this for each job known before.
LONG: Final = 1_000
LONG_FOR_A_JOB: Final = 4

#: Entries of the journal -> the places of those that are to be dropped.
Needless = Callable[[Sequence["JobEntry"]], list[int]]

_Moment = Annotated[float, msgspec.Meta(ge=0, le=LAST_MOMENT)]


class JobEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that happened to a job."""

    job: str
    state: State
    model: str
    #: The results queue.
    queue: str
    version: str | None = None
    #: Chunks and items; known from state "submitted" on.
    chunks: int | None = None
    items: int | None = None
    #: Unix seconds.
    at: _Moment = msgspec.field(default_factory=time.time)

    def now(self, state: State, **changes: int) -> JobEntry:
        """The next entry of the same job."""
        return msgspec.structs.replace(self, state=state, at=time.time(), **changes)


async def record(publisher: Publisher, queue: str, entry: JobEntry) -> None:
    """Put an entry at the end of a queue: the journal's, or a job's results, which it seals."""
    body, sealed, seals = msgspec.json.encode(entry), None, Seals(publisher.settings)
    if seals.are_used:
        sealed = await seals.seal(body, Label("journal", queue=queue, content_type=JSON))
    message = aio_pika.Message(
        sealed.body if sealed else body,
        content_encoding=ENCODING if sealed else None,
        content_type=JSON,
        delivery_mode=DeliveryMode.PERSISTENT,
        headers={KEY_HEADER: sealed.key} if sealed else None,
        type=JOB,
    )
    await publisher.publish(publisher.settings.names.own, queue, message)


class Journal:
    """The journal as one process uses it."""

    def __init__(self, settings: Settings, session: Session, publisher: Publisher) -> None:
        self._seals = Seals(settings)
        self._names = settings.names
        self._queue_type = settings.queue_type
        self._session = session
        self._publisher = publisher
        self._added = 0
        #: Jobs that were known at the last reading.
        self._known = 0
        self._compacting: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """What is being dropped is left to the next reader."""
        if self._compacting:
            self._compacting.cancel()
            await asyncio.gather(self._compacting, return_exceptions=True)

    async def add(self, entry: JobEntry) -> None:
        """Returns when the broker has it. Raises BrokerError."""
        await record(self._publisher, self._names.jobs, entry)
        self._added += 1
        idle = self._compacting is None or self._compacting.done()
        if self._added % LOOK_EVERY == 0 and idle:
            self._compacting = asyncio.create_task(self._compact(), name="compact the journal")

    async def newest(self) -> dict[str, JobEntry]:
        """As `read`."""
        names, kind, seals = self._names, self._queue_type, self._seals
        found = await self._session.ask(lambda connection: read(connection, names, kind, seals))
        self._known = len(found)
        return found

    async def forget(self, queues: Collection[str]) -> None:
        """Drop all entries of these submissions. Raises BrokerUnavailable."""
        names, kind, seals, drop = self._names, self._queue_type, self._seals, dropping(queues)
        for _ in range(2):
            await self._session.ask(lambda connection: read(connection, names, kind, seals, drop))

    async def _compact(self) -> None:
        try:
            counts = await self._session.counts(self._names.jobs)
            if counts and counts[0] > max(LONG, LONG_FOR_A_JOB * self._known):
                await self.newest()
        except (BrokerError, AMQPError) as error:  # whoever reads it next does the same
            log.info("the journal was not compacted: %s", error, extra={"action": "journal"})


async def read(
    connection: AbstractConnection,
    names: Names,
    queue_type: QueueType = "classic",
    seals: Seals | None = None,
    drop: Needless | None = None,
) -> dict[str, JobEntry]:
    """`newest` of what is in the journal; what is no entry is passed over.

    Drops from the journal what is `needless`, or what `drop` says. Raises BrokerUnavailable.
    """
    drop = drop or needless
    held, seals = MOST_HELD[queue_type], seals or Seals.none()
    try:
        async with asyncio.timeout(READ_TIMEOUT):
            while (entries := await _entries(connection, names, held, seals, drop)) is None:  # noqa: ASYNC110
                await asyncio.sleep(READ_PAUSE)  # the broker says no more than: not now
    except TimeoutError as error:
        raise BrokerUnavailable(
            f"the journal {names.jobs} is being read by others for {READ_TIMEOUT:g} s; try again"
        ) from error
    return newest(entries)


def newest(entries: Sequence[JobEntry]) -> dict[str, JobEntry]:
    """By job, in the order in which they were submitted.

    Without submissions that were refused, and without jobs that ended before the last ENDED_KEPT.
    """
    last = _last(entries)
    untold = _untold(entries, last)
    return {
        one.job: one
        for place, one in enumerate(entries)
        # A job has its place in the order when it is submitted, or ends before that.
        if one.queue not in untold and (one.state != "submitting" or place == last[one.queue])
    }


def needless(entries: Sequence[JobEntry]) -> list[int]:
    """Places of the entries that can be dropped from the journal.

    Without all or any of them `newest` says the same: whoever drops them may be killed before the
    last one, and a broker that is killed may keep any of them. That is why an end is dropped only
    when it is all that is left of its submission: what is left without it would look like a job
    that goes on.
    """
    last = _last(entries)
    untold = _untold(entries, last)
    counts = Counter(one.queue for one in entries)

    def is_needless(place: int, one: JobEntry) -> bool:
        if place == last[one.queue]:
            return one.queue in untold and counts[one.queue] == 1
        return one.queue in untold or one.state == "submitting"

    return [place for place, one in enumerate(entries) if is_needless(place, one)]


def dropping(queues: Collection[str]) -> Needless:
    """What goes when the submissions with these queues are to be forgotten: read the journal twice.

    The first time all but the last entry of each goes, then that, for the reason in `needless`.
    """

    def places(entries: Sequence[JobEntry]) -> list[int]:
        last = _last(entries)
        counts = Counter(one.queue for one in entries)
        return [
            place
            for place, one in enumerate(entries)
            if one.queue in queues and (place != last[one.queue] or counts[one.queue] == 1)
        ]

    return places


def _last(entries: Sequence[JobEntry]) -> dict[str, int]:
    """The place of the last entry of each submission, which its queue stands for."""
    return {one.queue: place for place, one in enumerate(entries)}


def _untold(entries: Sequence[JobEntry], last: dict[str, int]) -> set[str]:
    """The submissions that were refused, or ended before the last ENDED_KEPT."""
    sent = {one.queue for one in entries if one.state == "submitted"}
    ends = [entries[place] for place in sorted(last.values()) if entries[place].state in ENDED]
    refused = {
        one.queue
        for one in ends
        if one.state == "cancelled" and one.chunks == 0 and one.queue not in sent
    }
    told = [one.queue for one in ends if one.queue not in refused]
    return refused.union(told[:-ENDED_KEPT])


def entry(
    message: AbstractIncomingMessage, names: Names, source: str, seals: Seals
) -> JobEntry | None:
    """The entry of a message from the queue `source`; None of what anybody else has written there.

    Its queue is deleted when its job is cancelled, so that it has to be a results queue of that
    job.
    """
    try:
        found = msgspec.json.decode(_opened(message, source, seals), type=JobEntry)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = None
    except SealError as error:
        log.warning("an entry of %s is passed over: %s", source, error,
                    extra={"action": "journal", "code": error.code})  # fmt: skip
        return None
    if found is None or not names.are_results_of(found.queue, found.job):
        # Without its body: nobody knows what somebody has written there.
        log.warning("a message of %s is no entry of a job", source, extra={"action": "journal"})
        return None
    return found


def _opened(message: AbstractIncomingMessage, source: str, seals: Seals) -> bytes:
    """Raises SealError."""
    content_type = message.content_type or ""
    label = Label("journal", queue=source, content_type=content_type)
    seal = seals.found(message.content_encoding, message.headers, lambda: label)
    return message.body if seal is None else seals.open(message.body, seal)


async def _entries(
    connection: AbstractConnection, names: Names, held: int, seals: Seals, drop: Needless
) -> list[JobEntry] | None:
    """Everything in the journal, from which it drops some; None while another reads."""
    try:
        async with connection.channel() as channel:
            await channel.set_qos(prefetch_count=held)
            messages = await _messages(channel, names)
            found = {tag: entry(one, names, names.jobs, seals) for tag, one in messages.items()}
            entries = {tag: one for tag, one in found.items() if one is not None}
            tags, underlay = list(entries), await channel.get_underlay_channel()
            for place in drop(list(entries.values())):
                await underlay.basic_ack(tags[place])
    except ChannelAccessRefused:
        return None
    return list(entries.values())


async def _messages(channel: AbstractChannel, names: Names) -> dict[int, AbstractIncomingMessage]:
    """What is in it, by delivery tag; the channel holds it until it is closed."""
    messages: dict[int, AbstractIncomingMessage] = {}
    mark = aio_pika.Message(b"", message_id=uuid.uuid4().hex, type=MARK, expiration=READ_TIMEOUT)
    complete: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def on_message(message: AbstractIncomingMessage) -> None:
        if message.type == JOB:
            assert message.delivery_tag is not None
            messages[message.delivery_tag] = message
        elif message.message_id == mark.message_id and not complete.done():
            await message.ack()
            complete.set_result(True)

    def on_close(*_: object) -> None:
        if not complete.done():
            complete.set_result(False)

    channel.close_callbacks.add(on_close)
    await (await channel.get_queue(names.jobs)).consume(on_message, exclusive=True)
    await (await channel.get_exchange(names.own, ensure=False)).publish(mark, names.jobs)
    if not await complete:
        raise ChannelInvalidStateError("the channel was closed over the journal")
    return dict(messages)
