"""Takes packs from the lanes and settles them: prefetch, acks, what a lost connection means."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue
from aiormq.exceptions import ConnectionCommandInvalid

from broker_config.connection import Session, harmless_when_gone
from broker_config.errors import TopologyMismatch
from broker_config.estimator import Estimator
from broker_config.messages import Headers
from broker_config.scheduling import LANES, misplaced, rank
from broker_config.settings import Settings
from broker_config.topology import declare, own_lanes, routing_key, topology
from workers.answering import Pack, read
from workers.prefetch import DEALT, Prefetch
from workers.ready_queue import ReadyQueue

log = logging.getLogger(__name__)

#: Seconds; who says to have waited longer is taken to have waited this long.
LONGEST_WAIT: Final = 24 * 3600.0
#: Seconds between two looks at whether the lanes have the right prefetch.
TUNING_INTERVAL: Final = 0.5


@dataclass(slots=True, eq=False)
class Delivery:
    """A pack with the message it came in."""

    message: AbstractIncomingMessage
    headers: Headers
    pack: Pack
    #: The lane that it came by.
    lane: str
    #: Routing key of the lane where it belongs, if that is another one by far.
    belongs: str | None
    #: Our estimate of its service time, and what it is ordered by, in seconds.
    seconds: float
    rank: float


@dataclass(slots=True, eq=False)
class _Lane:
    """A queue of one model that is consumed."""

    model: str
    name: str
    queue: AbstractQueue  # aio-pika holds queues weakly
    prefetch: int
    tag: str = ""


class Consumer:
    """Consumes every lane of its models into the ready queue."""

    def __init__(
        self,
        settings: Settings,
        name: str,
        estimators: Mapping[str, Estimator],
        ready: ReadyQueue[Delivery],
    ) -> None:
        """`estimators` has the models to serve, each with what says the seconds of a pack."""
        self._settings = settings
        self._name = name
        self._estimators = estimators
        self._ready = ready
        self._lanes: list[_Lane] = []
        self._channel: AbstractChannel | None = None
        self._tuning: asyncio.Task[None] | None = None
        self._tuned = time.monotonic()
        #: What the worker measures.
        self.prefetch = Prefetch()
        self.session = Session(settings, f"{name} consume", self._prepare)

    async def _prepare(self, channel: AbstractChannel) -> None:
        # What was held came over a channel that is gone: the broker delivers it again.
        dropped = self._ready.empty()
        if dropped:
            log.info("%d held packs will be redelivered", len(dropped), extra={"action": "dropped"})
        settings, names = self._settings, self._settings.names
        await declare(channel, topology(names, settings.queue_type, self._estimators))
        queues = [
            (model, lane, names.work_queue(model, lane))
            for model in self._estimators
            for lane in LANES
        ]
        if settings.balance == "random":
            await self._declare_own(channel)
            queues += [
                (model, lane, names.own_lane(model, lane, self._name))
                for model, lane, _ in list(queues)
            ]
        self._channel, self._lanes = channel, []
        for model, name, queue in queues:
            found = await channel.get_queue(queue, ensure=False)
            self._lanes.append(_Lane(model, name, found, self._first_prefetch(name)))
        for lane in self._lanes:
            await self._consume(channel, lane)

    async def _declare_own(self, channel: AbstractChannel) -> None:
        try:
            await declare(channel, own_lanes(self._settings.names, self._estimators, self._name))
        except ConnectionCommandInvalid as error:  # a kind of exchange that it does not know
            raise TopologyMismatch(
                "the balance 'random' needs a plugin of the broker: "
                "`rabbitmq-plugins enable rabbitmq_random_exchange`"
            ) from error

    def _first_prefetch(self, lane: str) -> int:
        if self._settings.balance == "round_robin":
            return DEALT
        return self._settings.prefetch or self.prefetch.wanted(lane)

    async def _consume(self, channel: AbstractChannel, lane: _Lane) -> None:
        # For the consumers that follow, each for itself.
        await channel.set_qos(prefetch_count=lane.prefetch)
        estimator = self._estimators[lane.model]

        async def on_message(message: AbstractIncomingMessage) -> None:
            self.hold(self._delivery(message, lane, estimator))

        lane.tag = await lane.queue.consume(on_message)

    def _delivery(
        self, message: AbstractIncomingMessage, lane: _Lane, estimator: Estimator
    ) -> Delivery:
        pack = read(message.body, message.content_type, self._settings)
        headers = Headers.from_table(message.headers)
        # The publisher knew neither this machine nor, perhaps, the model.
        seconds = estimator.seconds(len(message.body))
        order = rank(self._settings.policy, seconds, headers.remaining)
        better = misplaced(lane.name, order) if pack.request else None
        belongs = routing_key(lane.model, better) if better else None
        return Delivery(message, headers, pack, lane.name, belongs, seconds, order)

    def hold(self, delivery: Delivery) -> None:
        """Into the ready queue; what only has to be moved to another lane takes no time there."""
        stays = delivery.belongs is None
        self._ready.put(
            delivery,
            rank=delivery.rank if stays else 0.0,
            seconds=delivery.seconds if stays else 0.0,
            size=len(delivery.pack) if stays else 0,
            arrival=published(delivery.headers),
        )

    def tune(self) -> None:
        """Give lanes another prefetch where what was measured asks for it; in the background.

        Not on quorum queues: what one hands out while its consumer is cancelled can come after
        the answer to that, for a consumer that is no more, and is then held by nobody.
        """
        fixed = self._settings.prefetch or self._settings.queue_type == "quorum"
        if fixed or self._settings.balance == "round_robin":
            return
        busy = self._tuning is not None and not self._tuning.done()
        if not busy and time.monotonic() - self._tuned >= TUNING_INTERVAL:
            self._tuned = time.monotonic()
            self._tuning = asyncio.create_task(self._tune(), name="tune prefetch")

    async def _tune(self) -> None:
        channel = self._channel
        assert channel is not None, "what was run came over a channel"
        with harmless_when_gone("tune"):
            for lane in self._lanes:
                alone = await self._alone(channel, lane)
                better = self.prefetch.better(lane.name, lane.prefetch, alone=alone)
                if better != lane.prefetch:
                    await lane.queue.cancel(lane.tag)
                    lane.prefetch = better
                    await self._consume(channel, lane)

    async def _alone(self, channel: AbstractChannel, lane: _Lane) -> bool:
        """Whether nobody else takes from the lane."""
        queue = await channel.declare_queue(lane.queue.name, passive=True)
        return (queue.declaration_result.consumer_count or 0) <= 1

    async def stop(self) -> None:
        """Take no more, and hand back what nobody has begun."""
        if self._tuning is not None:
            await asyncio.wait([self._tuning])
        lanes, self._lanes = self._lanes, []  # what is tuned later finds none to consume anew
        # Without a connection the broker takes everything back by itself.
        with harmless_when_gone("cancel_consumers"):
            for lane in lanes:
                await lane.queue.cancel(lane.tag)
        for delivery in self._ready.empty():
            await self.hand_back(delivery)
        self._ready.close()

    async def hand_back(self, delivery: Delivery) -> None:
        """Somebody has to do this again."""
        with harmless_when_gone("hand_back"):
            await delivery.message.nack(requeue=True)

    async def ack(self, delivery: Delivery) -> None:
        """The reply is safe with the broker: the pack can go."""
        # Else it will be redelivered and answered again; the caller keeps the first answer.
        with harmless_when_gone("ack"):
            await delivery.message.ack()


def published(headers: Headers) -> float:
    """When it was published, in Unix seconds: nobody gains by a clock that is wrong."""
    now = time.time()
    told = headers.published_ms / 1000 if headers.published_ms else now
    return min(max(told, now - LONGEST_WAIT), now)
