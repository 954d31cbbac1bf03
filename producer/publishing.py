"""Packs to their lanes: the one way in which requests are published."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from types import TracebackType
from typing import Final

import aio_pika
import msgspec
from aio_pika import DeliveryMode
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import ChannelPreconditionFailed

from lmaas.broker_config import metrics, policies, tracing
from lmaas.broker_config.connection import harmless_when_gone
from lmaas.broker_config.declaring import ensure
from lmaas.broker_config.errors import (
    BrokerError,
    BrokerSilent,
    Busy,
    MessageError,
    ModelNotFound,
    Unroutable,
)
from lmaas.broker_config.estimator import Estimator
from lmaas.broker_config.headers import Headers
from lmaas.broker_config.messages import MAX_TOP_K, MSGPACK, REQUEST, ModelCard, Request, encode
from lmaas.broker_config.publisher import Publisher
from lmaas.broker_config.scheduling import LANES, Cost, place, rank
from lmaas.broker_config.sealing import ENCODING, Label
from lmaas.broker_config.seals import Seals
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import (
    RETRY_DELAYS,
    any_worker_key,
    is_model_name,
    routing_key,
    topology,
)
from lmaas.producer.admission import Admission
from lmaas.producer.cards import cards
from lmaas.producer.lost import Waiting

log = logging.getLogger(__name__)

#: A full lane may be tried again when this share of it has been done by one worker.
PATIENCE: Final = 0.01
#: Seconds between the tries of those who wait for room: the broker tells nobody.
BUSY_PAUSE: Final = 0.25
#: Seconds that a first publish waits to hear whether messages are diverted; it takes milliseconds.
DIVERSION_TIMEOUT: Final = 1.0
#: For a model of which nothing is known yet.
_GUESS: Final = Estimator()


class PackPublisher(Publisher):
    """A publisher that knows the lanes."""

    def __init__(self, settings: Settings, name: str) -> None:
        super().__init__(settings, name, self._declare)
        self._seals = Seals(settings)
        self._admission = Admission(settings.max_waiting, self._depth)
        #: Of models of which a worker has said or shown what packs cost.
        self._estimators: dict[str, Estimator] = {}
        #: Models of which a worker was asked what packs cost.
        self._introductions: set[str] = set()
        #: Why the broker could not say the depth of a lane, when it was last asked; else None.
        self.silence: BrokerSilent | None = None
        #: Whether the broker takes what no queue takes, and says nothing; asked at each start.
        self._diverts: asyncio.Task[bool] | None = None

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._admission.close()
        await super().__aexit__(kind, error, traceback)
        if self._diverts:
            self._diverts.cancel()
            await asyncio.gather(self._diverts, return_exceptions=True)

    async def _declare(self, _: AbstractChannel) -> None:
        # No lanes: a lane exists when a worker has served its model, and a name that nobody
        # serves is told to the caller instead of waiting in a queue for ever.
        names = self.settings.names
        await ensure(self.connection, topology(names, self.settings.queue_type))
        # Not waited for: while the broker is in alarm, it confirms nothing.
        asking = self._asked(self.connection)
        self._diverts = asyncio.create_task(asking, name="ask for diversion")

    async def _asked(self, connection: AbstractConnection) -> bool:
        work = self.settings.names.work
        found = False
        with harmless_when_gone("ask for diversion"):
            # On a channel of its own: who may not publish, but look, has it closed. Else it is left
            # to its connection: to be closed, it would wait for a broker that is in alarm.
            found = await policies.diverts(await connection.channel(on_return_raises=True), work)
        if found:
            told = policies.diversion(work)
            log.warning("%s: %s", told.name, told.problem, extra={"action": "policy"})
        return found

    async def _is_diverted(self) -> bool:
        """Whether no queue at all may take a message that the broker confirms."""
        asking = self._diverts
        if asking is None:
            return False
        if not asking.done():
            await asyncio.wait([asking], timeout=DIVERSION_TIMEOUT)
        return asking.done() and not asking.cancelled() and asking.result()

    async def cards(self, model: str | None = None, *, first: bool = False) -> list[ModelCard]:
        """What workers say of a model, or of all; see `cards.cards`."""
        return await cards(self, self.settings, model, first=first)

    async def introduced(self, model: str) -> ModelCard | None:
        """What a worker says of a model, as of now; None without one.

        From the first time on what packs cost is estimated as it says. Raises BrokerUnavailable.
        """
        card = next(iter(await self.cards(model, first=True)), None)
        if card is not None and not self.knows(model):
            cost = Cost(card.fixed_seconds, card.seconds_per_byte, card.seconds_per_item)
            self._estimators[model] = Estimator(cost)
        self._introductions.add(model)
        return card

    def knows(self, model: str) -> bool:
        """Whether packs of the model are estimated by what a worker said.

        Or by what its answers have shown, where none said anything. A few answers to single calls
        say little of large packs.
        """
        return model in self._introductions and model in self._estimators

    def seconds(self, model: str, items: int, size: int) -> float:
        """Estimated service time of a pack of `items` of `size` bytes, better with every answer
        that was learnt from.
        """
        return self._estimators.get(model, _GUESS).seconds(items, size)

    def learn(self, model: str, items: int, size: int, seconds: float) -> None:
        """A worker took `seconds` for a pack of `items`, whose body had `size` bytes."""
        self._estimators.setdefault(model, Estimator()).observe([(items, size)], seconds)

    async def publish_patiently(
        self,
        request: Request,
        patience: float,
        *,
        reply_to: str,
        correlation_id: str,
        headers: Headers,
    ) -> int:
        """`publish_pack`, which waits up to `patience` seconds for room in a full lane."""
        give_up = time.monotonic() + patience
        while True:
            try:
                return await self.publish_pack(
                    request, reply_to=reply_to, correlation_id=correlation_id, headers=headers
                )
            except Busy as error:
                if time.monotonic() >= give_up:
                    raise
                await asyncio.sleep(min(error.retry_after, BUSY_PAUSE))

    async def publish_pack(
        self, request: Request, *, reply_to: str, correlation_id: str, headers: Headers
    ) -> int:
        """Publish a pack to its lane and wait for the broker's confirm; the body's size in bytes.

        `headers.items`, `.cost` and `.published_ms` are filled in here. Raises ModelNotFound when
        no worker has ever served the model on this broker, Busy when its lane is full, MessageError
        when no worker would accept it, and what `publish` raises.
        """
        self._check(request)
        body = _encoded(request)
        sealed = None
        if self._seals.are_used:
            label = Label("request", request.model, reply_to, correlation_id, MSGPACK)
            sealed = await self._seals.seal(body, label)
            body = sealed.body
        self._check_body(body)
        seconds = self.seconds(request.model, len(request.items), len(body))
        order = rank(self.settings.policy, seconds, headers.remaining)
        lane, priority = place(self.settings.policy, self.settings.ageing, order)
        now = int(time.time() * 1000)
        message = aio_pika.Message(
            body,
            content_encoding=ENCODING if sealed else None,
            content_type=MSGPACK,
            correlation_id=correlation_id,
            delivery_mode=DeliveryMode.PERSISTENT,
            headers=msgspec.structs.replace(
                headers,
                items=len(request.items),
                cost=seconds,
                published_ms=now,
                key=sealed.key if sealed else None,
            ).table(),
            message_id=uuid.uuid4().hex,
            priority=priority,
            reply_to=reply_to,
            timestamp=now // 1000,
            type=REQUEST,
            user_id=self.settings.user,
        )
        await self._publish_admitted(request, lane, seconds, message)
        metrics.published()
        return len(body)

    def _check(self, request: Request) -> None:
        """Raises ModelNotFound, and MessageError for what no worker would accept."""
        if not is_model_name(request.model):
            raise ModelNotFound(f"no model can have the name {request.model!r}")
        if not 0 <= request.options.top_k <= MAX_TOP_K:
            raise MessageError(
                f"top_k is {request.options.top_k}; it must be 0 or more, and at most {MAX_TOP_K}"
            )
        if len(request.items) > self.settings.max_pack_items:
            raise MessageError(
                f"a pack of {len(request.items):,} items; workers accept "
                f"{self.settings.max_pack_items:,} (setting max_pack_items): make smaller packs"
            )

    def _check_body(self, body: bytes) -> None:
        """Raises MessageError for one that no worker would accept."""
        if len(body) > self.settings.largest_pack:
            raise MessageError(
                f"a pack of {len(body):,} bytes; workers accept {self.settings.largest_pack:,} "
                "(setting max_pack_bytes): make smaller packs"
            )

    async def _publish_admitted(
        self, request: Request, lane: str, seconds: float, message: aio_pika.Message
    ) -> None:
        """Into a lane that has room, and is there. Raises Busy and ModelNotFound."""
        queue = self.settings.names.work_queue(request.model, lane)
        if not await self._admission.admits(queue):
            raise Busy(
                f"lane {lane!r} of model {request.model!r} is full: "
                f"{self.settings.max_waiting:,} packs wait (setting max_waiting); try again later",
                retry_after=min(max(self.settings.max_waiting * seconds * PATIENCE, 1.0), 60.0),
            )
        try:
            if await self._is_diverted() and not await self._exists(queue):
                raise Unroutable(f"there is no queue {queue!r}")
            await self._publish_to(request, lane, message)
        except Unroutable as error:
            raise ModelNotFound(
                f"no worker has ever served model {request.model!r} on {self.settings.broker}; "
                f"start one with `lmaas worker --model {request.model}`"
            ) from error
        finally:
            self._admission.published(queue)

    async def _publish_to(self, request: Request, lane: str, message: aio_pika.Message) -> None:
        model, work = request.model, self.settings.names.work
        key = routing_key(model, lane)
        with tracing.publishing(work, key, model, len(request.items), message.headers):
            await self._to_worker_or_lane(model, lane, message)

    async def _to_worker_or_lane(self, model: str, lane: str, message: aio_pika.Message) -> None:
        work = self.settings.names.work
        if self.settings.balance == "random":
            try:
                await self.publish(work, any_worker_key(model, lane), message)
                return
            except Unroutable:  # no worker is there: it waits in the lane that all share
                pass
        await self.publish(work, routing_key(model, lane), message)

    async def consumers(self, model: str) -> int:
        """How many take from the lane of the model that most take from, at this moment.

        Raises BrokerUnavailable.
        """
        queues = [self.settings.names.work_queue(model, lane) for lane in LANES]
        return max([(await self._counts(queue))[1] for queue in queues])

    async def waiting(self, model: str) -> Waiting:
        """What waits for the workers of a model. Raises BrokerUnavailable."""
        names = self.settings.names
        lanes = [await self._counts(names.work_queue(model, lane)) for lane in LANES]
        # The default ones too: the setting of the workers may be another one, as after a change.
        delays = {*self.settings.retry_delays, *RETRY_DELAYS}
        retries = [await self._counts(names.retry(model, delay)) for delay in delays]
        packs = sum(ready for ready, _ in lanes + retries)
        return Waiting(packs, max(consumers for _, consumers in lanes))

    async def delete_unused(self, queue: str) -> None:
        """Delete a queue that nobody takes from, if there is one. Raises BrokerUnavailable."""

        async def delete(connection: AbstractConnection) -> None:
            async with connection.channel() as channel:
                await channel.queue_delete(queue, if_unused=True)

        with contextlib.suppress(ChannelPreconditionFailed):
            await self.ask(delete)

    async def _exists(self, queue: str) -> bool:
        return await self.counts(queue) is not None

    async def _depth(self, queue: str) -> int:
        """Ready messages of a queue; none when nobody can say."""
        try:
            depth = (await self._counts(queue))[0]
        except BrokerError as error:  # the publish itself will say it
            self.silence = error if isinstance(error, BrokerSilent) else None
            return 0
        self.silence = None
        return depth

    async def _counts(self, queue: str) -> tuple[int, int]:
        """Ready messages and consumers of a queue; none of one that is not there."""
        return await self.counts(queue) or (0, 0)


def _encoded(request: Request) -> bytes:
    """Raises MessageError for a text that is no Unicode."""
    try:
        return encode(request)
    except UnicodeEncodeError as error:
        raise MessageError(f"the request cannot be sent: {error}") from error
