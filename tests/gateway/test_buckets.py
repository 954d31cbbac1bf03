"""The token bucket, by a clock that the test turns."""

from __future__ import annotations

import pytest

from lmaas.producer.gateway.buckets import Bucket


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_as_many_as_come_in_a_second_and_then_as_they_come() -> None:
    clock = Clock()
    bucket = Bucket(4.0, clock)
    assert [bucket.take() for _ in range(4)] == [0.0] * 4
    assert bucket.take() == pytest.approx(0.25)
    clock.now += 0.25
    assert bucket.take() == 0.0
    assert bucket.take() == pytest.approx(0.25)
    clock.now += 60.0
    assert bucket.level == 4.0


def test_less_than_one_a_second() -> None:
    clock = Clock()
    bucket = Bucket(0.1, clock)
    assert bucket.take() == 0.0
    assert bucket.take() == pytest.approx(10.0)
    clock.now += 9.0
    assert bucket.take() == pytest.approx(1.0)
    clock.now += 1.0
    assert bucket.take() == 0.0


def test_what_is_larger_than_the_bucket_is_paid_for_by_those_who_follow() -> None:
    clock = Clock()
    bucket = Bucket(10.0, clock)
    assert bucket.take(50) == 0.0
    assert bucket.level == -40.0
    assert bucket.take(50) == pytest.approx(5.0)
    assert bucket.take(1) == pytest.approx(4.1)
    clock.now += 4.1
    assert bucket.take(1) == 0.0
