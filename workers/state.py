"""What is true of a worker at the moment of a scrape by Prometheus."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lmaas.broker_config.estimator import Estimator
from lmaas.workers import metrics
from lmaas.workers.lane import Lane


class Scraped(Protocol):
    """What a worker says of itself."""

    @property
    def not_ready(self) -> str | None: ...
    @property
    def held(self) -> int: ...
    @property
    def running(self) -> int: ...
    @property
    def lanes(self) -> Sequence[Lane]: ...
    @property
    def versions(self) -> Mapping[str, str]: ...
    @property
    def model_problems(self) -> int: ...
    @property
    def estimators(self) -> Mapping[str, Estimator]: ...


class State(Collector):
    """What is true of a worker at the moment of a scrape; for a registry of its own."""

    def __init__(self, worker: Scraped) -> None:
        self._worker = worker
        metrics.prepare()

    def collect(self) -> Iterator[Metric]:
        worker = self._worker
        for name, words, value in (
            ("ready", "1 while it consumes, else 0.", worker.not_ready is None),
            ("packs_held", "Packs that wait in the worker to be run.", worker.held),
            ("packs_running", "Packs that run.", worker.running),
        ):
            yield GaugeMetricFamily(f"lmaas_{name}", words, value=value)
        yield from self._versions()
        yield from self._lanes()
        yield from self._estimates()

    def _versions(self) -> Iterator[Metric]:
        answers = GaugeMetricFamily(
            "lmaas_model_version", "1 of the version that answers now.", labels=["model", "version"]
        )
        for model, version in self._worker.versions.items():
            answers.add_metric([model, version], 1)
        yield answers
        yield GaugeMetricFamily(
            "lmaas_model_problems",
            "Versions that could not be used, and other trouble with models, each told in the log.",
            value=self._worker.model_problems,
        )

    def _lanes(self) -> Iterator[Metric]:
        """With queues of a worker's own, a lane has several: their sums, and the longest wait."""
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
        by_lane = ["model", "lane"]
        predicted = CounterMetricFamily(
            "lmaas_estimate_predicted_seconds", "What packs were estimated to take.", labels=by_lane
        )
        actual = CounterMetricFamily(
            "lmaas_estimate_actual_seconds", "What the same packs took.", labels=by_lane
        )
        for model, estimator in self._worker.estimators.items():
            for lane, error in estimator.errors.items():
                predicted.add_metric([model, lane], error.predicted)
                actual.add_metric([model, lane], error.actual)
        yield from (predicted, actual)
