"""A pack with the message that it came in, and how that is settled."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Final

from aio_pika.abc import AbstractIncomingMessage
from aiormq.exceptions import ChannelInvalidStateError

from lmaas.broker_config.codes import meaning
from lmaas.broker_config.connection import harmless_when_gone
from lmaas.broker_config.errors import SealError
from lmaas.broker_config.headers import Headers
from lmaas.broker_config.messages import JSON, MSGPACK, ItemError
from lmaas.broker_config.seals import Seal
from lmaas.workers.pack import Pack

#: Seconds; who says to have waited longer is taken to have waited this long.
LONGEST_WAIT: Final = 24 * 3600.0
#: Seconds for an ack to be written: it waits for no answer.
TELL_TIMEOUT: Final = 10.0
#: In logs and headers in the place of words that may quote a sealed text.
WITHHELD: Final = "the words are in the answer, which is sealed"


@dataclass(slots=True, eq=False)
class Delivery:
    """A pack with the message it came in."""

    message: AbstractIncomingMessage
    headers: Headers
    pack: Pack
    #: The lane that it came by, and the model whose lane that is.
    model: str
    lane: str
    #: The queue that its answer may go to; None when nobody asked, or for one that is not his.
    reply_to: str | None = None
    #: Of its body; None when that is read as it is.
    seal: Seal | None = None
    #: Whether another worker had it before and did not answer: it may have ended that one.
    is_redelivered: bool = False
    #: Our estimate of its service time, and what it is ordered by, in seconds.
    seconds: float = 0.0
    rank: float = 0.0
    #: Routing key of the lane where it belongs, if that is another one by far.
    belongs: str | None = None
    #: In the order of what is held, once it is.
    place: float = 0.0
    #: time.monotonic() when its run began; 0 before.
    began: float = 0.0
    #: Its items by outcome, once it has an answer.
    outcomes: Counter[str] = field(default_factory=Counter)

    @property
    def tenant(self) -> str:
        """Who asks, as far as is known; see `lmaas.workers.callers`."""
        return self.headers.tenant or ""

    @property
    def published(self) -> float:
        """When it was published, in Unix seconds: nobody gains by a clock that is wrong."""
        now = time.time()
        told = self.headers.published_ms / 1000 if self.headers.published_ms else now
        return min(max(told, now - LONGEST_WAIT), now)

    @property
    def remaining(self) -> float | None:
        """Seconds that remain of its job by our estimate, if it is part of one.

        Who published it may know the model less well than we do: the job is off by as much as this
        pack is.
        """
        told, cost = self.headers.remaining, self.headers.cost
        return told * self.seconds / cost if told and cost else told

    @property
    def stream(self) -> str | None:
        """Of which it is a part, as a job's chunk is; None for one by itself."""
        return self.reply_to if self.headers.remaining is not None else None

    @property
    def is_sealed(self) -> bool:
        """Whether nobody without the key may read what is in it."""
        return self.seal is not None and self.seal.there

    @property
    def is_unopened(self) -> bool:
        """Whether the worker does not know what is in it, because the seal does not open."""
        error = self.pack.error
        return error is not None and meaning(error.code).error is SealError

    @property
    def language(self) -> str:
        """Answered as it was asked; in JSON when nobody could read the question."""
        asked = (self.message.content_type or "").partition(";")[0].strip().lower()
        return MSGPACK if asked == MSGPACK else JSON

    def told(self, error: ItemError) -> ItemError:
        """An error of its items, for logs and headers: without words that may quote a sealed text.

        Those are in the answer.
        """
        if not self.is_sealed or not meaning(error.code).quotes:
            return error
        return ItemError(code=error.code, message=WITHHELD)

    @property
    def is_ours(self) -> bool:
        """Whether it can still be settled; else the broker has taken it back."""
        try:
            return not self.message.channel.is_closed
        except ChannelInvalidStateError:
            return False

    async def ack(self) -> None:
        """The reply is safe with the broker: the pack can go."""
        # Else it will be redelivered and answered again; the caller keeps the first answer.
        await _told("ack", self.message.ack())

    async def hand_back(self) -> None:
        """Somebody has to do this again."""
        await _told("hand_back", self.message.nack(requeue=True))

    async def refuse(self) -> None:
        """Nobody can do this: the broker moves it to the dead letter queue, as it is."""
        await _told("refuse", self.message.reject(requeue=False))


async def _told(action: str, telling: Awaitable[object]) -> None:
    """Tell the broker, unless the connection is gone: then there is nothing to be told."""
    with harmless_when_gone(action):
        # aio-pika may wait for ever when the connection was lost an instant ago.
        async with asyncio.timeout(TELL_TIMEOUT):
            await telling
