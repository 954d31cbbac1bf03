"""The end of a pack on the worker: reply, the broker's confirm, then the ack; never otherwise.

A pack that could not be answered goes to a retry queue, when `broker_config.retry` says that a
later try may go better; else the caller gets its error, and a copy goes to the dead letter queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import OrderedDict
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

import aio_pika
import msgspec
from aio_pika import DeliveryMode
from aiormq.exceptions import AMQPChannelError

from lmaas.broker_config import tracing
from lmaas.broker_config.codes import Code, meaning
from lmaas.broker_config.copies import copied
from lmaas.broker_config.dead_letter_ids import dead_letter_id
from lmaas.broker_config.errors import (
    BrokerRefused,
    BrokerUnavailable,
    Busy,
    LmaasError,
    MessageError,
    SealError,
    Unroutable,
)
from lmaas.broker_config.messages import (
    CLOCK,
    JSON,
    MSGPACK,
    REPLY,
    ItemError,
    Reply,
    Request,
    encode,
    shortened,
)
from lmaas.broker_config.metrics import outcomes
from lmaas.broker_config.publisher import Publisher
from lmaas.broker_config.redaction import Redaction
from lmaas.broker_config.retry import delay
from lmaas.broker_config.sealing import ENCODING, KEY_HEADER, Direction, Sealed
from lmaas.broker_config.seals import Seals
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import delay_ms, routing_key
from lmaas.workers import metrics
from lmaas.workers.callers import Callers
from lmaas.workers.cancelled import Cancelled
from lmaas.workers.consumer import Consumer
from lmaas.workers.delivery import Delivery
from lmaas.workers.pack import Pack

log = logging.getLogger(__name__)

#: Cancelled jobs, and clients that are away, that a worker remembers, by their results queues.
REMEMBERED: Final = 10_000
#: Seconds at most for which a results queue that was not there is taken to be away, and the share
#: of the shortest retry delay: what is retried comes back later than that, and is tried.
AWAY: Final = 0.9
AWAY_SHARE: Final = 0.9
#: Headers of a request that its reply carries too.
ECHOED: Final = ("lmaas-job", "lmaas-chunk", "lmaas-items", "lmaas-replays", "traceparent")
#: Seconds before a broker that did not take a message is asked again.
PAUSE: Final = 1.0


@dataclass(slots=True)
class Answer:
    """A reply that is ready to go, and what of it has failed for other reasons than its sender."""

    body: bytes
    #: By the item's position in its pack.
    failures: dict[int, ItemError] = field(default_factory=dict)
    #: Why the pack was refused as a whole.
    refusal: ItemError | None = None

    @classmethod
    def of(cls, delivery: Delivery, reply: Reply) -> Answer:
        failures = {
            place: result.error
            for place, result in enumerate(reply.results)
            if result.error is not None and meaning(result.error.code).dead_lettered
        }
        delivery.outcomes = outcomes(reply)
        for place in failures.keys() & delivery.pack.faults.keys():  # the sender's own words
            del failures[place]
        return cls(encode(reply, language(delivery)), failures, reply.error)

    @property
    def error(self) -> ItemError | None:
        """The first one; None when there is nothing to retry or to dead-letter."""
        return self.refusal or next(iter(self.failures.values()), None)

    @property
    def reasons(self) -> dict[ItemError, list[int]]:
        """Each error with the places of the items that have it; no places: all of the pack."""
        if self.refusal is not None:
            return {self.refusal: []}
        reasons: dict[ItemError, list[int]] = {}
        for place, error in sorted(self.failures.items()):
            reasons.setdefault(error, []).append(place)
        return reasons

    @property
    def transient(self) -> ItemError | None:
        """One that may be gone at the next try."""
        errors = [*self.failures.values(), *([self.refusal] if self.refusal else [])]
        return next((error for error in errors if meaning(error.code).transient), None)


class Replier:
    """Sends replies and settles deliveries."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        publisher: Publisher,
        consumer: Consumer,
        cancelled: Cancelled,
        callers: Callers,
    ) -> None:
        """`name` is the worker's; `cancelled` knows what nobody waits for any more."""
        self._callers = callers
        self._name = name
        self._settings = settings
        self._seals = Seals(settings)
        self._redaction = Redaction(settings)
        self._names = settings.names
        self._publisher = publisher
        self._consumer = consumer
        self._cancelled = cancelled
        shortest = min(map(delay_ms, settings.retry_delays)) / 1000
        self._away_for = min(AWAY, AWAY_SHARE * shortest)
        #: Results queues of clients that are away, each with the moment at which that was seen, on
        #: the clock of time.monotonic().
        self._away: OrderedDict[str, float] = OrderedDict()
        #: The same of queues that were found.
        self._there: OrderedDict[str, float] = OrderedDict()

    def is_cancelled(self, delivery: Delivery) -> bool:
        """Whether nobody waits any more for this pack, or for the job that it belongs to."""
        return delivery in self._cancelled

    def is_away(self, delivery: Delivery) -> bool:
        """Whether there was no queue for its answer a moment ago, so that to run it is in vain."""
        seen = self._away.get(delivery.reply_to or "")
        return seen is not None and time.monotonic() - seen < self._away_for

    async def look_for_caller(self, delivery: Delivery) -> None:
        """Ask the broker whether somebody takes its answer, unless that was known a moment ago.

        For a pack that costs more than the question. `is_cancelled` or `is_away` say what came of
        it.
        """
        queue = delivery.reply_to
        seen = self._there.get(queue or "")
        if not queue or (seen is not None and time.monotonic() - seen < self._away_for):
            return
        try:
            there = await self._publisher.counts(queue) is not None
        except BrokerUnavailable:  # then the pack is not ours any more, too
            return
        except (AMQPChannelError, BrokerRefused):  # one that only its owner may ask for
            there = True
        if there:
            _note(self._there, queue)
        else:
            self._miss(delivery)

    async def finish(self, delivery: Delivery, answer: Answer) -> None:
        """Retried later, or answered and perhaps dead-lettered; acked once that is confirmed."""
        await self._settle(delivery, self._told(delivery, answer))

    async def wait(self, delivery: Delivery) -> None:
        """The same without an answer, for one whose caller is away."""
        await self._settle(delivery, self._kept_for_caller(delivery))

    async def _told(self, delivery: Delivery, answer: Answer) -> tuple[bool, bool]:
        """Whether it needs nobody's care any more, and whether it is tried again later."""
        error = answer.transient
        later = error is not None and await self._retry_later(delivery, error)
        # Dead-lettered first: who hears of an error finds it there.
        kept = later or await self._keep(delivery, answer)
        if not later and self._waits_for_key(delivery, answer):
            return kept, False
        later = later or not await self._answer(delivery, answer)
        return kept, later

    def _waits_for_key(self, delivery: Delivery, answer: Answer) -> bool:
        """Whether nothing is said of a job's chunk, which nobody has opened.

        Its dead letter can be sent again when there is the key: that answer is then the first.
        """
        is_for_later = answer.transient is not None and delivery.headers.job is not None
        return is_for_later and _is_unopened(delivery)

    async def _kept_for_caller(self, delivery: Delivery) -> tuple[bool, bool]:
        later = await self._retry_later(delivery, _results_gone(delivery))
        if not later:
            self._unclaimed(delivery)
        return True, later

    async def _settle(
        self, delivery: Delivery, telling: Coroutine[Any, Any, tuple[bool, bool]]
    ) -> None:
        try:
            kept, later = await telling
        except LmaasError as error:
            log.warning(
                "not settled: %s",
                error,
                extra={"action": "settle_failed", **tracing.context(delivery.headers)},
            )
            await asyncio.sleep(PAUSE)  # it comes back at once
            await delivery.hand_back()
        except Exception:
            await self._give_up(delivery)
        else:
            await (delivery.ack() if kept else delivery.refuse())
            if not later:
                self._tell(delivery)

    async def _give_up(self, delivery: Delivery) -> None:
        """After a bug of ours, which must not hold the pack for ever: the broker moves it.

        Where texts are redacted the broker gets a dead letter without them.
        """
        log.exception(
            "not settled, and dead-lettered by the broker",
            extra={"action": "settle_failed", **tracing.context(delivery.headers)},
        )
        if not self._redacts(delivery):
            return await delivery.refuse()
        bug = ItemError(code=Code.INTERNAL, message="a bug of the worker; see its log")
        try:
            await self._withhold(delivery, bug)
        except LmaasError:
            await asyncio.sleep(PAUSE)
            await delivery.hand_back()
        else:
            await delivery.ack()

    def _tell(self, delivery: Delivery) -> None:
        """For metrics and traces: it was answered."""
        metrics.answered(delivery)
        tracing.processed(
            delivery.headers,
            exchange=self._names.work,
            key=delivery.message.routing_key or "",
            model=delivery.model,
            lane=delivery.lane,
            outcomes=delivery.outcomes,
            seconds=time.monotonic() - delivery.began if delivery.began else 0.0,
        )

    async def _answer(self, delivery: Delivery, answer: Answer) -> bool:
        """False when the pack is tried again later."""
        if await self._reply(delivery, answer.body):
            return True
        if answer.error is None and await self._wait_for_caller(delivery):
            return False
        self._unclaimed(delivery)
        return True

    def _unclaimed(self, delivery: Delivery) -> None:
        metrics.unclaimed()
        log.info(
            "nobody waits for a reply",
            extra={"action": "reply_unclaimed", **tracing.context(delivery.headers)},
        )

    async def move(self, delivery: Delivery, key: str) -> None:
        """To the lane where it belongs; if that does not take it, it is run where it is."""
        born_ms = int(delivery.published * 1000)
        try:
            headers = msgspec.structs.replace(
                delivery.headers,
                cost=delivery.seconds,
                remaining=delivery.remaining,
                published_ms=born_ms,
            )
            message = copied(delivery.message, headers, priority=0)
            await self._publisher.publish(self._names.copies(delivery.model), key, message)
        except LmaasError as error:
            log.warning(
                "not moved to %s: %s",
                key,
                error,
                extra={"action": "move_failed", **tracing.context(delivery.headers)},
            )
            delivery.belongs = None
            self._consumer.hold(delivery)
        except Exception:
            await self._give_up(delivery)
        else:
            await delivery.ack()

    async def skip(self, delivery: Delivery) -> None:
        """Drop a pack that nobody waits for."""
        metrics.cancelled()
        await delivery.ack()

    async def _reply(self, delivery: Delivery, body: bytes) -> bool:
        """Whether somebody takes the reply, or nobody asked for one."""
        if not delivery.reply_to:
            return True
        try:
            return await self._send(delivery, delivery.reply_to, body)
        except MessageError as error:
            request = delivery.pack.request
            fault = ItemError(code=Code.TOO_LARGE, message=f"the answer cannot be sent: {error}")
            reply = Reply(model=request.model if request else "", results=[], error=fault)
            body = encode(reply, language(delivery))
        try:
            return await self._send(delivery, delivery.reply_to, body)
        except MessageError as error:
            log.warning(
                "the broker takes no answer: %s", error,
                extra={"action": "reply_refused", **tracing.context(delivery.headers)},
            )  # fmt: skip
            return False

    async def _send(self, delivery: Delivery, reply_to: str, body: bytes) -> bool:
        """Whether there is such a queue. Raises MessageError when the body is too large."""
        table = delivery.headers.table()
        sealed = await self._sealed(delivery, "reply", body)
        message = aio_pika.Message(
            body if sealed is None else sealed.body,
            content_encoding=None if sealed is None else ENCODING,
            content_type=language(delivery),
            correlation_id=delivery.message.correlation_id,
            delivery_mode=DeliveryMode.PERSISTENT,
            type=REPLY,
            headers={name: table[name] for name in ECHOED if name in table}
            | {CLOCK: int(time.time() * 1000)}
            | ({} if sealed is None else {KEY_HEADER: sealed.key}),
        )
        began = time.monotonic()
        try:
            exchange, key = self._callers.address(reply_to)
            await self._publish(delivery, exchange, key, message)
        except Unroutable:
            return False
        self._consumer.confirmed(time.monotonic() - began)
        return True

    async def _sealed(self, delivery: Delivery, direction: Direction, body: bytes) -> Sealed | None:
        """A body that belongs to what was sealed, by the same key; None when it is sent as it is.

        That is so without a seal, and of a refusal of what could not be opened: it says nothing of
        what is in there, and who asked may have no key that we have.
        """
        seal = delivery.seal
        if seal is None or not seal.there or not self._seals.are_used or _is_unopened(delivery):
            return None
        asked, answered = seal.label.content_type, language(delivery)
        content_type = asked if direction == "request" else answered
        label = seal.label._replace(direction=direction, content_type=content_type)
        return await self._seals.seal(body, label, seal.key)

    async def _wait_for_caller(self, delivery: Delivery) -> bool:
        """The results queue is gone, with its broker for now, or for good: whether to try again.

        Who cancels a job deletes its queue; that of a client may be made anew when it is back.
        """
        self._miss(delivery)
        if self.is_cancelled(delivery):
            return False
        return await self._retry_later(delivery, _results_gone(delivery))

    def _miss(self, delivery: Delivery) -> None:
        """There is no queue for its answer."""
        queue = delivery.reply_to or ""
        if delivery.headers.job is not None:
            self._cancelled.close(queue)
        else:
            _note(self._away, queue)

    async def _retry_later(self, delivery: Delivery, error: ItemError) -> bool:
        """Into a retry queue, if a later try has any use."""
        headers, now = delivery.headers, time.time()
        born = delivery.published
        left = headers.deadline_ms / 1000 - now if headers.deadline_ms else None
        chosen = delay(
            error.code,
            headers.attempt,
            delays=self._settings.retry_delays,
            most=self._settings.max_attempts,
            age=now - born,
            left=left,
            roll=random.random(),
        )
        if chosen is None:
            return False
        changed = msgspec.structs.replace(
            headers,
            attempt=headers.attempt + 1,
            published_ms=int(born * 1000),
            **self._reason(delivery, error),
        )
        log.warning(
            "retry in %s after try %d: %s", chosen, headers.attempt, self._shown(delivery, error),
            extra={"action": "retry_later", "code": error.code,
                   **tracing.context(delivery.headers)},
        )  # fmt: skip
        # The key of the lane that all share, also for one that came by a worker's own.
        key = routing_key(delivery.model, delivery.lane)
        copy = copied(delivery.message, changed)
        try:
            retry = self._names.retry(delivery.model, chosen)
            await self._publish(delivery, retry, key, copy)
        except MessageError:  # then it is not dead-lettered by us either
            return False
        metrics.retried(chosen, error.code)
        return True

    async def _keep(self, delivery: Delivery, answer: Answer) -> bool:
        """What failed, a copy for each reason, into the dead letter queue for people to look at.

        False when it is too large to be held twice, or the broker does not take it: then the broker
        has to move it itself, without the reason.
        """
        too_large = delivery.pack.size > self._settings.largest_pack
        if answer.error and too_large and not self._redacts(delivery):
            return self._left_to_broker(delivery, self._shown(delivery, answer.error))
        dead_lettering = (
            self._dead_letter(delivery, error, places) for error, places in answer.reasons.items()
        )
        try:
            await asyncio.gather(*dead_lettering)
        except MessageError as refusal:
            if not self._redacts(delivery) or answer.error is None:
                return self._left_to_broker(delivery, refusal)
            with contextlib.suppress(MessageError):
                await self._withhold(delivery, answer.error)
        return True

    def _redacts(self, delivery: Delivery) -> bool:
        """Whether its texts may not be parked as they are; nobody can read those of a seal that the
        worker could not open.
        """
        return self._redaction.is_used and not _is_unopened(delivery)

    async def _withhold(self, delivery: Delivery, error: ItemError) -> None:
        """Dead-letter it without anything that was sent."""
        await self._dead_letter(delivery, error, [], withheld=True)

    def _shown(self, delivery: Delivery, error: ItemError) -> ItemError:
        """What may be said of an error in logs and headers."""
        return self._redaction.error(delivery.told(error))

    def _redacted(
        self, pack: Pack, part: Request | None, places: list[int], language: str
    ) -> tuple[Request | None, bytes]:
        """What may be parked of a part of a pack, whose items were at these places; none: all."""
        if part is None:
            return None, b""
        at = places or range(len(part.items))
        faults = {new: pack.faults[old] for new, old in enumerate(at) if old in pack.faults}
        shown = self._redaction.request(part, faults)
        return shown, encode(shown, language)

    def _left_to_broker(self, delivery: Delivery, why: ItemError | MessageError) -> bool:
        log.warning(
            "dead-lettered by the broker: %s", why,
            extra={"action": "dead_lettered", **tracing.context(delivery.headers)},
        )  # fmt: skip
        return False

    async def _dead_letter(
        self, delivery: Delivery, error: ItemError, places: list[int], *, withheld: bool = False
    ) -> None:
        """A copy of what failed for one reason."""
        headers = msgspec.structs.replace(
            delivery.headers, parked_ms=int(time.time() * 1000), **self._reason(delivery, error)
        )
        pack = delivery.pack
        part, body = pack.request, None
        if part is not None and 0 < len(places) < len(part.items):
            part = msgspec.structs.replace(part, items=[part.items[place] for place in places])
            body = encode(part, language(delivery))
        if self._redacts(delivery):
            kept = None if withheld else part
            part, body = self._redacted(pack, kept, places, language(delivery))
            headers = msgspec.structs.replace(headers, redacted=True)
        if body is not None and (sealed := await self._sealed(delivery, "request", body)):
            body, count = sealed.body, len(part.items) if part else headers.items
            headers = msgspec.structs.replace(headers, key=sealed.key, items=count)
        message = copied(delivery.message, headers, body=body)
        message.reply_to = delivery.reply_to  # no other: what is replayed is answered to it
        message.expiration = self._settings.keep_dead_letters or None
        message.message_id = dead_letter_id(
            delivery.headers,
            correlation_id=message.correlation_id,
            reply_to=message.reply_to,
            # A whole pack may have texts that nothing can carry; they are in its faults.
            content=message.body if part is None or (body is None and pack.faults) else part,
            digest_key=self._seals.digest_key(delivery.seal),
        )
        log.warning(
            "%s dead-lettered as %s: %s",
            f"{len(places)} items" if places else "a pack",
            message.message_id,
            self._shown(delivery, error),
            extra={"action": "dead_lettered", "code": error.code, "id": message.message_id,
                   **tracing.context(delivery.headers)},
        )  # fmt: skip
        await self._publish(delivery, self._names.dead, delivery.message.routing_key or "", message)
        metrics.dead_lettered(error.code)

    def _reason(self, delivery: Delivery, error: ItemError) -> dict[str, str]:
        """What went wrong, as headers."""
        error = self._shown(delivery, error)
        return {
            "first_error": delivery.headers.first_error or shortened(str(error)),
            "error": str(error.code),
            "reason": shortened(error.message),
            "worker": self._name,
        }

    async def _publish(
        self, delivery: Delivery, exchange: str, key: str, message: aio_pika.Message
    ) -> None:
        """Again and again, while the pack is ours: the broker may be full, or in alarm for hours.

        Raises Unroutable, and BrokerUnavailable or Busy when somebody else gets the pack.
        """
        while True:
            try:
                return await self._publisher.publish(exchange, key, message)
            except (BrokerUnavailable, Busy) as error:
                if not delivery.is_ours:
                    raise
                log.warning(
                    "not published yet: %s", error,
                    extra={"action": "publish_again", **tracing.context(delivery.headers)},
                )  # fmt: skip
                await asyncio.sleep(PAUSE)


def _is_unopened(delivery: Delivery) -> bool:
    """Whether the worker does not know what is in it, because the seal does not open."""
    error = delivery.pack.error
    return error is not None and meaning(error.code).error is SealError


def _note(queues: OrderedDict[str, float], queue: str) -> None:
    """That it was seen now."""
    queues[queue] = time.monotonic()
    queues.move_to_end(queue)
    if len(queues) > REMEMBERED:
        queues.popitem(last=False)


def _results_gone(delivery: Delivery) -> ItemError:
    words = f"no queue {delivery.reply_to!r} for the answer"
    return ItemError(code=Code.RESULTS_GONE, message=words)


def language(delivery: Delivery) -> str:
    """Answered as it was asked; in JSON when nobody could read the question."""
    asked = (delivery.message.content_type or "").partition(";")[0].strip().lower()
    return MSGPACK if asked == MSGPACK else JSON
