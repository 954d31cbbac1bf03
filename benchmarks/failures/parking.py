"""What the parking lot holds, item by item."""

from __future__ import annotations

from dataclasses import dataclass

from aio_pika.abc import AbstractConnection

from lmaas.broker_config.messages import Headers, decode_request
from lmaas.broker_config.settings import Settings

#: No pack is refused for its size here.
_ANY = 2**31


@dataclass(frozen=True, slots=True)
class Parked:
    """One item of a parked pack, and why it is there."""

    text: str
    code: str
    reason: str
    first_error: str
    worker: str


async def parked(connection: AbstractConnection, settings: Settings) -> list[Parked]:
    """Every item of every parked pack, which are taken out."""
    found = []
    async with connection.channel() as channel:
        queue = await channel.get_queue(settings.names.dead)
        while message := await queue.get(no_ack=True, fail=False):
            headers = Headers.from_table(message.headers)
            request, _ = decode_request(
                message.body, message.content_type, max_item_bytes=_ANY, max_items=_ANY
            )
            found += [
                Parked(
                    item.text or "",
                    headers.error or "",
                    headers.reason or "",
                    headers.first_error or "",
                    headers.worker or "",
                )
                for item in request.items
            ]
    return found
