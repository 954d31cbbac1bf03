"""What a worker counts, in the default registry of prometheus_client.

As in `broker_config.metrics`, nothing is counted while nobody could see it. Labels have no ids, and
only such models and codes as there are, whatever is in a message. Of tenants, the first TENANTS
have a label; those that come later are counted together.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from lmaas.broker_config.metrics import OK, OTHER, SECONDS, counted, known
from lmaas.broker_config.scheduling import LANES

if TYPE_CHECKING:
    from prometheus_client import Counter, Histogram, Summary

    from lmaas.workers.delivery import Delivery

#: Tenants that have a label of their own.
TENANTS: Final = 100


class Tenant:
    """What is counted for one, or for all that came after the first ones."""

    def __init__(
        self, items: Counter, failures: Counter, work: Counter, wait: Summary, name: str
    ) -> None:
        self.items = items.labels(name)
        self.failures = failures.labels(name)
        self.work = work.labels(name)
        self.wait = wait.labels(name)


class Tenants:
    """By name."""

    def __init__(self) -> None:
        from prometheus_client import Counter, Summary

        by = ["tenant"]
        self._metrics = (
            Counter("lmaas_tenant_items", "Items that were answered.", by),
            Counter("lmaas_tenant_failures", "Those of them that have an error.", by),
            Counter("lmaas_tenant_work_seconds", "Its packs' parts of the runs they were in.", by),
            Summary("lmaas_tenant_wait_seconds", "From a pack's publish to its run's start.", by),
        )
        self._known: dict[str, Tenant] = {}

    def __getitem__(self, name: str) -> Tenant:
        """Of a name that is empty: of those who have not said who they are."""
        if name not in self._known and len(self._known) >= TENANTS:
            name = OTHER
        if name not in self._known:
            self._known[name] = Tenant(*self._metrics, name)
        return self._known[name]


class Metrics:
    """Made once a process."""

    def __init__(self) -> None:
        from prometheus_client import Counter

        self.tenants = Tenants()

        self.executions = Counter("lmaas_executions", "Runs of a model over one or more packs.")
        self.packs = _counters("packs", "Packs that were run.", "model")
        self.items = _counters("items", "Items of the packs that were run.", "model")
        self.outcomes = _counters(
            "outcomes", "Items that were answered: ok, or the error's code.", "model", "outcome"
        )
        self.redeliveries = _counters(
            "redeliveries", "Packs that somebody had before and did not settle.", "model"
        )
        self.retries = _counters("retries", "Packs that are tried again later.", "delay", "code")
        self.dead_lettered = _counters(
            "parked", "Packs that went to the dead letter queue.", "code"
        )
        self.unclaimed = Counter("lmaas_unclaimed_replies", "Replies that no queue took.")
        self.cancelled = Counter(
            "lmaas_cancelled", "Packs that were dropped because nobody waited for them any more."
        )
        self.deadlines = Counter(
            "lmaas_deadline_misses",
            "Packs whose deadline passed before all of them had run.",
        )
        self.service = _histograms("service", "A pack's part of the run that it was in.", "model")
        self.wait = _histograms("wait", "From a pack's publish to the start of its run.", "lane")
        for lane in LANES:  # the label is seen from the start
            self.wait(lane)


def _counters(name: str, words: str, *labels: str) -> Callable[..., Counter]:
    """Gives the counter for values of the labels, which is looked up once."""
    from prometheus_client import Counter

    return functools.cache(Counter(f"lmaas_{name}", words, labels).labels)


def _histograms(name: str, words: str, *labels: str) -> Callable[..., Histogram]:
    from prometheus_client import Histogram

    return functools.cache(
        Histogram(f"lmaas_{name}_seconds", words, labels, buckets=SECONDS).labels
    )


_metrics = functools.cache(Metrics)


@counted
def delivered(model: str, *, again: bool) -> None:
    """`again`: somebody had the pack before."""
    if again:
        _metrics().redeliveries(model).inc()


@counted
def began(deliveries: Sequence[Delivery]) -> None:
    """They are run together from now on."""
    now, metrics = time.time(), _metrics()
    for delivery in deliveries:
        if published := delivery.headers.published_ms:
            seconds = max(now - published / 1000, 0.0)
            metrics.wait(delivery.lane).observe(seconds)
            metrics.tenants[delivery.tenant].wait.observe(seconds)


@counted
def ran(deliveries: Sequence[Delivery], seconds: float) -> None:
    """They were run together, in so many seconds, which they share by their estimates."""
    metrics = _metrics()
    metrics.executions.inc()
    scale = seconds / sum(delivery.seconds for delivery in deliveries)
    for delivery in deliveries:
        metrics.packs(delivery.model).inc()
        metrics.items(delivery.model).inc(len(delivery.pack))
        metrics.service(delivery.model).observe(scale * delivery.seconds)
        metrics.tenants[delivery.tenant].work.inc(scale * delivery.seconds)


@counted
def answered(delivery: Delivery) -> None:
    """Its reply is with the broker, or nobody wanted one."""
    metrics = _metrics()
    tenant = metrics.tenants[delivery.tenant]
    for outcome, items in delivery.outcomes.items():
        metrics.outcomes(delivery.model, outcome).inc(items)
        tenant.items.inc(items)
        if outcome != OK:
            tenant.failures.inc(items)


@counted
def retried(delay: str, code: str) -> None:
    """A pack went into the retry queue of this delay."""
    _metrics().retries(delay, known(code)).inc()


@counted
def dead_lettered(code: str) -> None:
    """A pack, or a part of it, was put into the dead letter queue."""
    _metrics().dead_lettered(known(code)).inc()


@counted
def unclaimed() -> None:
    """No queue takes a reply."""
    _metrics().unclaimed.inc()


@counted
def cancelled() -> None:
    """A pack was dropped, because nobody waits for it."""
    _metrics().cancelled.inc()


@counted
def deadline_missed() -> None:
    """A pack's deadline passed before all of it had run."""
    _metrics().deadlines.inc()


def prepare() -> None:
    """Have all names there before anything happened."""
    _metrics()
