"""What can be set of webhooks that go out: `[gateway.callbacks]`, `[gateway.endpoints.NAME]`."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from lmaas.producer.gateway.secret import WithSecrets

_Positive = Annotated[float, msgspec.Meta(gt=0)]
_Count = Annotated[int, msgspec.Meta(ge=1)]
_Delay = Annotated[float, msgspec.Meta(ge=0)]

#: Seconds before each try, as Standard Webhooks proposes.
DELAYS: Final = (
    0.0, 5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0,
)  # fmt: skip


class Endpoint(WithSecrets, frozen=True, kw_only=True):
    """A receiver of the events of all jobs."""

    url: str
    #: The types of events that it gets, "job.*" for all that begin so; none: all.
    events: tuple[str, ...] = ()


class Callbacks(WithSecrets, frozen=True, kw_only=True):
    """How events are sent; the secret signs those of jobs that have none of their own."""

    #: Seconds between a try and the one before, of the first one from the event.
    delays: Annotated[tuple[_Delay, ...], msgspec.Meta(min_length=1)] = DELAYS
    #: By which part of itself a delay is longer, at most, at random.
    jitter: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.2
    #: Seconds for one try.
    timeout: _Positive = 20.0
    #: Requests at a time, in all and to one host.
    concurrency: _Count = 64
    concurrency_per_host: _Count = 4
    #: Seconds for which what has been sent, or could not be, is kept for the log.
    keep: _Positive = 30 * 86_400.0
