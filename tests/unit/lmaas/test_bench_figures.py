"""Figures out of counts and times."""

from __future__ import annotations

import statistics
from random import Random

import pytest

from lmaas.bench.figures import (
    Latency,
    Phase,
    Report,
    Size,
    Tally,
    bulk_of,
    percentile,
    phase,
    said,
    size_classes,
)
from lmaas.broker_config.codes import Code
from lmaas.broker_config.errors import TimeLimitExceeded
from lmaas.broker_config.messages import ItemError, Result

GOOD = Result(id="0", label="positive", score=0.9)
BAD = Result(id="0", error=ItemError(code=Code.INTERNAL, message="no memory"))


@pytest.mark.parametrize("count", [100, 101, 1_000])
def test_percentiles_are_those_of_the_standard_library(count: int) -> None:
    chance = Random(count)
    ordered = sorted(chance.expovariate(1) for _ in range(count))
    cuts = statistics.quantiles(ordered, n=100, method="inclusive")
    for percent in (50, 95, 99):
        assert percentile(ordered, percent) == pytest.approx(cuts[percent - 1])


@pytest.mark.parametrize(("percent", "enough"), [(50, 2), (95, 20), (99, 100)])
def test_a_percentile_of_too_few_is_not_told(percent: int, enough: int) -> None:
    assert percentile(range(enough - 1), percent) is None
    assert percentile(range(enough), percent) is not None


def test_the_longest_is_always_told() -> None:
    assert Latency.of([0.3]) == Latency(p50=None, p95=None, p99=None, max=0.3)
    assert Latency.of([3.0, 1.0]) == Latency(p50=2.0, p95=None, p99=None, max=3.0)


def test_failures_are_counted_by_their_reasons_and_not_timed() -> None:
    tally = Tally()
    tally.add([GOOD, BAD, GOOD], 0.5)
    tally.add([BAD], 9.0)
    tally.fail(TimeLimitExceeded("no answer"), 3)
    tally.fail(TimeLimitExceeded("no answer"), 0)
    found = phase(tally, 4.0)
    assert (found.items, found.failed, found.items_per_second) == (7, 5, 0.5)
    assert found.failures == {"TimeLimitExceeded": 3, "internal": 2}
    assert found.latency_seconds == Latency.of([0.5])
    assert said(found.failures) == "TimeLimitExceeded: 3, internal: 2"


def test_without_an_answer_there_is_no_latency() -> None:
    tally = Tally()
    tally.add([BAD], 1.0)
    assert phase(tally, 1.0).latency_seconds is None


def test_a_size_belongs_to_the_lane_of_what_its_packs_took() -> None:
    sizes = {
        1: _size(costs=[0.001, 0.002], seconds=[0.1]),
        16: _size(costs=[0.0001], seconds=[0.2, 0.3]),
        64: _size(costs=[0.01, 0.03], seconds=[0.4]),
        256: Size(expected=0.1, packs=1),
    }
    sizes[256].tally.fail(TimeLimitExceeded(), 256)
    instant, short, medium = size_classes(sizes, 2.0)
    assert (instant.lane, instant.pack_items, instant.packs) == ("instant", [1, 16], 3)
    assert instant.latency_seconds == Latency.of([0.1, 0.2, 0.3])
    assert (short.lane, short.pack_items) == ("short", [64])
    assert (medium.lane, medium.items, medium.failed) == ("medium", 256, 256)


def _size(costs: list[float], seconds: list[float]) -> Size:
    size = Size(expected=1.0, packs=len(seconds), costs=costs)
    for each in seconds:
        size.tally.add([GOOD], each)
    return size


def test_a_report_hides_no_failure() -> None:
    tally = Tally()
    tally.add([GOOD, BAD], 1.0)
    report = _report(tally)
    assert (report.items, report.failed, report.failures) == (10, 5, {"internal": 5})
    assert list(report.phases) == [
        "single calls, one at a time",
        "single calls, 64 at a time",
        "bulk, packs of 256",
        "mixed, instant: packs of 2",
    ]


def _report(tally: Tally) -> Report:
    """The same counts in every phase."""
    found: Phase = phase(tally, 1.0)
    return Report(
        began="2026-01-01T00:00:00+00:00",
        broker="amqp://localhost/",
        model="sentiment",
        version="1",
        policy="srtf",
        texts="made up",
        texts_used=1,
        texts_left_out=0,
        mean_text_bytes=4.0,
        callers=64,
        workers=1,
        unloaded=found,
        concurrent=found,
        rehearsal=bulk_of(tally, 1.0, 16),
        bulk=bulk_of(tally, 1.0, 256),
        mixed=size_classes({2: Size(expected=0.001, packs=1, tally=tally)}, 1.0),
    )
