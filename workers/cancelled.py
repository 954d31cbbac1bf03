"""What nobody waits for any more: packs that their callers gave up, and whole results queues."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, TypeVar

from aio_pika.abc import AbstractIncomingMessage

from lmaas.broker_config.errors import MessageError
from lmaas.broker_config.messages import decode_cancellation
from lmaas.broker_config.sealing import Label
from lmaas.broker_config.seals import Seals
from lmaas.broker_config.topology import Names
from lmaas.workers.delivery import Delivery

Key = TypeVar("Key", bound=Hashable)

log = logging.getLogger(__name__)

#: Packs, and queues, that are remembered: those that were told last.
REMEMBERED: Final = 65_536


class Cancelled:
    """A pack may still be in its lane when this is told, so that it is remembered."""

    def __init__(self, names: Names, seals: Seals | None = None) -> None:
        self._names = names
        self._seals = seals or Seals.none()
        #: Correlation ids, each with the queue that its answer would go to.
        self._packs: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._queues: OrderedDict[str, None] = OrderedDict()

    def hear(self, message: AbstractIncomingMessage) -> None:
        """A cancellation has come."""
        try:
            seal = self._seals.found(
                message.content_encoding, message.headers, lambda: _label(message)
            )
            body = message.body if seal is None else self._seals.open(message.body, seal)
            told = decode_cancellation(body, message.content_type)
        except MessageError as error:
            log.warning("%s", error, extra={"action": "cancellation_refused"})
            return
        queue = message.reply_to or ""
        if not self._names.is_of(queue, message.user_id):
            log.warning(
                "a cancellation for %r is not its owner's", queue,
                extra={"action": "cancellation_refused"},
            )  # fmt: skip
            return
        for pack in told.packs:
            _remember(self._packs, (queue, pack))

    def close(self, queue: str) -> None:
        """Nobody takes what would go to this queue."""
        _remember(self._queues, queue)

    def __len__(self) -> int:
        """Packs that are remembered."""
        return len(self._packs)

    def __contains__(self, delivery: Delivery) -> bool:
        queue = delivery.reply_to
        if queue is None:
            return False
        return queue in self._queues or (queue, delivery.message.correlation_id) in self._packs


def _label(message: AbstractIncomingMessage) -> Label:
    model, queue = message.routing_key or "", message.reply_to or ""
    return Label("notice", model, queue, content_type=message.content_type or "")


def _remember(known: OrderedDict[Key, None], key: Key) -> None:
    known[key] = None
    known.move_to_end(key)
    if len(known) > REMEMBERED:
        known.popitem(last=False)
