"""Calls that would wait too long are refused at once, and no others."""

from __future__ import annotations

import pytest

from lmaas.broker_config.errors import Busy
from lmaas.producer.gateway.congestion import FEW, UNKNOWN, Congestion, Waiting


class Clock:
    """Seconds that pass when they are told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Served:
    """Calls of one item, answered one after the other, `rate` a second."""

    def __init__(self, congestion: Congestion, clock: Clock) -> None:
        self.congestion = congestion
        self._clock = clock
        self.calls: list[Waiting] = []
        self.took: list[float] = []

    def come(self, count: int) -> int:
        """How many of so many are let in."""
        for accepted in range(count):
            try:
                self.calls.append(self.congestion.enter("m", 1))
            except Busy:
                return accepted
        return count

    def answer(self, rate: float) -> None:
        """The oldest one."""
        self._clock.now += 1 / rate
        call = self.calls.pop(0)
        self.took.append(self._clock.now - call.since)
        self.congestion.leave(call, answered=True)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def served(clock: Clock) -> Served:
    return Served(Congestion(2.0, clock), clock)


@pytest.mark.parametrize("rate", [20, 200, 2_000])
def test_ten_times_as_many_as_can_be_answered(served: Served, rate: int) -> None:
    """What is let in takes as long as it may, and the queue is never empty."""
    for _ in range(20 * rate):
        served.come(10)
        served.answer(rate)
    later = served.took[5 * rate :]
    assert min(later) > 1.5
    assert max(later) < 2.5


def test_as_many_as_can_be_answered_are_all_let_in(served: Served) -> None:
    for _ in range(1_000):
        assert served.come(100) == 100
        for _ in range(100):
            served.answer(1_000)


def test_a_few_are_let_in_however_long_they_take(served: Served) -> None:
    for _ in range(3):
        assert served.come(2 * FEW) in {FEW + 1, 2 * FEW}
        while served.calls:
            served.answer(0.01)


def test_before_the_first_answer_so_many_are_let_in(served: Served) -> None:
    assert served.come(2 * UNKNOWN) == UNKNOWN


def test_a_model_that_became_slow_and_one_that_became_fast(served: Served) -> None:
    for rate in (100, 20, 100):
        served.took.clear()
        for _ in range(40 * rate):
            served.come(10)
            served.answer(rate)
        later = served.took[30 * rate :]  # what was let in before is answered
        assert min(later) > 1.5
        assert max(later) < 2.5


def test_one_that_is_refused_says_when_to_come_again(served: Served) -> None:
    served.come(500)
    served.answer(10)
    with pytest.raises(Busy, match="busy_after") as refused:
        served.congestion.enter("m", 1)
    assert 1 <= refused.value.retry_after <= 60


def test_names_that_no_model_has_are_not_remembered() -> None:
    congestion = Congestion(2.0)
    for number in range(100):
        congestion.leave(congestion.enter(f"m{number}", 1), answered=False)
    assert not congestion._queues


def test_what_is_given_up_makes_room(served: Served, clock: Clock) -> None:
    served.come(100)
    served.answer(1)
    while served.calls:
        served.congestion.leave(served.calls.pop(), answered=False)
    assert served.come(FEW) == FEW


def test_a_large_call_does_not_wait_for_itself(clock: Clock) -> None:
    """It is let in however long it takes, and a small one behind it is not."""
    congestion = Congestion(2.0, clock)
    for _ in range(5):
        call = congestion.enter("m", 1_000)
        clock.now += 30
        congestion.leave(call, answered=True)
    congestion.enter("m", 1_000)
    with pytest.raises(Busy):
        congestion.enter("m", 1)
