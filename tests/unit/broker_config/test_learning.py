"""Costs are learnt run by run: from nothing, through noise and nonsense, and never negative."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmaas.broker_config.learning import FLOOR, LearntCost, Size
from lmaas.broker_config.scheduling import GUESS, MOST, UNKNOWN, Cost

CALIBRATED = Cost(fixed=0.001, per_item=5e-5, per_byte=1e-7)
#: A small text model, two for which each item or each byte is most of it, and a large one.
KINDS = [
    CALIBRATED,
    Cost(fixed=1e-4, per_item=0.0, per_byte=35e-9),
    Cost(fixed=0.0, per_item=0.0, per_byte=1e-6),
    Cost(fixed=0.005, per_item=0.05, per_byte=1e-6),
]
_sizes = st.tuples(st.integers(0, 4096), st.integers(0, 2**27))
_runs = st.lists(
    st.tuples(st.lists(_sizes, min_size=1, max_size=8), st.floats(0, 1e9)), max_size=60
)


def exact(cost: Cost, packs: Sequence[Size]) -> float:
    return sum(cost.fixed + cost.per_item * n + cost.per_byte * size for n, size in packs)


def error(learnt: LearntCost, cost: Cost, pack: Size) -> float:
    """The ratio by which a pack's estimate is off, either way, less 1."""
    return math.exp(abs(math.log(learnt.cost.estimate(*pack) / exact(cost, [pack])))) - 1


def mixed(count: int, seed: int) -> list[Size]:
    """Single calls, and packs of up to 256 texts of 50 to 2,000 bytes."""
    chance = random.Random(seed)
    items = [chance.choice([1, 1, 2, 8, 30, 256]) for _ in range(count)]
    return [(n, n * int(50 + chance.lognormvariate(5.5, 0.8))) for n in items]


@pytest.mark.parametrize("cost", KINDS)
@pytest.mark.parametrize("start", [UNKNOWN, CALIBRATED])
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32))
def test_the_cost_of_any_kind_of_model_is_learnt(start: Cost, cost: Cost, seed: int) -> None:
    learnt = LearntCost(start)
    for pack in mixed(600, seed):
        learnt.observe([pack], exact(cost, [pack]))
    errors = sorted(error(learnt, cost, pack) for pack in mixed(100, seed + 1))
    assert errors[50] < 0.15
    assert errors[90] < 0.5


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32))
def test_a_guess_gives_way_to_the_first_runs(seed: int) -> None:
    """A model that is thousands of times as slow as was guessed takes seconds a run."""
    slow = KINDS[-1]
    learnt = LearntCost()
    for pack in mixed(30, seed):
        learnt.observe([pack], exact(slow, [pack]))
    errors = sorted(error(learnt, slow, pack) for pack in mixed(100, seed + 1))
    assert errors[50] < 2


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32))
def test_noise_is_averaged(seed: int) -> None:
    learnt, chance = LearntCost(), random.Random(seed)
    for pack in mixed(600, seed):
        learnt.observe([pack], exact(CALIBRATED, [pack]) * chance.lognormvariate(0, 0.3))
    assert max(error(learnt, CALIBRATED, pack) for pack in mixed(100, seed + 1)) < 0.6


@pytest.mark.parametrize("seconds", [0.0, 1e-6, 3600.0, 1e300])
@pytest.mark.parametrize("pack", [(1, 10), (1, 100_000), (256, 300_000)])
@pytest.mark.parametrize("runs", [0, 1, 600])
def test_one_absurd_measurement_changes_little(runs: int, pack: Size, seconds: float) -> None:
    learnt = LearntCost(CALIBRATED)
    for seen in mixed(runs, 1):
        learnt.observe([seen], exact(CALIBRATED, [seen]))
    before = [learnt.cost.estimate(*one) for one in mixed(100, 2)]
    learnt.observe([pack], seconds)
    after = [learnt.cost.estimate(*one) for one in mixed(100, 2)]
    ratios = [new / old for new, old in zip(after, before, strict=True)]
    assert 0.5 < min(ratios) <= max(ratios) < 2


@settings(deadline=None)
@given(st.sampled_from([UNKNOWN, *KINDS]), _runs)
def test_no_part_leaves_its_bounds_whatever_is_measured(
    start: Cost, runs: list[tuple[list[Size], float]]
) -> None:
    learnt = LearntCost(start)
    for packs, seconds in runs:
        learnt.observe(packs, seconds)
        assert FLOOR.fixed <= learnt.cost.fixed <= MOST
        assert FLOOR.per_item <= learnt.cost.per_item <= MOST
        assert FLOOR.per_byte <= learnt.cost.per_byte <= MOST


def test_what_was_absurd_for_long_is_forgotten() -> None:
    learnt = LearntCost(CALIBRATED)
    for seconds in (0.0, 1e6):
        for pack in mixed(1_000, 3):
            learnt.observe([pack], seconds)
    for pack in mixed(600, 4):
        learnt.observe([pack], exact(CALIBRATED, [pack]))
    assert sorted(error(learnt, CALIBRATED, pack) for pack in mixed(100, 5))[50] < 0.3


def test_a_slower_machine_is_slower_in_what_it_has_not_run_yet() -> None:
    learnt = LearntCost(CALIBRATED)
    for _ in range(50):
        learnt.observe([(1, 100)], 3 * exact(CALIBRATED, [(1, 100)]))
    assert error(learnt, CALIBRATED, (1, 100)) == pytest.approx(2, rel=0.1)
    assert learnt.cost.estimate(256, 300_000) > 1.5 * CALIBRATED.estimate(256, 300_000)


def test_packs_that_run_together_are_learnt_from_as_well() -> None:
    learnt = LearntCost()
    for first, second, third in zip(mixed(600, 6), mixed(600, 7), mixed(600, 8), strict=True):
        packs = [first, second, third]
        learnt.observe(packs, exact(CALIBRATED, packs))
    assert max(error(learnt, CALIBRATED, pack) for pack in mixed(100, 9)) < 0.3


def test_where_nothing_is_known_it_is_guessed() -> None:
    assert LearntCost().cost == LearntCost(UNKNOWN).cost == GUESS
