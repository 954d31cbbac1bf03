"""Sizes: the rules one by one, a plan replayed, and the page that quotes them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import plan, queueing
from benchmarks.plan import Demand
from benchmarks.simulator import fifo, replay

PAGE = Path(__file__).parents[3] / "docs" / "sizing.md"
#: A command of the page and the table after it.
QUOTED = re.compile(r"```sh\n(python -m benchmarks\.plan[^`]*)\n```\n\n((?:\|.*\|\n)+)")
#: The page's program and the table after it.
PROGRAM = re.compile(r"```python\n([^`]*)```\n\n((?:\|.*\|\n)+)")

rates = st.floats(1, 1e6)


@given(rates, st.floats(1e-6, 1e-3), st.floats(0.1, 0.95), st.sampled_from([0.0, 0.002, 0.01]))
def test_nothing_is_busier_than_allowed(
    rate: float, seconds: float, utilisation: float, linger: float
) -> None:
    demand = Demand(
        items_per_second=rate,
        item_seconds=seconds,
        utilisation=utilisation,
        linger=linger,
        latency=1.0,
    )
    it = plan.plan(demand)
    allowed = utilisation * (1 + 1e-9)
    assert it.busy == pytest.approx(it.packs_per_second * demand.service(it.items) / it.workers)
    assert it.busy <= allowed
    assert rate / it.producers <= plan.PRODUCER_ITEMS * allowed
    assert it.packs_per_second / it.producers <= plan.PRODUCER_PACKS * allowed
    brokers_busy = it.packs_per_second * plan.broker_seconds(demand, it.items) / it.brokers
    assert brokers_busy <= allowed
    assert it.latency <= demand.latency
    assert it.packs_per_second * it.items == pytest.approx(rate)
    assert 1 <= it.items <= demand.pack


@pytest.mark.parametrize(
    ("rate", "linger", "producers", "items"),
    [
        (100, 0.002, 1, 1),  # nobody comes within 2 ms
        (10_000, 0.002, 1, 20),
        (70_000, 0.002, 2, 70),  # 35,000 items a producer, 0.7 of what it can
        (70_000, 0.1, 2, 256),  # no more than a pack
        (100, 0, 1, 256),  # files: always full
        (9_400, 0.0001, 3, 1),  # 3,150 packs a producer, 0.7 of what it can
    ],
)
def test_producers_and_their_packs(
    rate: float, linger: float, producers: int, items: float
) -> None:
    it = plan.plan(Demand(items_per_second=rate, linger=linger, latency=1.0))
    assert it.producers == producers
    assert it.items == pytest.approx(items)


def test_each_lane_has_its_own_prefetch() -> None:
    slow = plan.plan(Demand(items_per_second=10, item_seconds=0.03, latency=5.0))
    quick = plan.plan(Demand(items_per_second=10, item_seconds=0.0001, latency=5.0))
    assert (slow.prefetch, quick.prefetch) == ((1, 1, 1, 1, 1), (35, 11, 2, 1, 1))


def test_a_latency_goal_can_need_more_than_the_load_does() -> None:
    relaxed = plan.plan(Demand(items_per_second=10_000, utilisation=0.9, latency=0.05))
    hurried = plan.plan(Demand(items_per_second=10_000, utilisation=0.9, latency=0.006))
    assert (relaxed.workers, hurried.workers) == (1, 2)


def test_a_latency_goal_below_the_service_time() -> None:
    with pytest.raises(ValueError, match=r"takes 0\.00396 s without any wait"):
        plan.plan(Demand(items_per_second=10_000, latency=0.0039))


def test_large_items_are_bound_by_the_brokers_bytes() -> None:
    demand = Demand(items_per_second=1e4, item_bytes=100_000, linger=0)
    seconds = plan.broker_seconds(demand, items=256)
    assert seconds == pytest.approx(2 * 256 * 100_040 / 200e6, rel=1e-3)
    assert plan.plan(demand).brokers == 15


def test_a_plan_replayed_keeps_its_promise() -> None:
    demand = Demand(items_per_second=1e5)
    it = plan.plan(demand)
    rng = np.random.default_rng(9)
    # One broker with its workers; exponential packs have the variation of 1 that was asked for.
    seconds = rng.exponential(demand.service(it.items), 100_000)
    arrivals = queueing.poisson(rng, it.packs_per_second / it.brokers, seconds.size)
    waits = replay(arrivals, seconds, fifo, servers=it.workers // it.brokers)
    promised = it.latency - demand.linger - plan.ROUND_TRIP - demand.service(it.items)
    assert (waits > promised).mean() == pytest.approx(0.01, abs=0.003)


def test_the_command() -> None:
    result = CliRunner().invoke(plan.main, ["--items-per-second", "1e5", "--pack", "64"])
    header, _, row = result.output.splitlines()
    assert result.exit_code == 0
    assert row.startswith("| 100,000 | 64 |")
    assert row.count("|") == header.count("|")


@pytest.mark.parametrize(
    "arguments", ["--latency 0.001", "--utilisation 1", "--items-per-second 0", "--pack 0"]
)
def test_demands_that_cannot_be_met(arguments: str) -> None:
    result = CliRunner().invoke(plan.main, shlex.split(arguments))
    assert result.exit_code != 0
    assert "Error: " in result.output


def test_the_page_quotes_what_the_commands_print() -> None:
    quoted = QUOTED.findall(PAGE.read_text())
    assert len(quoted) == 3
    for command, printed in quoted:
        arguments = shlex.split(command)[3:]
        assert CliRunner().invoke(plan.main, arguments).output == printed


def test_the_page_quotes_what_its_program_prints(capsys: pytest.CaptureFixture[str]) -> None:
    [(program, printed)] = PROGRAM.findall(PAGE.read_text())
    exec(program, {})
    assert capsys.readouterr().out == printed
