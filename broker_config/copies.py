"""The one way to copy a request: moved, retried later, dead-lettered, or sent again. Pure."""

from __future__ import annotations

import uuid

import aio_pika
from aio_pika import DeliveryMode
from aio_pika.abc import AbstractIncomingMessage

from lmaas.broker_config.headers import Headers


def copied(
    message: AbstractIncomingMessage,
    headers: Headers,
    *,
    body: bytes | None = None,
    priority: int | None = None,
    published_ms: int | None = None,
) -> aio_pika.Message:
    """A copy to publish, as large as the body and at most 8 KiB.

    Of the headers it has ours and no other: a broker sends a message to each lane that its `CC`
    names, so that who is free to write them would make as many packs as they like. The properties
    are those of the message, but for what is given here, and for `expiration` and `user_id`.
    """
    return aio_pika.Message(
        message.body if body is None else body,
        app_id=message.app_id,
        content_encoding=message.content_encoding,
        content_type=message.content_type,
        correlation_id=message.correlation_id,
        delivery_mode=DeliveryMode.PERSISTENT,
        headers=headers.table(),
        message_id=uuid.uuid4().hex,
        priority=message.priority if priority is None else priority,
        reply_to=message.reply_to,
        timestamp=message.timestamp if published_ms is None else published_ms // 1000,
        type=message.type,
    )
