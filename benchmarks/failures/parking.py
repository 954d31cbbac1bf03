"""What the parking lot holds, item by item."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lmaas.broker_config.decoding import decode_request
from lmaas.broker_config.settings import Settings
from lmaas.producer import dead_letters
from lmaas.producer.parked import Filter

#: No pack is refused for its size here.
_ANY: Final = 2**31


@dataclass(frozen=True, slots=True)
class Parked:
    """One item of a parked pack, and why it is there."""

    text: str
    code: str
    reason: str
    first_error: str
    worker: str


async def parked(settings: Settings) -> list[Parked]:
    """Every item of every parked pack, as `lmaas dead` reads them."""
    found = []
    async for page in dead_letters.read(settings, Filter()):
        for letter, message in page:
            request, _ = decode_request(
                message.body, message.content_type, max_item_bytes=_ANY, max_items=_ANY
            )
            found += [
                Parked(
                    item.text or "",
                    letter.error or "",
                    letter.reason or "",
                    letter.first_error or "",
                    letter.worker or "",
                )
                for item in request.items
            ]
    return found
