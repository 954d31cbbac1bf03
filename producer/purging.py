"""Removes from the broker what is older than a moment, or what some ids name.

What is removed from is read as dead letters are (`dead_letter_queue`): an interruption loses
nothing. Of a message that has others beside what goes, the rest is published, and confirmed, before
the message goes.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

import aio_pika
import msgspec
from aio_pika.abc import AbstractIncomingMessage

from lmaas.broker_config.codes import meaning
from lmaas.broker_config.copies import copied
from lmaas.broker_config.dead_letter_ids import dead_letter_id, has_duplicates
from lmaas.broker_config.decoding import decode_request
from lmaas.broker_config.errors import BrokerRefused, LmaasError, MessageError
from lmaas.broker_config.headers import Headers
from lmaas.broker_config.messages import JOB, JSON, MSGPACK, Reply, Request, encode, known_language
from lmaas.broker_config.replies import decode_by_result
from lmaas.broker_config.sealing import ENCODING, KEY_HEADER, Label
from lmaas.broker_config.seals import Seal, Seals
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import is_model_name
from lmaas.producer import dead_letters
from lmaas.producer.batch import Jobs
from lmaas.producer.cards import cards
from lmaas.producer.dead_letter import Filter, put_here_by_broker, seal_of
from lmaas.producer.dead_letter_queue import MissingError, TakenError
from lmaas.producer.dead_letters import Outcome, Removal
from lmaas.producer.journal import ENDED, JobEntry
from lmaas.producer.progress import Progress
from lmaas.producer.publishing import PackPublisher
from lmaas.producer.without import answered, named, without_items, without_results

#: What a dead letter's reason says when it might quote what was removed.
WITHHELD: Final = "the words are withheld: an item beside these was removed (lmaas purge)"
#: Headers of a reply that a copy of it keeps.
_OF_A_REPLY: Final = "lmaas-"


@dataclass(frozen=True, slots=True)
class Removed:
    """What has left one place, or would leave it."""

    place: str
    #: Of what, as "dead letters".
    what: str
    count: int


@dataclass(slots=True)
class Purged:
    """What came of it."""

    removed: list[Removed] = field(default_factory=list)
    #: A sentence for each thing that stays although it was meant: why, and until when.
    remains: list[str] = field(default_factory=list)

    def __iadd__(self, other: Purged) -> Purged:
        self.removed += other.removed
        self.remains += [one for one in other.remains if one not in self.remains]
        return self

    def note(self, place: str, what: str, count: int) -> None:
        """That so many have left a place; nothing of none."""
        if count:
            self.removed.append(Removed(place, what, count))


async def older(
    settings: Settings, before_ms: int, *, dry: bool = False, dead: bool = True
) -> Purged:
    """Drop dead letters, results of finished jobs and entries of the journal from before a moment.

    A job's moment is that of its newest entry. `dry`: nothing is changed. Without `dead`, dead
    letters are left alone. Raises BrokerError.
    """
    purged = Purged()
    if dead:
        await _older_dead_letters(settings, before_ms, purged, dry)
    async with Jobs(settings) as jobs:
        listed = [one for one in await jobs.list() if one.entry.at * 1000 < before_ms]
        over = [one for one in listed if _is_over(one)]
        for one in over:
            if one.done is not None and not dry:
                await jobs.cancel(one.entry)
        if over and not dry:
            await jobs.forget(one.entry for one in over)
    for one in over:
        purged.note(f"job {one.entry.job}", "chunks of results", one.done or 0)
    purged.note(settings.names.jobs, "jobs in the list", len(over))
    purged.remains += [
        f"job {one.entry.job} is {one.state}: `lmaas jobs cancel {one.entry.job}` drops it"
        for one in listed
        if not _is_over(one)
    ]
    return purged


def _is_over(job: Progress) -> bool:
    return job.state in {*ENDED, "expired", "finished"}


async def _older_dead_letters(
    settings: Settings, before_ms: int, purged: Purged, dry: bool
) -> None:
    wanted = Filter(before=before_ms)
    try:
        if dry:
            async with contextlib.aclosing(dead_letters.read(settings, wanted)) as pages:
                count = sum([len(page) async for page in pages])
        else:
            count = (await dead_letters.purge(settings, wanted)).done
    except MissingError:
        return
    except BrokerRefused as error:
        purged.remains.append(str(error))
        return
    purged.note(settings.names.dead, "dead letters", count)


async def about(
    settings: Settings, ids: Collection[str], *, dry: bool = False, dead: bool = True
) -> Purged:
    """Remove the items with these ids from dead letters, and their results from those of jobs.

    Of jobs, those of this user of the broker. `dry`: nothing is changed. Without `dead`, dead
    letters are left alone. Raises BrokerError.
    """
    purged, wanted = Purged(), frozenset(ids)
    async with PackPublisher(settings, "purge publish") as publisher:
        letters = _DeadLetters(settings, wanted, publisher, dry)
        if dead:
            await _about_dead_letters(settings, letters, purged)
        async with Jobs(settings) as jobs:
            listed = await jobs.list()
        for one in listed:
            if one.done is not None:
                results = _Results(settings, one.entry, wanted, publisher, dry)
                await _about_job(settings, one, results, purged)
        models = letters.models | {one.entry.model for one in listed}
        if dead:
            models |= await _with_lanes(settings, publisher)
        purged.remains += await _waiting(publisher, models)
    return purged


async def _with_lanes(settings: Settings, publisher: PackPublisher) -> set[str]:
    """Models that may have lanes: what workers serve now, and what is in the folders of models."""
    there = {path.name for folder in settings.model_folders for path in folder.glob("*")}
    served = {card.model for card in await cards(publisher, settings)}
    return served | {name for name in there if is_model_name(name)}


async def _waiting(publisher: PackPublisher, models: Collection[str]) -> list[str]:
    """What is said of the lanes and retry queues of these models: they are left to workers."""
    found = {model: (await publisher.waiting(model)).packs for model in sorted(models)}
    return [
        f"model {model}: {packs:,} packs wait for a worker, and were not looked into; run this "
        "again when they are answered"
        for model, packs in found.items()
        if packs
    ]


async def _about_dead_letters(settings: Settings, letters: _DeadLetters, purged: Purged) -> None:
    try:
        await Removal(settings, Filter(), letters.release, Outcome()).run()
    except MissingError:
        return
    except BrokerRefused as error:
        purged.remains.append(str(error))
        return
    letters.tell(purged, settings.names.dead, "items")


async def _about_job(settings: Settings, job: Progress, results: _Results, purged: Purged) -> None:
    entry, outcome = job.entry, Outcome()
    try:
        await Removal(settings, Filter(), results.release, outcome, queue=entry.queue).run()
    except MissingError:
        return
    except TakenError:
        purged.remains.append(
            f"job {entry.job}: somebody is collecting its results (as the gateway does with its "
            "own); they were not looked at"
        )
        return
    results.tell(purged, f"job {entry.job}", "results")
    if not job.finished:
        purged.remains.append(
            f"job {entry.job} is {job.state}: what it is still asking for was not looked at; run "
            "this again when it has finished"
        )


class _Sifting:
    """Looks for ids in messages, and says which may go; counts on the way."""

    def __init__(
        self, settings: Settings, ids: frozenset[str], publisher: PackPublisher, dry: bool
    ) -> None:
        self._settings = settings
        self._ids = ids
        self._publisher = publisher
        self._dry = dry
        self._seals = Seals(settings)
        #: Message id, or a running number, -> how many of it were found. A message may be looked
        #: at twice, after a lost connection.
        self._found: Counter[str] = Counter()
        #: Why messages could not be looked into.
        self._unread: Counter[str] = Counter()

    def tell(self, purged: Purged, place: str, what: str) -> None:
        purged.note(place, what, self._found.total())
        purged.remains += [
            f"{place}: {count:,} messages could not be looked into, and stay: {why}"
            for why, count in self._unread.most_common()
        ]

    def _note(self, message: AbstractIncomingMessage, count: int) -> None:
        name = message.message_id
        if name is None or not has_duplicates(name):
            name = f"{len(self._found)}"
        self._found[name] = count

    async def _body(
        self, content: Request | Reply, message: AbstractIncomingMessage, seal: Seal | None
    ) -> tuple[bytes, str | None]:
        """Of what takes the place of a message, and the id of the key by which it is sealed."""
        kind = MSGPACK if known_language(message.content_type) == MSGPACK else JSON
        body = encode(content, kind)
        if seal is None or not seal.there:
            return body, None
        return await self._seals.seal(body, seal.label, seal.key)


class _DeadLetters(_Sifting):
    """Dead letters with items of these ids."""

    #: Of all dead letters that could be looked into.
    models: frozenset[str] = frozenset()

    async def release(self, message: AbstractIncomingMessage) -> bool:
        """Whether it may go: the items beside these are in a dead letter of their own."""
        seal = seal_of(message, self._seals)
        try:
            body = message.body if seal is None else self._seals.open(message.body, seal)
            request, faults = decode_request(
                body,
                message.content_type,
                max_item_bytes=self._settings.largest_pack,
                max_items=self._settings.max_pack_items,
            )
        except MessageError as error:
            self._unread[_kind(error)] += 1
            return False
        self.models |= {request.model}
        count = named(request, self._ids)
        if not count:
            return False
        self._note(message, count)
        if self._dry:
            return False
        if count < len(request.items):
            await self._keep(message, without_items(request, faults, self._ids), seal)
        return True

    async def _keep(
        self, message: AbstractIncomingMessage, rest: Request, seal: Seal | None
    ) -> None:
        names = self._settings.names
        headers = Headers.from_table(message.headers)
        changes: dict[str, object] = {"items": len(rest.items)}
        if seal is None and headers.error is not None and meaning(headers.error).quotes:
            changes |= {"reason": WITHHELD, "first_error": WITHHELD}
        reply_to = message.reply_to
        if put_here_by_broker(message) and not names.is_of(reply_to or "", message.user_id):
            reply_to = None  # workers would believe the copy
        if seal is not None and reply_to is None:
            seal = msgspec.structs.replace(seal, label=seal.label._replace(queue=""))
        body, key = await self._body(rest, message, seal)
        if key is not None:
            changes["key"] = key
        fresh = copied(message, msgspec.structs.replace(headers, **changes), body=body)
        fresh.reply_to = reply_to
        fresh.expiration = _left(message, headers)
        fresh.message_id = dead_letter_id(
            headers,
            correlation_id=message.correlation_id,
            reply_to=reply_to,
            content=rest,
            digest_key=self._seals.digest_key(seal),
        )
        await self._publisher.publish(names.dead, message.routing_key or "", fresh)


class _Results(_Sifting):
    """Chunks of a job's results."""

    def __init__(
        self,
        settings: Settings,
        job: JobEntry,
        ids: frozenset[str],
        publisher: PackPublisher,
        dry: bool,
    ) -> None:
        super().__init__(settings, ids, publisher, dry)
        self._job = job

    async def release(self, message: AbstractIncomingMessage) -> bool:
        """Whether it may go: a chunk with an error in the place of these results is there."""
        if message.type == JOB:
            return False
        number, kind = Headers.from_table(message.headers).chunk, message.content_type or ""
        label = Label("reply", self._job.model, self._job.queue, f"{self._job.job}.{number}", kind)
        seal = self._seals.found(message.content_encoding, message.headers, lambda: label)
        if seal is not None and not seal.there:  # from before there were keys
            seal = None
        try:
            body = message.body if seal is None else self._seals.open(message.body, seal)
            reply = decode_by_result(body, message.content_type)
        except MessageError as error:
            self._unread[_kind(error)] += 1
            return False
        count = answered(reply, self._ids)
        if not count:
            return False
        self._note(message, count)
        if self._dry:
            return False
        rest, key = await self._body(without_results(reply, self._ids), message, seal)
        headers = {
            name: value
            for name, value in message.headers.items()
            if name.startswith(_OF_A_REPLY) and name != KEY_HEADER
        }
        fresh = aio_pika.Message(
            rest,
            content_encoding=None if key is None else ENCODING,
            content_type=message.content_type,
            correlation_id=message.correlation_id,
            delivery_mode=message.delivery_mode,
            type=message.type,
            headers=headers if key is None else headers | {KEY_HEADER: key},
        )
        await self._publisher.publish(self._settings.names.own, self._job.queue, fresh)
        return True


def _left(message: AbstractIncomingMessage, headers: Headers) -> float | None:
    """Seconds that a dead letter may still lie there (setting keep_dead_letters of its worker)."""
    if not isinstance(message.expiration, int | float):
        return None
    age = time.time() - headers.parked_ms / 1000 if headers.parked_ms else 0.0
    return max(message.expiration - age, 0.001)


def _kind(error: LmaasError) -> str:
    """The beginning of its words, which is the same for many messages."""
    return str(error)[:80]
