"""What has passed this gateway, by model and version, as Triton counts it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from aiohttp import web

from lmaas.broker_config.messages import ModelCard, Reply


class Duration(msgspec.Struct):
    """How often something was done, and the nanoseconds of all times together."""

    count: int = 0
    ns: int = 0

    def add(self, seconds: float) -> None:
        self.count += 1
        self.ns += round(seconds * 1e9)


class InferenceStats(msgspec.Struct):
    """Where time goes."""

    #: Requests of this protocol, from the body to the answer.
    success: Duration = msgspec.field(default_factory=Duration)
    fail: Duration = msgspec.field(default_factory=Duration)
    #: Packs, which callers share: how long each waited at the worker, and ran there.
    queue: Duration = msgspec.field(default_factory=Duration)
    compute_infer: Duration = msgspec.field(default_factory=Duration)
    #: Not measured apart: workers count them as `compute_infer`.
    compute_input: Duration = msgspec.field(default_factory=Duration)
    compute_output: Duration = msgspec.field(default_factory=Duration)
    #: There is no cache.
    cache_hit: Duration = msgspec.field(default_factory=Duration)
    cache_miss: Duration = msgspec.field(default_factory=Duration)


class ModelStats(msgspec.Struct):
    """Of one version of a model."""

    name: str
    version: str
    #: Unix milliseconds.
    last_inference: int = 0
    #: Items that got a label.
    inference_count: int = 0
    #: Packs that workers have answered.
    execution_count: int = 0
    inference_stats: InferenceStats = msgspec.field(default_factory=InferenceStats)
    #: Sizes of batches are known to workers only; see their metrics.
    batch_stats: list[Any] = msgspec.field(default_factory=list)


class ModelsStats(msgspec.Struct):
    """The answer to `GET /v2/models/stats`."""

    model_stats: list[ModelStats]


class Statistics:
    """Since the gateway has started."""

    def __init__(self) -> None:
        self._models: dict[tuple[str, str], ModelStats] = {}

    def replied(self, reply: Reply) -> None:
        """A worker has answered a pack, whoever has sent it."""
        if reply.version is None:
            return
        found = self._of(reply.model, reply.version)
        found.last_inference = time.time_ns() // 1_000_000
        found.inference_count += sum(result.error is None for result in reply.results)
        found.execution_count += 1
        if reply.timings is not None:
            found.inference_stats.queue.add(reply.timings.waited)
            found.inference_stats.compute_infer.add(reply.timings.cost or reply.timings.ran)

    def requested(self, model: str, version: str, seconds: float, *, succeeded: bool) -> None:
        """A request of this protocol has ended after so long."""
        times = self._of(model, version).inference_stats
        (times.success if succeeded else times.fail).add(seconds)

    def told(self, cards: Sequence[ModelCard], model: str | None = None) -> ModelsStats:
        """Of these models, and of all others that were counted (or of one of them)."""
        for card in cards:
            self._of(card.model, card.version)
        return ModelsStats(
            [self._models[key] for key in sorted(self._models) if model is None or key[0] == model]
        )

    def _of(self, model: str, version: str) -> ModelStats:
        key = (model, version)
        if key not in self._models:
            self._models[key] = ModelStats(model, version)
        return self._models[key]


STATISTICS: Final = web.AppKey("statistics", Statistics)
