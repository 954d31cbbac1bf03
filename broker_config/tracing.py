"""A span a pack, for who has OpenTelemetry; and what a log line says of a pack.

Nothing is imported here: spans go to a provider that somebody has set up, and who has, has imported
OpenTelemetry. For all others a pack costs one look into a dictionary.

Names and attributes follow OpenTelemetry's semantic conventions for messaging and RabbitMQ.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Final

from lmaas.broker_config.headers import Headers

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

LIBRARY: Final = "opentelemetry.trace"
HEADER: Final = "traceparent"


def context(headers: Headers) -> dict[str, Any]:
    """What a log line says of the pack that it is about, for `extra`: job, chunk, trace."""
    said = {"job": headers.job, "chunk": headers.chunk, "trace": trace_id(headers.traceparent)}
    return {name: value for name, value in said.items() if value is not None}


def trace_id(traceparent: str | None) -> str | None:
    """The id that all spans of the trace share: the second part of `00-TRACE-SPAN-FLAGS`."""
    parts = (traceparent or "").split("-")
    return parts[1] if len(parts) >= 4 else None


@contextlib.contextmanager
def serving(method: str, route: str, headers: Mapping[str, str]) -> Iterator[None]:
    """A span around the answer to an HTTP request, whose caller may have sent a trace context.

    None of ours where an instrumentation of the server has made one.
    """
    if LIBRARY not in sys.modules:
        yield
        return
    from opentelemetry.trace import SpanKind, get_current_span

    if get_current_span().get_span_context().is_valid:
        yield
        return
    with _tracer().start_as_current_span(
        f"{method} {route}",
        context=_context(headers.get(HEADER)),
        kind=SpanKind.SERVER,
        attributes={"http.request.method": method, "http.route": route},
    ):
        yield


@contextlib.contextmanager
def publishing(
    exchange: str, key: str, model: str, items: int, table: MutableMapping[str, Any]
) -> Iterator[None]:
    """A span around the publish of a pack whose headers are `table`.

    The trace context goes into them, unless the caller has put one there: then that is the parent.
    """
    if LIBRARY not in sys.modules:
        yield
        return
    from opentelemetry.trace import SpanKind

    given = table.get(HEADER)
    with _tracer().start_as_current_span(
        f"publish {exchange}",
        context=_context(given),
        kind=SpanKind.PRODUCER,
        attributes=_attributes("publish", "send", exchange, key, model, items),
    ):
        if given is None:
            _propagator().inject(table)
        yield


def processed(
    headers: Headers,
    exchange: str,
    key: str,
    model: str,
    lane: str,
    outcomes: Counter[str],
    seconds: float,
) -> None:
    """A worker has settled a pack, which it began `seconds` ago: a span of that time."""
    if LIBRARY not in sys.modules:
        return
    from opentelemetry.trace import SpanKind

    now = time.time_ns()
    attributes = _attributes("process", "process", exchange, key, model, outcomes.total())
    span = _tracer().start_span(
        f"process {exchange}",
        context=_context(headers.traceparent),
        kind=SpanKind.CONSUMER,
        attributes=attributes | {"lmaas.lane": lane, "lmaas.outcome": ",".join(sorted(outcomes))},
        start_time=now - int(seconds * 1e9),
    )
    span.end(now)


def _attributes(
    name: str, kind: str, exchange: str, key: str, model: str, items: int
) -> dict[str, str | int]:
    return {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
        "messaging.destination.name": exchange,
        "messaging.rabbitmq.destination.routing_key": key,
        "lmaas.model": model,
        "lmaas.items": items,
    }


@functools.cache
def _tracer() -> Tracer:
    from opentelemetry.trace import get_tracer

    return get_tracer("lmaas")


@functools.cache
def _propagator() -> Any:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator()


def _context(traceparent: str | None) -> Any:
    """The context of a header; None, which stands for the current one, without."""
    return _propagator().extract({HEADER: traceparent}) if traceparent else None
