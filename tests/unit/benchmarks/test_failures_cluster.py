"""The pure parts of what is done to a cluster, and how it is told."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.failures.cluster import FIRST, LAST, Found, Round, plan, report
from benchmarks.failures.comparison import Row
from benchmarks.failures.quorum import Role, leader_of

ROWS = [Row(str(number), "positive", "0.9", "") for number in range(4)]


@given(st.integers(), st.integers(1, 60))
def test_followers_and_leaders_are_killed_in_turn_at_moments_of_the_seed(
    seed: int, count: int
) -> None:
    planned = plan(seed, count)
    assert planned == plan(seed, count)
    assert len(planned) == count
    assert all(one.role is not other.role for one, other in itertools.pairwise(planned))
    assert all(FIRST <= kill.at <= LAST for kill in planned)


def test_the_leader_is_read_from_the_list_of_all_queues() -> None:
    listed = "lmaas.v1.dead\tr1@localhost\nlmaas.v1.work.m.short\tr3@localhost\nother\t\n"
    assert leader_of("lmaas.v1.work.m.short", listed) == 2
    with pytest.raises(KeyError):
        leader_of("lmaas.v1.work.m", listed)


def found(*rounds: Round) -> Found:
    return Found(texts=len(ROWS), seed=1, calm=Round(ROWS), rounds=list(rounds))


def test_rounds_like_the_calm_one_miss_nothing() -> None:
    told = report(
        found(
            Round(ROWS, pause=1.0, role=Role.FOLLOWER, in_sync=5.0),
            Round(ROWS, pause=2.0, role=Role.LEADER, in_sync=7.0),
        )
    )
    assert all(figure.met for figure in told.figures)
    values = {figure.name: figure.value for figure in told.figures}
    assert values["longest pause between two results, leader killed"] == 2.0
    assert values["killed node started: in sync again, median"] == 6.0


def test_what_is_missed_in_any_round_is_told() -> None:
    told = report(
        found(
            Round(ROWS[:3], pause=1.0, role=Role.FOLLOWER, gave_up="no answer"),
            Round([ROWS[0], *ROWS[:3]], pause=16.0, role=Role.LEADER),
        )
    )
    missed = {figure.name: figure.value for figure in told.figures if not figure.met}
    assert missed == {
        "texts lost": 2,
        "texts doubled": 1,
        "times that the client gave up": 1,
        "longest pause between two results, leader killed": 16.0,
    }
    assert ["no answer"] in [row for grid in told.tables for row in grid.rows]
