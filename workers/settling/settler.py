"""What becomes of each delivery, and the ack, when the broker has the rest."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from typing import Any

import msgspec

from lmaas.broker_config import tracing
from lmaas.broker_config.codes import Code
from lmaas.broker_config.copies import copied
from lmaas.broker_config.errors import LmaasError
from lmaas.broker_config.messages import ItemError
from lmaas.broker_config.publisher import Publisher
from lmaas.broker_config.redaction import Redaction
from lmaas.broker_config.seals import Seals
from lmaas.broker_config.settings import Settings
from lmaas.workers import metrics
from lmaas.workers.callers import Callers
from lmaas.workers.cancelled import Cancelled
from lmaas.workers.consumer import Consumer
from lmaas.workers.delivery import Delivery
from lmaas.workers.settling.answer import Answer
from lmaas.workers.settling.claims import Claims
from lmaas.workers.settling.dead_letters import DeadLetters
from lmaas.workers.settling.outgoing import PAUSE, Outgoing
from lmaas.workers.settling.reasons import Reasons
from lmaas.workers.settling.replier import Replier
from lmaas.workers.settling.retries import Retries

log = logging.getLogger(__name__)


class Settler:
    """Settles the deliveries of one worker."""

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
        seals, redaction = Seals(settings), Redaction(settings)
        outgoing, reasons = Outgoing(publisher, seals), Reasons(name, redaction)
        self._names = settings.names
        self._publisher = publisher
        self._consumer = consumer
        self._replier = Replier(outgoing, consumer, callers)
        self._retries = Retries(settings, outgoing, reasons)
        self._dead_letters = DeadLetters(
            settings, outgoing, reasons, redaction=redaction, seals=seals
        )
        #: Who waits for the answers.
        self.claims = Claims(settings, publisher, cancelled)

    async def finish(self, delivery: Delivery, answer: Answer) -> None:
        """Retried later, or answered and perhaps dead-lettered; acked once that is confirmed."""
        await self._settle(delivery, self._told(delivery, answer))

    async def wait(self, delivery: Delivery) -> None:
        """The same without an answer, for one whose caller is away."""
        await self._settle(delivery, self._kept_for_caller(delivery))

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

    async def _told(self, delivery: Delivery, answer: Answer) -> tuple[bool, bool]:
        """Whether it needs nobody's care any more, and whether it is tried again later."""
        error = answer.transient
        later = error is not None and await self._retries.later(delivery, error)
        # Dead-lettered first: who hears of an error finds it there.
        kept = later or await self._dead_letters.keep(delivery, answer)
        if not later and _waits_for_key(delivery, answer):
            return kept, False
        later = later or not await self._answer(delivery, answer)
        return kept, later

    async def _kept_for_caller(self, delivery: Delivery) -> tuple[bool, bool]:
        later = await self._retries.later(delivery, _results_gone(delivery))
        if not later:
            _unclaimed(delivery)
        return True, later

    async def _answer(self, delivery: Delivery, answer: Answer) -> bool:
        """False when the pack is tried again later."""
        if await self._replier.send(delivery, answer.body):
            return True
        if answer.error is None and await self._wait_for_caller(delivery):
            return False
        _unclaimed(delivery)
        return True

    async def _wait_for_caller(self, delivery: Delivery) -> bool:
        """The results queue is gone, with its broker for now, or for good: whether to try again.

        Who cancels a job deletes its queue; that of a client may be made anew when it is back.
        """
        self.claims.miss(delivery)
        if self.claims.is_cancelled(delivery):
            return False
        return await self._retries.later(delivery, _results_gone(delivery))

    async def _give_up(self, delivery: Delivery) -> None:
        """After a bug of ours, which must not hold the pack for ever: the broker moves it.

        Where texts are redacted the broker gets a dead letter without them.
        """
        log.exception(
            "not settled, and dead-lettered by the broker",
            extra={"action": "settle_failed", **tracing.context(delivery.headers)},
        )
        if not self._dead_letters.redacts(delivery):
            return await delivery.refuse()
        bug = ItemError(code=Code.INTERNAL, message="a bug of the worker; see its log")
        try:
            await self._dead_letters.withhold(delivery, bug)
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


def _waits_for_key(delivery: Delivery, answer: Answer) -> bool:
    """Whether nothing is said of a job's chunk, which nobody has opened.

    Its dead letter can be sent again when there is the key: that answer is then the first.
    """
    is_for_later = answer.transient is not None and delivery.headers.job is not None
    return is_for_later and delivery.is_unopened


def _unclaimed(delivery: Delivery) -> None:
    metrics.unclaimed()
    log.info(
        "nobody waits for a reply",
        extra={"action": "reply_unclaimed", **tracing.context(delivery.headers)},
    )


def _results_gone(delivery: Delivery) -> ItemError:
    words = f"no queue {delivery.reply_to!r} for the answer"
    return ItemError(code=Code.RESULTS_GONE, message=words)
