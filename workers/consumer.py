"""Takes packs from the lanes: prefetch, redelivered packs, what a lost connection means."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, cast

import aiormq
import msgspec
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aiormq.exceptions import ChannelAccessRefused

from lmaas.broker_config.codes import Code
from lmaas.broker_config.connection import Session, harmless_when_gone
from lmaas.broker_config.declaring import declare, ensure
from lmaas.broker_config.errors import TopologyMismatch
from lmaas.broker_config.estimator import Estimator
from lmaas.broker_config.headers import Headers
from lmaas.broker_config.limits import broker_sentence
from lmaas.broker_config.messages import ItemError
from lmaas.broker_config.scheduling import LANES, misplaced, rank
from lmaas.broker_config.sealing import Label
from lmaas.broker_config.seals import Seals, queue_of
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import own_lanes, routing_key, topology
from lmaas.workers import metrics
from lmaas.workers.callers import Callers
from lmaas.workers.delivery import Delivery
from lmaas.workers.lane import Lane
from lmaas.workers.pack import Pack, glanced
from lmaas.workers.prefetch import DEALT, Prefetch, first_confirms
from lmaas.workers.ready_queue import JOIN_ITEMS, ReadyQueue

log = logging.getLogger(__name__)

#: Messages of which a worker knows that they came to it first.
REMEMBERED: Final = 512
#: What is held gets another place when an estimate has become larger or smaller by this factor.
CHANGED: Final = 1.5
#: Seconds between two looks at whether the lanes have the right prefetch.
TUNING_INTERVAL: Final = 0.5


class Consumer:
    """Consumes every lane of its models into the ready queues."""

    def __init__(
        self,
        settings: Settings,
        name: str,
        estimators: Mapping[str, Estimator],
        versions: Mapping[str, str],
        ready: ReadyQueue[Delivery],
        redelivered: ReadyQueue[Delivery],
        listen: Callable[[AbstractChannel], Awaitable[None]],
        callers: Callers,
    ) -> None:
        """`estimators` has the models to serve, each with what says the seconds of a pack, and
        `versions` what answers now: a pack stays with what that was when it came.

        Packs that come for the first time go to `ready`, the others to `redelivered`. What else is
        heard of over the same channel is for `listen` to consume.
        """
        self._settings = settings
        self._seals = Seals(settings)
        self._name = name
        self._estimators = estimators
        self._versions = versions
        self._ready = ready
        self._redelivered = redelivered
        self._listen = listen
        self._callers = callers
        self._lanes: list[Lane] = []
        self._channel: AbstractChannel | None = None
        self._tuning: asyncio.Task[None] | None = None
        self._tuned = time.monotonic()
        #: Ids of the last messages that came here first.
        self._met: OrderedDict[str, None] = OrderedDict()
        #: Held while a lane may be without its consumer for a moment.
        self._changing = asyncio.Lock()
        self._stopped = False
        # How long confirms take is the same for all models, how long packs run is not.
        confirms = first_confirms()
        self._prefetches = {model: Prefetch(confirms) for model in estimators}
        self._confirms = confirms
        self.session = Session(settings, f"{name} consume", self._prepare)

    async def _prepare(self, channel: AbstractChannel) -> None:
        # What was held came over a channel that is gone: the broker delivers it again.
        dropped = self._ready.empty() + self._redelivered.empty()
        if dropped:
            log.info("%d held packs will be redelivered", len(dropped), extra={"action": "dropped"})
        if self._stopped:  # the connection was lost in the drain: there is nothing to come back to
            return
        settings, names = self._settings, self._settings.names
        wanted = topology(names, settings.queue_type, self._estimators, settings.retry_delays)
        await ensure(self.session.connection, wanted)
        queues = [
            (model, lane, names.work_queue(model, lane))
            for model in self._estimators
            for lane in LANES
        ]
        if settings.balance == "random":
            await self._make_own_lanes(channel)
            queues += [
                (model, lane, names.own_lane(model, lane, self._name))
                for model, lane, _ in list(queues)
            ]
        self._channel, self._lanes = channel, []
        for model, name, queue in queues:
            found = await channel.get_queue(queue, ensure=False)
            self._lanes.append(Lane(model, name, found, self._first_prefetch(model, name)))
        await self._listen(channel)
        async with self._changing:
            for lane in self._lanes:
                await self._consume(channel, lane)

    async def _make_own_lanes(self, channel: AbstractChannel) -> None:
        names = self._settings.names
        try:
            await declare(channel, own_lanes(names, self._estimators, self._name))
        except ChannelAccessRefused as refusal:
            raise TopologyMismatch(
                "with the balance 'random' a worker makes lanes of its own, and user "
                f"{names.user!r} may not ({broker_sentence(refusal)}): set another LMAAS_BALANCE, "
                f"or give it a user who may make and bind all that begins with {names.root!r}"
            ) from refusal

    def _first_prefetch(self, model: str, lane: str) -> int:
        if self._settings.balance == "round_robin":
            return DEALT
        return self._settings.prefetch or self._prefetches[model].wanted(lane)

    async def _consume(self, channel: AbstractChannel, lane: Lane) -> None:
        # For the consumers that follow, each for itself.
        await channel.set_qos(prefetch_count=lane.prefetch)

        async def on_message(message: AbstractIncomingMessage) -> None:
            delivery = self._delivery(message, lane)
            lane.waited = time.time() - delivery.published
            lane.taken += 1
            metrics.delivered(lane.model, again=bool(message.redelivered))
            self.hold(delivery)

        lane.tag = await lane.queue.consume(on_message)

    def _delivery(self, message: AbstractIncomingMessage, lane: Lane) -> Delivery:
        again = bool(message.redelivered)
        redelivered = again and not self._knows(message)
        seal = self._seals.found(
            message.content_encoding, message.headers, lambda: _label(message, lane.model)
        )
        why_not = self._callers.why_not(message, lane.model)
        pack = (
            glanced(
                message.body,
                message.content_type,
                self._settings,
                model=lane.model,
                redelivered=redelivered,
                opening=self._seals.opening(seal),
            )
            if why_not is None
            else _misdirected(message, why_not)
        )
        pack.version = self._versions.get(lane.model)
        headers = Headers.from_table(message.headers)
        # What the sender says of it counts no more; copies carry it on.
        tenant = self._callers.tenant(message, headers.tenant, lane.model)
        delivery = Delivery(
            message,
            msgspec.structs.replace(headers, tenant=tenant),
            pack,
            lane.model,
            lane.name,
            message.reply_to if why_not is None else None,
            seal,
            redelivered,
        )
        self._estimate(delivery)
        if not again:
            self._meet(message)
        # Another lane would get a copy of which nobody could tell that it came back.
        stays = again or pack.error is not None
        better = None if stays else misplaced(lane.name, delivery.rank)
        delivery.belongs = routing_key(lane.model, better) if better else None
        return delivery

    def _estimate(self, delivery: Delivery) -> None:
        """Its publisher knew neither this machine nor, perhaps, the model."""
        delivery.seconds = self._seconds(delivery)
        policy = self._settings.policy
        delivery.rank = rank(policy, delivery.seconds, delivery.remaining)

    def _seconds(self, delivery: Delivery) -> float:
        pack = delivery.pack
        items = len(pack) if pack.is_read else delivery.headers.items
        return self._estimators[delivery.model].seconds(items, pack.size)

    def _knows(self, message: AbstractIncomingMessage) -> bool:
        """Whether it came to this process before: then it has not ended the one that had it, which
        lost its connection. Who has met it as redelivered does not know it.
        """
        return message.message_id in self._met

    def _meet(self, message: AbstractIncomingMessage) -> None:
        if message.message_id:
            self._met[message.message_id] = None
            if len(self._met) > REMEMBERED:
                self._met.popitem(last=False)

    def hold(self, delivery: Delivery) -> None:
        """Into its ready queue; what only has to be moved to another lane takes no time there."""
        stays = delivery.belongs is None
        size = len(delivery.pack) if delivery.pack.is_read else JOIN_ITEMS
        queue = self._redelivered if delivery.is_redelivered else self._ready
        delivery.place = queue.put(
            delivery,
            tenant=delivery.tenant,
            kind=delivery.model,
            rank=delivery.rank if stays else 0.0,
            seconds=delivery.seconds if stays else 0.0,
            size=size if stays else 0,
            arrival=delivery.published,
        )

    def ran(self, delivery: Delivery, seconds: float) -> None:
        """A pack took so long."""
        self._prefetches[delivery.model].ran(delivery.lane, seconds)

    def order_again(self, ran: Delivery) -> None:
        """Give what is held its place by what is known now, where that has changed.

        The pack that ran last shows whether it has: those that are held were estimated as it was.
        """
        if 1 / CHANGED <= self._seconds(ran) / ran.seconds <= CHANGED:
            return
        for delivery in self._ready.empty() + self._redelivered.empty():
            self._estimate(delivery)
            self.hold(delivery)

    def confirmed(self, seconds: float) -> None:
        """The broker confirmed a reply after `seconds`."""
        self._confirms.append(seconds)

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
            await self._tune_lanes(channel)

    async def _tune_lanes(self, channel: AbstractChannel) -> None:
        async with self._changing:
            for lane in self._lanes:
                # Who is back first is alone for a moment, and would hoard what waits.
                before = lane.was_alone
                lane.was_alone = await self._consumers(channel, lane) <= 1
                alone = before and lane.was_alone
                tuned = self._prefetches[lane.model]
                better = tuned.better(lane.name, lane.prefetch, alone=alone)
                if better != lane.prefetch:
                    await lane.queue.cancel(lane.tag)
                    lane.prefetch = better
                    await self._consume(channel, lane)

    async def _consumers(self, channel: AbstractChannel, lane: Lane) -> int:
        """How many take from the lane, ourselves included; its depth is noted too."""
        found = (await channel.declare_queue(lane.queue.name, passive=True)).declaration_result
        lane.depth = found.message_count or 0
        return found.consumer_count or 0

    @property
    def lanes(self) -> Sequence[Lane]:
        """What is consumed; nothing once we are told to stop."""
        return self._lanes

    async def unconsumed(self) -> str | None:
        """A queue that nobody takes from, by what we or the broker know; None when all is well."""
        channel = self._channel
        assert channel is not None, "the session is up"
        registered = cast(aiormq.Channel, await channel.get_underlay_channel()).consumers
        async with self._changing:
            for lane in self._lanes:
                if not await self._consumers(channel, lane) or lane.tag not in registered:
                    return lane.queue.name
        return None

    async def stop(self) -> None:
        """Take no more, and hand back what nobody has begun."""
        self._stopped = True
        if self._tuning is not None:
            await asyncio.wait([self._tuning])
        async with self._changing:  # whoever is back from a loss has all lanes, or none
            lanes, self._lanes = self._lanes, []  # what is tuned later finds none to consume anew
            # Without a connection the broker takes everything back by itself.
            with harmless_when_gone("cancel_consumers"):
                for lane in lanes:
                    await lane.queue.cancel(lane.tag)
        for delivery in self._ready.empty() + self._redelivered.empty():
            await delivery.hand_back()
        self._ready.close()
        self._redelivered.close()


def _label(message: AbstractIncomingMessage, model: str) -> Label:
    """Of a request in a lane of the model."""
    queue, name = queue_of(message.reply_to), message.correlation_id or ""
    return Label("request", model, queue, name, message.content_type or "")


def _misdirected(message: AbstractIncomingMessage, why: str) -> Pack:
    """Refused, and the refusal told to nobody: a worker may write where the sender may not."""
    fault = ItemError(code=Code.MALFORMED, message=f"reply_to {message.reply_to!r} {why}")
    return Pack(None, error=fault, size=len(message.body))
