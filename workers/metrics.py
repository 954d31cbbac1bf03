"""What a worker counts, in the default registry of prometheus_client; and its state at a scrape.

As in `broker_config.metrics`, nothing is counted while nobody could see it. Labels have no ids, and
only such models and codes as there are, whatever is in a message.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from lmaas.broker_config.metrics import SECONDS, counted, known
from lmaas.broker_config.scheduling import LANES

if TYPE_CHECKING:
    from prometheus_client import Counter, Histogram, Metric

    from lmaas.workers.delivery import Delivery

#: Seconds between two looks at how late the event loop is.
LAG_INTERVAL: Final = 0.5


class Metrics:
    """Made once a process."""

    def __init__(self) -> None:
        from prometheus_client import Counter, Gauge, Histogram

        self.executions = Counter("lmaas_executions", "Runs of a model over one or more packs.")
        self.packs = _counters("packs", "Packs that were run.", "model")
        self.items = _counters("items", "Items of the packs that were run.", "model")
        self.outcomes = _counters(
            "outcomes", "Items that were answered: ok, or the error's code.", "model", "outcome"
        )
        self.redeliveries = _counters(
            "redeliveries", "Packs that somebody had before and did not settle.", "model"
        )
        self.retries = _counters("retries", "Packs that were put off.", "delay", "code")
        self.parked = _counters("parked", "Packs that went to the parking lot.", "code")
        self.unclaimed = Counter("lmaas_unclaimed_replies", "Replies that no queue took.")
        self.deadlines = Counter(
            "lmaas_deadline_misses",
            "Packs whose deadline passed before all of them had run.",
        )
        self.service = _histograms("service", "A pack's part of the run that it was in.", "model")
        self.wait = _histograms("wait", "From a pack's publish to the start of its run.", "lane")
        for lane in LANES:  # the label is seen from the start
            self.wait(lane)
        self.lag = Gauge("lmaas_loop_lag_newest_seconds", "By how much the event loop is late.")
        self.lags = Histogram(
            "lmaas_loop_lag_seconds", "By how much the event loop was late.", buckets=SECONDS
        )


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
    now = time.time()
    for delivery in deliveries:
        if published := delivery.headers.published_ms:
            _metrics().wait(delivery.lane).observe(max(now - published / 1000, 0.0))


@counted
def ran(deliveries: Sequence[Delivery], seconds: float) -> None:
    """They were run together, in so many seconds, which are shared among them by their bytes."""
    metrics = _metrics()
    metrics.executions.inc()
    of_a_byte = seconds / max(1, sum(delivery.pack.size for delivery in deliveries))
    for delivery in deliveries:
        metrics.packs(delivery.model).inc()
        metrics.items(delivery.model).inc(len(delivery.pack))
        metrics.service(delivery.model).observe(of_a_byte * delivery.pack.size)


@counted
def answered(delivery: Delivery) -> None:
    """Its reply is with the broker, or nobody wanted one."""
    for outcome, items in delivery.outcomes.items():
        _metrics().outcomes(delivery.model, outcome).inc(items)


@counted
def retried(delay: str, code: str) -> None:
    """A pack was put off into the retry queue of this delay."""
    _metrics().retries(delay, known(code)).inc()


@counted
def parked(code: str) -> None:
    """A pack, or a part of it, was put into the parking lot."""
    _metrics().parked(known(code)).inc()


@counted
def unclaimed() -> None:
    """No queue takes a reply."""
    _metrics().unclaimed.inc()


@counted
def deadline_missed() -> None:
    """A pack's deadline passed before all of it had run."""
    _metrics().deadlines.inc()


async def follow_loop_lag() -> None:
    """Measures for ever by how much a timer of the event loop is late."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LAG_INTERVAL
        await asyncio.sleep(LAG_INTERVAL)
        late = max(loop.time() - due, 0.0)
        _metrics().lag.set(late)
        _metrics().lags.observe(late)


class State:
    """What is true of a worker at the moment of a scrape; for a registry of its own."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        _metrics()  # so that all names are there before anything happened

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import GaugeMetricFamily

        worker = self._worker
        for name, words, value in (
            ("ready", "1 while it consumes, else 0.", worker.not_ready is None),
            ("packs_held", "Packs that wait in the worker to be run.", worker.held),
            ("packs_running", "Packs that run.", len(worker.execution.running)),
        ):
            yield GaugeMetricFamily(f"lmaas_{name}", words, value=value)
        yield from self._versions()
        yield from self._lanes()
        yield from self._estimates()

    def _versions(self) -> Iterator[Metric]:
        from prometheus_client.core import GaugeMetricFamily

        models = self._worker.execution.loaded
        answers = GaugeMetricFamily(
            "lmaas_model_version", "1 of the version that answers now.", labels=["model", "version"]
        )
        for model, version in models.current.items():
            answers.add_metric([model, version], 1)
        yield answers
        yield GaugeMetricFamily(
            "lmaas_model_problems",
            "Versions that could not be used, and other trouble with models, each told in the log.",
            value=len(models.repository.told),
        )

    def _lanes(self) -> Iterator[Metric]:
        """With queues of a worker's own, a lane has several: their sums, and the longest wait."""
        from prometheus_client.core import GaugeMetricFamily

        by_lane = ["model", "lane"]
        depth = GaugeMetricFamily(
            "lmaas_queue_depth", "Packs that wait in a lane, when last looked at.", labels=by_lane
        )
        age = GaugeMetricFamily(
            "lmaas_queue_age_seconds",
            "How long the pack that came last had waited; 0 when none waits.",
            labels=by_lane,
        )
        prefetch = GaugeMetricFamily(
            "lmaas_prefetch", "Packs that the broker hands over ahead.", labels=by_lane
        )
        queues = defaultdict(list)
        for lane in self._worker.lanes:
            queues[lane.model, lane.name].append(lane)
        for labels, lanes in queues.items():
            depth.add_metric(labels, sum(lane.depth for lane in lanes))
            age.add_metric(labels, max(lane.age for lane in lanes))
            prefetch.add_metric(labels, sum(lane.prefetch for lane in lanes))
        yield from (depth, age, prefetch)

    def _estimates(self) -> Iterator[Metric]:
        """Two sums, whose ratio says how good the estimates are."""
        from prometheus_client.core import CounterMetricFamily

        by_lane = ["model", "lane"]
        predicted = CounterMetricFamily(
            "lmaas_estimate_predicted_seconds", "What packs were estimated to take.", labels=by_lane
        )
        actual = CounterMetricFamily(
            "lmaas_estimate_actual_seconds", "What the same packs took.", labels=by_lane
        )
        for model, estimator in self._worker.execution.estimators.items():
            for lane, error in estimator.errors.items():
                predicted.add_metric([model, lane], error.predicted)
                actual.add_metric([model, lane], error.actual)
        yield from (predicted, actual)
