"""What failed for good: a copy for each reason, for people to look at and to send again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

import aio_pika
import msgspec

from lmaas.broker_config import tracing
from lmaas.broker_config.copies import copied
from lmaas.broker_config.dead_letter_ids import dead_letter_id
from lmaas.broker_config.errors import MessageError
from lmaas.broker_config.headers import Headers
from lmaas.broker_config.messages import ItemError, Request, encode
from lmaas.broker_config.redaction import Redaction
from lmaas.broker_config.seals import Seals
from lmaas.broker_config.settings import Settings
from lmaas.workers import metrics
from lmaas.workers.delivery import Delivery
from lmaas.workers.settling.answer import Answer
from lmaas.workers.settling.outgoing import Outgoing
from lmaas.workers.settling.reasons import Reasons

log = logging.getLogger(__name__)


class DeadLetters:
    """Those of one worker."""

    def __init__(
        self,
        settings: Settings,
        outgoing: Outgoing,
        reasons: Reasons,
        *,
        redaction: Redaction,
        seals: Seals,
    ) -> None:
        self._settings = settings
        self._outgoing = outgoing
        self._reasons = reasons
        self._redaction = redaction
        self._seals = seals

    async def keep(self, delivery: Delivery, answer: Answer) -> bool:
        """A copy of what has failed, one for each reason, into the dead letter queue.

        False when it is too large to be held twice, or the broker does not take it: then the broker
        has to move it itself, without the reason.
        """
        if answer.error is None:
            return True
        too_large = delivery.pack.size > self._settings.largest_pack
        if too_large and not self.redacts(delivery):
            return self._left_to_broker(delivery, self._reasons.shown(delivery, answer.error))
        dead_lettering = (
            self._dead_letter(delivery, error, places) for error, places in answer.reasons.items()
        )
        try:
            await asyncio.gather(*dead_lettering)
        except MessageError as refusal:
            if not self.redacts(delivery):
                return self._left_to_broker(delivery, refusal)
            with contextlib.suppress(MessageError):
                await self.withhold(delivery, answer.error)
        return True

    def redacts(self, delivery: Delivery) -> bool:
        """Whether its texts may not be parked as they are; nobody can read those of a seal that the
        worker could not open.
        """
        return self._redaction.is_used and not delivery.is_unopened

    async def withhold(self, delivery: Delivery, error: ItemError) -> None:
        """Dead-letter it without anything that was sent."""
        await self._dead_letter(delivery, error, [], withheld=True)

    def _left_to_broker(self, delivery: Delivery, why: ItemError | MessageError) -> bool:
        log.warning(
            "dead-lettered by the broker: %s", why,
            extra={"action": "dead_lettered", **tracing.context(delivery.headers)},
        )  # fmt: skip
        return False

    async def _dead_letter(
        self, delivery: Delivery, error: ItemError, places: list[int], *, withheld: bool = False
    ) -> None:
        """A copy of what failed for one reason; it is counted once the broker has it."""
        message = await self._copy(delivery, error, places, withheld=withheld)
        log.warning(
            "%s dead-lettered as %s: %s",
            f"{len(places)} items" if places else "a pack",
            message.message_id,
            self._reasons.shown(delivery, error),
            extra={"action": "dead_lettered", "code": error.code, "id": message.message_id,
                   **tracing.context(delivery.headers)},
        )  # fmt: skip
        exchange, key = self._settings.names.dead, delivery.message.routing_key or ""
        await self._outgoing.publish(delivery, exchange, key, message)
        metrics.dead_lettered(error.code)

    async def _copy(
        self, delivery: Delivery, error: ItemError, places: list[int], *, withheld: bool
    ) -> aio_pika.Message:
        """Of the items at these places (none: of all), redacted and sealed as it must be."""
        part, body, headers = self._parked(delivery, places, withheld=withheld)
        headers = msgspec.structs.replace(
            headers, parked_ms=int(time.time() * 1000), **self._reasons.headers(delivery, error)
        )
        if body is not None and (sealed := await self._outgoing.sealed(delivery, "request", body)):
            body, count = sealed.body, len(part.items) if part else headers.items
            headers = msgspec.structs.replace(headers, key=sealed.key, items=count)
        message = copied(delivery.message, headers, body=body)
        message.reply_to = delivery.reply_to  # no other: what is replayed is answered to it
        message.expiration = self._settings.keep_dead_letters or None
        has_faults = bool(delivery.pack.faults)
        message.message_id = dead_letter_id(
            delivery.headers,
            correlation_id=message.correlation_id,
            reply_to=message.reply_to,
            # A whole pack may have texts that nothing can carry; they are in its faults.
            content=message.body if part is None or (body is None and has_faults) else part,
            digest_key=self._seals.digest_key(delivery.seal),
        )
        return message

    def _parked(
        self, delivery: Delivery, places: list[int], *, withheld: bool
    ) -> tuple[Request | None, bytes | None, Headers]:
        """What of a pack is parked, where somebody has read it, and its body where it has another
        than came; and the headers, which say what was redacted.
        """
        part, body = delivery.pack.request, None
        if part is not None and 0 < len(places) < len(part.items):
            part = msgspec.structs.replace(part, items=[part.items[place] for place in places])
            body = encode(part, delivery.language)
        if not self.redacts(delivery):
            return part, body, delivery.headers
        headers = msgspec.structs.replace(delivery.headers, redacted=True)
        if withheld or part is None:
            return None, b"", headers
        shown = self._redacted(delivery, part, places)
        return shown, encode(shown, delivery.language), headers

    def _redacted(self, delivery: Delivery, part: Request, places: list[int]) -> Request:
        """What may be shown of a part of a pack, whose items were at these places; none: all."""
        known = delivery.pack.faults
        at = places or range(len(part.items))
        faults = {new: known[old] for new, old in enumerate(at) if old in known}
        return self._redaction.request(part, faults)
