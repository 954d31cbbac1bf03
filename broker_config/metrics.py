"""What both ends count, in the default registry of prometheus_client.

Importing that library would add a tenth to the time of a short command. So nothing is counted until
somebody has imported it: who exposes its registry has, and nobody else could see the figures.
"""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Callable
from typing import Final, ParamSpec

from lmaas.broker_config.codes import Code
from lmaas.broker_config.messages import Reply

P = ParamSpec("P")

LIBRARY: Final = "prometheus_client"
#: The outcome of an item that has a label, and of one whose error has a code that is not ours.
OK: Final = "ok"
OTHER: Final = "other"
#: Bounds of histograms, in seconds: from the shortest pack to the longest wait.
SECONDS: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
)  # fmt: skip

_CODES: Final = frozenset(map(str, Code))


def counted(function: Callable[P, None]) -> Callable[P, None]:
    """The function, which does nothing while prometheus_client is not loaded."""

    @functools.wraps(function)
    def gated(*args: P.args, **kwargs: P.kwargs) -> None:
        if LIBRARY in sys.modules:
            function(*args, **kwargs)

    return gated


def outcomes(reply: Reply) -> Counter[str]:
    """Items by outcome: OK, or the code of the error. A pack that nobody could read counts one."""
    errors = [result.error.code for result in reply.results if result.error is not None]
    found = Counter(known(code) for code in errors)
    if well := len(reply.results) - len(errors):
        found[OK] = well
    if not found and reply.error is not None:
        found[known(reply.error.code)] = 1
    return found


def known(code: str) -> str:
    """A code as a label: senders may have codes of their own, and any number of them."""
    return code if code in _CODES else OTHER


class Metrics:
    """Made once a process."""

    def __init__(self) -> None:
        from prometheus_client import Counter, Histogram

        self.reconnects = Counter(
            "lmaas_reconnects", "Connections that were lost and came back.", ["link"]
        )
        self.unanswered = Counter(
            "lmaas_unanswered_methods",
            "AMQP methods that the broker did not answer in time: a queue hangs there.",
            ["method"],
        )
        self.confirms = Histogram(
            "lmaas_confirm_seconds",
            "From a publish to the broker's confirm, all tries together.",
            buckets=SECONDS,
        )
        self.published = Counter("lmaas_published_packs", "Packs that a client published.")
        self.answers = Counter(
            "lmaas_answers", "Items that a client had an answer to, by outcome.", ["outcome"]
        )


_metrics = functools.cache(Metrics)


@counted
def reconnected(session: str) -> None:
    """`session` is the name of a Session; its label is the last word, as the others may be ids."""
    _metrics().reconnects.labels(session.rpartition(" ")[2]).inc()


@counted
def unanswered(method: str) -> None:
    """The broker did not answer an AMQP method, as `Queue.Declare`, in time."""
    _metrics().unanswered.labels(method).inc()


@counted
def confirmed(seconds: float) -> None:
    """The broker confirmed a publish after so long."""
    _metrics().confirms.observe(seconds)


@counted
def published() -> None:
    """A client's pack is with the broker."""
    _metrics().published.inc()


@counted
def answered(reply: Reply) -> None:
    """A client has the reply to its pack."""
    answers = _metrics().answers
    for outcome, items in outcomes(reply).items():
        answers.labels(outcome).inc(items)
