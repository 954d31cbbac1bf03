"""What remains of a job, as its packs are published."""

from __future__ import annotations

from itertools import pairwise

import pytest

from lmaas.broker_config.messages import Item
from lmaas.broker_config.scheduling import GUESS
from lmaas.producer.remaining import Ahead, Remaining

SECONDS = GUESS.estimate


def pack(items: int) -> list[Item]:
    return [Item(id=str(number), text="x" * 1_000) for number in range(items)]


def test_of_a_known_number_of_items_less_and_less_remains() -> None:
    remaining = Remaining(SECONDS, 50)
    ranks = [remaining.next(pack(10)) for _ in range(5)]
    one = SECONDS(10, 10_000)
    assert ranks == pytest.approx([5 * one, 4 * one, 3 * one, 2 * one, one])


def test_published_at_once_all_of_a_job_is_in_one_place() -> None:
    remaining = Remaining(SECONDS, 50, at_once=True)
    ranks = [remaining.next(pack(10)) for _ in range(5)]
    assert ranks == pytest.approx([5 * SECONDS(10, 10_000)] * 5)


def test_of_an_unknown_number_what_it_had_so_far_stands_for_it() -> None:
    remaining = Remaining(SECONDS, None)
    ranks = [remaining.next(pack(10)) for _ in range(5)]
    assert all(earlier < later for earlier, later in pairwise(ranks))
    assert ranks[0] == pytest.approx(SECONDS(10, 10_000))


def test_more_items_than_were_promised_count_for_themselves() -> None:
    remaining = Remaining(SECONDS, 5)
    remaining.next(pack(5))
    assert remaining.next(pack(5)) == pytest.approx(SECONDS(5, 5_000))


def test_those_that_are_not_longer_are_ahead() -> None:
    ahead = Ahead([30, 10, 20, 10])
    assert [ahead(items) for items in (9, 10, 19, 20, 29, 30, 99)] == [0, 20, 20, 40, 40, 70, 70]
    assert Ahead([])(5) == 0


def test_what_is_ahead_counts_as_if_it_were_of_the_same_job() -> None:
    one = SECONDS(10, 10_000)
    known = Remaining(SECONDS, 20, at_once=True, ahead=Ahead([20, 10, 1000]))
    assert [known.next(pack(10)) for _ in range(2)] == pytest.approx([5 * one] * 2)
    unknown = Remaining(SECONDS, None, at_once=True, ahead=Ahead([20, 10, 1000]))
    assert [unknown.next(pack(10)) for _ in range(2)] == pytest.approx([2 * one, 5 * one])
