"""The contract: AMQP headers of a request, which anybody may have written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec

#: Bytes of a header's text by what it is: one that is longer is cut, or left out where a part of
#: it would be something else. All of them, with the properties of 255 bytes each, fit into the
#: smallest frame that a broker may ask for (8 KiB).
MAX_WORDS: Final = 1_000
MAX_NAME: Final = 255
MAX_TRACESTATE: Final = 512
MAX_BAGGAGE: Final = 1_024
#: Seconds that a header may speak of.
MAX_SECONDS: Final = 1e9
#: Header of a reply: what the worker's clock showed when it was sent, in Unix milliseconds.
CLOCK: Final = "lmaas-clock-ms"


class Headers(msgspec.Struct, frozen=True, kw_only=True):
    """AMQP headers of a request; a value that makes no sense counts as not given.

    These, and no others, go along with a copy of the request: anybody may have written the
    others, and to a broker some are orders (`CC`).
    """

    #: 1 at the first try; a retry adds one.
    attempt: int = 1
    #: Unix milliseconds after which nobody wants the answer. Times are whole numbers, because
    #: AMQP libraries send fractions as 32 bits, which are minutes off.
    deadline_ms: int | None = None
    #: Items of the pack, by which it is estimated before it is read.
    items: int = 1
    #: The publisher's estimate of the service time, in seconds.
    cost: float | None = None
    #: The publisher's estimate of what remains of the job that this pack belongs to, in seconds.
    remaining: float | None = None
    #: Unix milliseconds at which it was published.
    published_ms: int | None = None
    #: Batch job and the chunk's place in it, from 0.
    job: str | None = None
    chunk: int | None = None
    #: For whom a gateway asks. Of a copy by a worker: who asked, as that worker knew it.
    tenant: str | None = None
    #: Id of the payload key that the body is sealed with.
    key: str | None = None
    #: W3C trace context, and W3C baggage.
    traceparent: str | None = None
    tracestate: str | None = None
    baggage: str | None = None

    # Of a pack that a worker retries later or dead-letters:

    #: The first failure, as "code: words".
    first_error: str | None = None
    #: Code and words of the last one, and the worker that met it.
    error: str | None = None
    reason: str | None = None
    worker: str | None = None
    #: Unix milliseconds at which it was put into the dead letter queue.
    parked_ms: int | None = None
    #: How often it was published again from there.
    replays: int = 0
    #: Whether a dead letter lacks what was sent (setting redact), so that it cannot be sent again.
    redacted: bool = False

    def table(self) -> dict[str, Any]:
        """As an AMQP header table."""
        defaults = _DEFAULT_HEADERS
        return {
            wire: value
            for field, wire in HEADER_NAMES.items()
            if (value := getattr(self, field)) != getattr(defaults, field)
        }

    @classmethod
    def from_table(cls, table: Mapping[str, Any] | None) -> Headers:
        """From an AMQP header table, which anybody may have written."""
        if not table:
            return _DEFAULT_HEADERS
        return cls(
            attempt=_count(table.get("lmaas-attempt"), 1),
            deadline_ms=_moment(table.get("lmaas-deadline-ms")),
            items=_count(table.get("lmaas-items"), 1),
            cost=_positive(table.get("lmaas-cost")),
            remaining=_positive(table.get("lmaas-remaining")),
            published_ms=_moment(table.get("lmaas-published-ms")),
            job=_name(table.get("lmaas-job")),
            chunk=_chunk(table.get("lmaas-chunk")),
            tenant=_name(table.get("lmaas-tenant")),
            key=_name(table.get("lmaas-key")),
            traceparent=_name(table.get("traceparent")),
            tracestate=_name(table.get("tracestate"), MAX_TRACESTATE),
            baggage=_name(table.get("baggage"), MAX_BAGGAGE),
            first_error=_words(table.get("lmaas-first-error")),
            error=_words(table.get("lmaas-error"), MAX_NAME),
            reason=_words(table.get("lmaas-reason")),
            worker=_words(table.get("lmaas-worker"), MAX_NAME),
            parked_ms=_moment(table.get("lmaas-parked-ms")),
            replays=_count(table.get("lmaas-replays"), 0),
            redacted=table.get("lmaas-redacted") is True,
        )


_DEFAULT_HEADERS: Final = Headers()
#: Headers whose names are not ours.
_STANDARD: Final = ("traceparent", "tracestate", "baggage")
#: Field -> its name on the wire.
HEADER_NAMES: Final = {
    name: name if name in _STANDARD else f"lmaas-{name.replace('_', '-')}"
    for name in Headers.__struct_fields__
}


def _count(value: object, default: int) -> int:
    return value if type(value) is int and 0 <= value < 2**31 else default


def _chunk(value: object) -> int | None:
    return value if type(value) is int and 0 <= value < 2**31 else None


def _positive(value: object) -> float | None:
    if isinstance(value, int | float) and math.isfinite(value) and value > 0:
        return min(float(value), MAX_SECONDS)
    return None


def _moment(value: object) -> int | None:
    return value if type(value) is int and 0 < value < 2**53 else None


def _name(value: object, limit: int = MAX_NAME) -> str | None:
    """Not given when it is longer, because a part of it would name something else."""
    known = isinstance(value, str) and value and (len(value) * 4 <= limit or _fits(value, limit))
    return str(value) if known else None


def _fits(value: str, limit: int) -> bool:
    return len(value) <= limit and len(value.encode(errors="replace")) <= limit


def _words(value: object, limit: int = MAX_WORDS) -> str | None:
    return (shortened(value, limit) or None) if isinstance(value, str) else None


def shortened(words: str, limit: int = MAX_WORDS) -> str:
    """The beginning of a text, at most `limit` bytes of UTF-8, as a message can carry it."""
    return words[:limit].encode(errors="backslashreplace")[:limit].decode(errors="ignore")
