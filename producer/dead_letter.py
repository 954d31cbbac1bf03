"""What a dead letter is: what to show of it, which ones are meant, how it is sent again. Pure.

Most come from a worker, with the reason in their headers. Others were put into the dead letter
queue by the broker (header `x-death`) or by a foreign program: they may lack everything, and have
any body.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final

import aio_pika
import msgspec
from aio_pika.abc import AbstractIncomingMessage

from lmaas.broker_config.copies import copied
from lmaas.broker_config.headers import Headers
from lmaas.broker_config.messages import JSON, MSGPACK, Request
from lmaas.broker_config.scheduling import LANES
from lmaas.broker_config.sealing import ENCODING, Label
from lmaas.broker_config.seals import Seal, Seals, queue_of
from lmaas.broker_config.settings import Settings

#: Items of a pack that are counted; a body of more is shown as none that could be read.
_COUNTED: Final = 2**16
#: The ids that LMaaS gives are random, or made of what a dead letter is (see
#: `broker_config.dead_letter_ids`); what others call their messages may be there twice.
_UNIQUE: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A dead letter without its body."""

    #: The message id when LMaaS gave it; else a hash of the body and the properties, which stays
    #: the same as long as the message does. Copies of one message have the same.
    id: str
    #: As the publisher set it; None when it did not.
    message_id: str | None
    #: From the routing key, else from the body.
    model: str | None
    lane: str | None
    #: A Code, or the broker's reason (`delivery_limit`, `rejected`); None when nobody said.
    error: str | None
    reason: str | None
    first_error: str | None
    worker: str | None
    attempts: int
    #: None when the body is no request.
    items: int | None
    job: str | None
    chunk: int | None
    #: Unix milliseconds; of the broker or the publisher when no worker dead-lettered it.
    parked_ms: int | None
    #: How often it was sent again from the dead letter queue before.
    replays: int
    #: Whether what was sent is not in it (setting redact), so that it cannot be sent again.
    redacted: bool = False
    #: Id of the payload key that the body is sealed with; None of one that is not sealed. `items`
    #: is then what its headers say.
    key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which dead letters are meant: those for which all that is given holds."""

    #: `Dead-lettered.id` or `Dead-lettered.message_id`.
    ids: frozenset[str] = frozenset()
    model: str | None = None
    error: str | None = None
    job: str | None = None
    #: Unix milliseconds: dead-lettered from `after` on, and before `before`. What has no time is
    #: in no range.
    after: int | None = None
    before: int | None = None

    @property
    def is_empty(self) -> bool:
        """Whether everything is meant."""
        return self == Filter()

    def matches(self, summary: Summary) -> bool:
        return (
            (not self.ids or bool(self.named(summary)))
            and self.model in {None, summary.model}
            and self.error in {None, summary.error}
            and self.job in {None, summary.job}
            and self._is_in_time(summary.parked_ms)
        )

    def named(self, summary: Summary) -> frozenset[str]:
        """Those of the ids that name this message."""
        return self.ids & {summary.id, summary.message_id or summary.id}

    def _is_in_time(self, moment: int | None) -> bool:
        if moment is None:
            return self.after is None and self.before is None
        return (self.after is None or self.after <= moment) and (
            self.before is None or moment < self.before
        )


def describe(message: AbstractIncomingMessage) -> Summary:
    """What can be said of a message, whoever wrote it."""
    headers = Headers.from_table(message.headers)
    death = _death(message.headers)
    is_sealed = message.content_encoding == ENCODING
    shape = None if is_sealed else _shape(message.body, message.content_type)
    key = lane_key(message.routing_key)
    model, _, lane = key.rpartition(".") if key else (None, "", None)
    return Summary(
        id=_id(message),
        message_id=message.message_id,
        model=model or (shape.model if shape else None),
        lane=lane,
        error=headers.error or _word(death.get("reason")),
        reason=headers.reason or (_deaths_words(death) if death else None),
        first_error=headers.first_error,
        worker=headers.worker,
        attempts=headers.attempt,
        items=len(shape.items) if shape else headers.items if is_sealed else None,
        job=headers.job,
        chunk=headers.chunk,
        parked_ms=headers.parked_ms or _milliseconds(death.get("time"), message.timestamp),
        replays=headers.replays,
        redacted=headers.redacted,
        key=headers.key if is_sealed else None,
    )


def seal_of(message: AbstractIncomingMessage, seals: Seals) -> Seal | None:
    """Of its body, which was made for the lane that it was in; None: it is read as it is."""
    model = (lane_key(message.routing_key) or "").rpartition(".")[0]
    label = Label(
        "request",
        model,
        queue_of(message.reply_to),
        message.correlation_id or "",
        message.content_type or "",
    )
    if message.content_encoding != ENCODING:  # whoever sent it: it is there to be looked at
        return None
    return seals.found(message.content_encoding, message.headers, lambda: label)


def lane_key(key: str | None) -> str | None:
    """The routing key of the lane that all workers share; None when the key is no lane's."""
    shared = (key or "").removesuffix(".any")  # the end of `any_worker_key`
    model, _, lane = shared.rpartition(".")
    return shared if model and lane in LANES else None


def put_here_by_broker(message: AbstractIncomingMessage) -> bool:
    """Whether it is the sender's own message and not a worker's copy: copies have no `x-death`."""
    return "x-death" in message.headers


def _id(message: AbstractIncomingMessage) -> str:
    if message.message_id and _UNIQUE.fullmatch(message.message_id):
        return message.message_id
    properties = (
        message.message_id,
        message.routing_key,
        message.content_type,
        message.correlation_id,
        message.reply_to,
        message.type,
        message.app_id,
        str(message.timestamp),
        # The broker changes its own at each delivery.
        sorted((name, repr(value)) for name, value in message.headers.items()
               if not name.startswith("x-")),
    )  # fmt: skip
    digest = hashlib.blake2b(repr(properties).encode(errors="backslashreplace"), digest_size=8)
    digest.update(message.body)
    return digest.hexdigest()


def _death(headers: Mapping[str, Any]) -> Mapping[str, Any]:
    """The newest entry of the broker's `x-death`, or an empty one."""
    match headers.get("x-death"):
        case [dict() as newest, *_]:
            return newest
    return {}


def _deaths_words(death: Mapping[str, Any]) -> str:
    return f"put here by the broker, from queue {death.get('queue')}"


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _milliseconds(*moments: object) -> int | None:
    """Of the first that is a moment."""
    found = next((moment for moment in moments if isinstance(moment, datetime)), None)
    return int(found.timestamp() * 1000) if found else None


class _Shape(msgspec.Struct):
    """A request whose items are counted and not looked at."""

    items: Annotated[list[msgspec.Raw], msgspec.Meta(max_length=_COUNTED)]
    model: str | None = None


_SHAPES: Final[dict[str, msgspec.json.Decoder[_Shape] | msgspec.msgpack.Decoder[_Shape]]] = {
    JSON: msgspec.json.Decoder(_Shape),
    MSGPACK: msgspec.msgpack.Decoder(_Shape),
}
_REQUESTS: Final[dict[str, msgspec.json.Decoder[Request] | msgspec.msgpack.Decoder[Request]]] = {
    JSON: msgspec.json.Decoder(Request),
    MSGPACK: msgspec.msgpack.Decoder(Request),
}


def _shape(body: bytes, content_type: str | None) -> _Shape | None:
    decoder = _SHAPES.get(_kind(content_type))
    return decoder and _decoded(decoder, body)


def request_of(body: bytes, content_type: str | None) -> Request | None:
    """The request in a body, or None when there is none that keeps the contract to the letter."""
    decoder = _REQUESTS.get(_kind(content_type))
    return decoder and _decoded(decoder, body)


def _decoded(decoder: Any, body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _kind(content_type: str | None) -> str:
    return (content_type or JSON).partition(";")[0].strip().lower()


def exported(
    message: AbstractIncomingMessage,
    summary: Summary,
    settings: Settings,
    content: bytes | None = None,
) -> bytes:
    """All of a message as one line of JSON.

    `body` is the request; what is none, or more than a worker with these settings decodes, is in
    `body_base64` as it was sent. `content` is what was sealed in it, for who may read that.
    """
    is_small = len(message.body) <= settings.largest_pack
    few = summary.items is not None and summary.items <= settings.max_pack_items
    readable = message.body if content is None else content
    request = request_of(readable, message.content_type) if is_small and few else None
    if summary.key is not None and content is None:
        request = None
    encoded = base64.b64encode(message.body).decode()
    line = msgspec.to_builtins(summary) | {
        "routing_key": message.routing_key,
        "content_type": message.content_type,
        "content_encoding": message.content_encoding,
        "correlation_id": message.correlation_id,
        "reply_to": message.reply_to,
        "headers": message.headers,
        **({"body_base64": encoded} if request is None else {"body": request}),
    }
    return msgspec.json.encode(line, enc_hook=str)


def again(message: AbstractIncomingMessage, now_ms: int) -> aio_pika.Message:
    """The message as it is sent from the dead letter queue to its lane once more.

    It begins anew: the first attempt, published now, without what it failed of. Its deadline is
    left out, because it has passed: who replays wants an answer whenever it comes.
    """
    before = Headers.from_table(message.headers)
    headers = msgspec.structs.replace(
        before,
        # What a sender says of it is not carried over: of his own message the broker knows it.
        tenant=message.user_id or before.tenant,
        attempt=1,
        deadline_ms=None,
        published_ms=now_ms,
        first_error=None,
        error=None,
        reason=None,
        worker=None,
        parked_ms=None,
        replays=before.replays + 1,
    )
    return copied(message, headers, published_ms=now_ms)
