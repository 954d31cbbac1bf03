"""What the dead letter queue holds, item by item."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lmaas.broker_config.decoding import decode_request
from lmaas.broker_config.seals import Seals
from lmaas.broker_config.settings import Settings
from lmaas.producer import dead_letters
from lmaas.producer.dead_letter import Filter

#: No pack is refused for its size here.
_ANY: Final = 2**31


@dataclass(frozen=True, slots=True)
class DeadItem:
    """One item of a dead-lettered pack, and why it is there."""

    text: str
    code: str
    reason: str
    first_error: str
    worker: str


async def dead_items(settings: Settings) -> list[DeadItem]:
    """Every item of every dead-lettered pack, as `lmaas dead` reads them."""
    found, seals = [], Seals(settings)
    async for page in dead_letters.read(settings, Filter()):
        for one in page:
            summary, message = one
            request, _ = decode_request(
                dead_letters.opened(one, seals),
                message.content_type,
                max_item_bytes=_ANY,
                max_items=_ANY,
            )
            found += [
                DeadItem(
                    item.text or "",
                    summary.error or "",
                    summary.reason or "",
                    summary.first_error or "",
                    summary.worker or "",
                )
                for item in request.items
            ]
    return found
