"""Takes packs from the lanes and settles them: prefetch, acks, what a lost connection means."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue

from broker_config.connection import Session, harmless_when_gone
from broker_config.messages import Headers
from broker_config.scheduling import LANES, rank
from broker_config.settings import Settings
from broker_config.topology import declare, topology
from workers.answering import Pack, read
from workers.estimator import Estimator
from workers.ready_queue import ReadyQueue

log = logging.getLogger(__name__)

#: Seconds; who says to have waited longer is taken to have waited this long.
LONGEST_WAIT: Final = 24 * 3600.0


@dataclass(slots=True, eq=False)
class Delivery:
    """A pack with the message it came in."""

    message: AbstractIncomingMessage
    headers: Headers
    pack: Pack


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
        self._estimators = estimators
        self._ready = ready
        self._queues: list[tuple[AbstractQueue, str]] = []
        self.session = Session(settings, f"{name} consume", self._prepare)

    async def _prepare(self, channel: AbstractChannel) -> None:
        # What was held came over a channel that is gone: the broker delivers it again.
        dropped = self._ready.empty()
        if dropped:
            log.info("%d held packs will be redelivered", len(dropped), extra={"action": "dropped"})
        await declare(
            channel, topology(self._settings.names, self._settings.queue_type, self._estimators)
        )
        # Before the first consume: each consumer that follows has this prefetch for itself.
        await channel.set_qos(prefetch_count=self._settings.prefetch)
        self._queues = []
        for model, estimator in self._estimators.items():
            for lane in LANES:
                name = self._settings.names.work_queue(model, lane)
                queue = await channel.get_queue(name, ensure=False)
                tag = await queue.consume(self._callback(estimator))
                # aio-pika holds queues weakly.
                self._queues.append((queue, tag))

    def _callback(
        self, estimator: Estimator
    ) -> Callable[[AbstractIncomingMessage], Awaitable[None]]:
        async def on_message(message: AbstractIncomingMessage) -> None:
            pack = read(message.body, message.content_type, self._settings)
            headers = Headers.from_table(message.headers)
            # The publisher knew neither this machine nor, perhaps, the model.
            seconds = estimator.seconds(len(message.body))
            self._ready.put(
                Delivery(message, headers, pack),
                rank=rank(self._settings.policy, seconds, headers.remaining),
                seconds=seconds,
                size=len(pack),
                arrival=_published(headers),
            )

        return on_message

    async def stop(self) -> None:
        """Take no more, and hand back what nobody has begun."""
        # Without a connection the broker takes everything back by itself.
        with harmless_when_gone("cancel_consumers"):
            for queue, tag in self._queues:
                await queue.cancel(tag)
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


def _published(headers: Headers) -> float:
    """When it was published, on our clock: nobody gains by a clock that is wrong."""
    now = time.time()
    return min(max(headers.published or now, now - LONGEST_WAIT), now)
