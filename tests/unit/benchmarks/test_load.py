"""Loads: what is called when, and what counts."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from benchmarks import load, queueing
from benchmarks.load import Calls, Closed, Open, arrive, closed, opened

TEXTS = [f"text {place}" for place in range(5)]


@pytest.fixture(autouse=True)
def everything_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "WARM_UP", 0.0)


class Callers:
    """Counts texts, and how many calls there are at the same time; each is answered `after`."""

    def __init__(self, after: Callable[[], object]) -> None:
        self.texts: Counter[str] = Counter()
        self.at_once = self.most = 0
        self._after = after

    async def __call__(self, text: str) -> None:
        self.texts[text] += 1
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await asyncio.sleep(0)
        self._after()
        self.at_once -= 1


async def test_callers_in_a_loop_call_again_when_they_have_an_answer() -> None:
    callers = Callers(lambda: time.sleep(0.001))
    found = await closed(callers, TEXTS, 3, 0.5)
    assert callers.most == 3
    assert found.due.size == callers.texts.total() == round(found.rate * 0.5)
    assert set(callers.texts) == set(TEXTS)
    assert (found.took >= 0.001).all()


async def test_calls_by_chance_wait_for_none_and_count_from_their_moments() -> None:
    """The first call keeps its process busy, so that the others are made late."""
    ended: list[float] = []

    def hold_up() -> None:
        if not ended:
            time.sleep(0.2)
            ended.append(time.monotonic())

    callers = Callers(hold_up)
    found = await opened(callers, TEXTS, 500.0, 0.3, np.random.default_rng(1))
    assert found.due.size == callers.texts.total() > 100
    held_up = found.due < ended[0] - 0.1
    assert held_up.sum() > 1
    assert (found.took[held_up] >= 0.1).all()
    assert (found.took >= found.late).all()


async def test_what_arrives_is_begun_while_others_are_unanswered() -> None:
    answered = asyncio.Event()

    async def begin(place: int) -> int:
        if place == 2:
            answered.set()
        await answered.wait()
        return place

    now = time.monotonic()
    tasks = await arrive([now, now + 0.01, now + 0.02], begin)
    async with asyncio.timeout(60):
        assert await asyncio.gather(*tasks) == [0, 1, 2]


async def test_a_call_that_fails_is_no_figure() -> None:
    async def call(_: str) -> None:
        raise ValueError("no answer")

    with pytest.raises(ValueError, match="no answer"):
        await closed(call, TEXTS, 2, 0.1)
    with pytest.raises(ValueError, match="no answer"):
        await opened(call, TEXTS, 100.0, 0.1, np.random.default_rng(1))


@pytest.mark.parametrize("callers", [1, 4, 510])
def test_processes_share_a_load(callers: int) -> None:
    shares = [Closed(callers).share(number, 4).callers for number in range(4)]
    assert sum(shares) == callers
    assert max(shares) - min(shares) <= 1
    assert sum(Open(7.0).share(number, 4).rate for number in range(4)) == 7.0


def test_parts_of_a_load_together_are_as_many_calls_a_second() -> None:
    parts = [
        Calls(2.0, np.array([0.0, 1.0]), np.array([took, took]), np.zeros(2)) for took in (0.1, 0.3)
    ]
    both = Calls.together(parts)
    assert both.rate == 2.0
    assert both.percentile(50) == pytest.approx(0.2)


def test_arrivals_within_some_seconds_are_as_many_by_chance() -> None:
    rng = np.random.default_rng(3)
    came = [queueing.poisson_within(rng, 40.0, 5.0) for _ in range(2_000)]
    counts = np.array([one.size for one in came])
    # Four standard errors of the mean and of the variance, which are alike.
    assert counts.mean() == pytest.approx(200, abs=4 * np.sqrt(200 / 2_000))
    assert counts.var() == pytest.approx(200, rel=4 * np.sqrt(2 / 2_000))
    assert all((np.diff(one) >= 0).all() and one.min() >= 0 and one.max() < 5.0 for one in came)
