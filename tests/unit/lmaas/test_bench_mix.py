"""Packs of all sizes, and when they leave."""

from __future__ import annotations

import pytest

from lmaas.bench.mix import FEWEST, LOAD, MOST_TEXT, SIZES, departures, packs, seconds_of, shares
from lmaas.broker_config.settings import Settings


def test_packs_have_their_sizes_and_other_texts_in_turn() -> None:
    made = packs("m", ["a", "b", "c"], Settings())
    assert tuple(made) == SIZES
    for size, variants in made.items():
        assert {len(request.items) for request in variants} == {size}
    assert {request.items[0].text for request in made[1]} == {"a", "b", "c"}


def test_what_could_not_be_sent_is_not_made() -> None:
    assert tuple(packs("m", ["a"], Settings(max_pack_items=100))) == (1, 16, 64)
    assert tuple(packs("m", ["a" * (MOST_TEXT // 100)], Settings())) == (1, 16, 64)
    assert tuple(packs("m", ["a" * 2 * MOST_TEXT], Settings())) == (1,)


@pytest.mark.parametrize("rate", [1e3, 1e4, 1e5])
def test_every_size_has_an_equal_part_of_half_of_the_work(rate: float) -> None:
    seconds = 100.0
    numbers = shares(SIZES, rate, seconds)
    work = {size: number * seconds_of(size, rate) for size, number in numbers.items()}
    assert sum(work.values()) == pytest.approx(LOAD * seconds, rel=0.05)
    assert max(work.values()) == pytest.approx(min(work.values()), rel=0.2)


def test_sizes_of_which_too_few_would_leave_take_no_part() -> None:
    assert tuple(shares(SIZES, 1e5, 100)) == SIZES
    assert tuple(shares(SIZES, 2e4, 4)) == (1, 16, 64, 256, 1024)
    assert tuple(shares(SIZES, 50, 4)) == (1,)
    assert min(shares(SIZES, 2e4, 4).values()) >= FEWEST


def test_of_the_slowest_model_one_pack_leaves() -> None:
    assert shares(SIZES, 0.1, 1.0) == {1: 1}


def test_departures_are_in_order_and_the_same_every_time() -> None:
    numbers = {1: 100, 64: 10}
    leaving = departures(numbers, 4.0)
    assert leaving == sorted(leaving) == departures(numbers, 4.0)
    assert leaving[0][0] >= 0
    assert leaving[-1][0] < 4
    assert [size for _, size in leaving].count(64) == 10
    assert len(leaving) == 110
