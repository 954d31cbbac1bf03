"""Failures in short: whatever dies, each row is answered once, as in a calm run."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from benchmarks import rig
from benchmarks.failures import suite, waiting
from benchmarks.failures.comparison import Verdict
from benchmarks.failures.faults import Fault, Kind
from benchmarks.failures.poison import Poison

#: Far more than are held back while a poison pack is run: the job outlasts the faults.
ITEMS = 40_000
WAITING = 10_000
FAULTS = (
    Fault(Kind.WORKER, 0.1),
    Fault(Kind.CUT, 0.25),
    Fault(Kind.PRODUCER, 0.4),
    Fault(Kind.CRASH, 0.6),
    Fault(Kind.STALL, 0.8, seconds=1.0),
)
#: Those that take no time limit and no retries to be known.
QUICK = (Poison.SEGFAULT, Poison.EXCEPTION)
#: Seconds for all of it, on a machine that does much else.
LIMIT = 400


@pytest.fixture(scope="module")
def of_imdb() -> list[str]:
    return rig.reviews() if os.environ.get("LMAAS_DATASETS") else []


@pytest.fixture
def reviews(of_imdb: list[str], texts: list[str]) -> list[str]:
    """Those of IMDB where they are."""
    return of_imdb or texts


@pytest.mark.usefixtures("rabbitmq")
async def test_nothing_is_lost_doubled_or_wrong_under_faults(
    reviews: list[str], payload_keys: Path | None
) -> None:
    what = suite.Plan(
        items=ITEMS, seed=1, faults=FAULTS, poison=1, kinds=QUICK, pack_items=50, window=8,
        payload_keys=payload_keys and str(payload_keys),
    )  # fmt: skip
    async with asyncio.timeout(LIMIT):
        outcome = await suite.measure(reviews, what)
    assert outcome.verdict == Verdict()
    assert outcome.not_dead_lettered == set()
    assert outcome.dead_lettered_for_nothing == []
    assert outcome.left == 0
    assert outcome.processes == []
    assert outcome.gave_up == []
    assert [happened.fault for happened in outcome.happened] == list(FAULTS)


@pytest.mark.usefixtures("rabbitmq")
@pytest.mark.chaos
async def test_a_job_that_waits_outlives_two_restarts_of_the_broker(
    reviews: list[str], payload_keys: Path | None
) -> None:
    keys = payload_keys and str(payload_keys)
    async with asyncio.timeout(LIMIT):
        found = await waiting.measure(reviews, WAITING, pack_items=50, payload_keys=keys)
    assert found.verdict == Verdict()
    assert found.answered == WAITING
    assert found.waiting == found.chunks
    assert found.half >= found.chunks / 2
