"""What a client makes of the clock that a worker shows."""

from __future__ import annotations

import logging
import math

import pytest

from lmaas.producer.clocks import Clocks

SENT, RECEIVED = 1_000_000.0, 1_000_000.5


@pytest.fixture
def clocks() -> Clocks:
    return Clocks(tolerance=5.0)


def hears(clocks: Clocks, ahead: float) -> None:
    clocks.heard(int((SENT + 0.25 + ahead) * 1000), SENT, RECEIVED, "host-1")


def seconds_to(clocks: Clocks, seconds: float = 10.0) -> float:
    """The deadline by the worker's clock, in seconds after our `SENT`."""
    deadline = clocks.deadline_ms(SENT, seconds)
    assert deadline is not None
    return deadline / 1000 - SENT


@pytest.mark.parametrize("ahead", [0.0, 4.9, -4.9])
def test_clocks_that_differ_within_the_tolerance_are_the_same(clocks: Clocks, ahead: float) -> None:
    hears(clocks, ahead)
    assert seconds_to(clocks) == 10


@pytest.mark.parametrize("ahead", [60.0, -60.0, 86_400.0, -900_000.0])
def test_deadlines_are_told_by_the_workers_clock(clocks: Clocks, ahead: float) -> None:
    hears(clocks, ahead)
    assert seconds_to(clocks) == pytest.approx(10 + ahead + 0.25)


def test_a_long_wait_in_the_queue_is_no_difference(clocks: Clocks) -> None:
    clocks.heard(int((SENT + 300) * 1000), SENT, SENT + 600, "host-1")
    assert seconds_to(clocks) == 10


def test_a_clock_that_was_set_right_is_believed_again(clocks: Clocks) -> None:
    hears(clocks, 60)
    hears(clocks, 0)
    assert seconds_to(clocks) == 10


@pytest.mark.parametrize("shown", [None, "now", -1, 0, 2**53, 1.5, True])
def test_what_is_no_clock_changes_nothing(clocks: Clocks, shown: object) -> None:
    clocks.heard(shown, SENT, RECEIVED, None)
    assert seconds_to(clocks) == 10


@pytest.mark.parametrize("seconds", [math.inf, 1e300, -1e300])
def test_a_limit_that_no_header_can_carry_is_none(clocks: Clocks, seconds: float) -> None:
    assert clocks.deadline_ms(SENT, seconds) is None


def test_a_difference_is_told_once_with_both_clocks(
    clocks: Clocks, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for ahead in (60, 60.1, -30, -30):
            hears(clocks, ahead)
    told = [record.message for record in caplog.records]
    assert len(told) == 2
    assert "about 60 s behind the clock of worker host-1" in told[0]
    assert "about 30 s ahead of the clock of worker host-1" in told[1]
