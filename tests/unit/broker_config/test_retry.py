"""Retried later or given up: the whole table."""

from __future__ import annotations

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmaas.broker_config.codes import MEANINGS, Code
from lmaas.broker_config.retry import MAX_AGE, MAX_ATTEMPTS_UNCLAIMED
from lmaas.broker_config.retry import delay as delay_among
from lmaas.broker_config.topology import RETRY_DELAYS, delay_ms

delay = functools.partial(delay_among, delays=RETRY_DELAYS)
TRANSIENT = {code for code in Code if MEANINGS[code].transient}


@pytest.mark.parametrize("code", sorted(set(Code) - TRANSIENT))
def test_what_would_fail_again_is_given_up(code: Code) -> None:
    assert delay(code, 1, most=5, age=0, roll=0) is None


@pytest.mark.parametrize(
    ("attempt", "roll", "chosen"),
    [
        (1, 0.0, "1s"),
        (1, 0.5, "5s"),
        (2, 0.0, "5s"),
        (2, 0.5, "30s"),
        (3, 0.49, "30s"),
        (3, 0.99, "5m"),
        (4, 0.0, "5m"),
        (4, 0.5, "5m"),
        (0, 0.0, "1s"),
        (5, 0.0, None),
        (2**31, 0.9, None),
    ],
)
def test_each_try_waits_longer(attempt: int, roll: float, chosen: str | None) -> None:
    assert delay(Code.OUT_OF_MEMORY, attempt, most=5, age=0, roll=roll) == chosen


@pytest.mark.parametrize("attempt", [1, 2, 3])
@pytest.mark.parametrize("roll", [0.0, 0.99])
def test_one_delay_is_for_every_try(attempt: int, roll: float) -> None:
    chosen = delay_among(Code.UNAVAILABLE, attempt, delays=["2m"], most=5, age=0, roll=roll)
    assert chosen == "2m"


@pytest.mark.parametrize(
    ("name", "milliseconds"), [("1ms", 1), ("500ms", 500), ("30s", 30_000), ("9999m", 599_940_000)]
)
def test_a_delay_says_its_time(name: str, milliseconds: int) -> None:
    assert delay_ms(name) == milliseconds


def test_an_answer_that_nobody_takes_is_offered_twice() -> None:
    assert MAX_ATTEMPTS_UNCLAIMED == 2
    assert delay(Code.RESULTS_GONE, 1, most=5, age=0, roll=0) == "1s"
    assert delay(Code.RESULTS_GONE, 2, most=5, age=0, roll=0) is None
    assert delay(Code.RESULTS_GONE, 1, most=1, age=0, roll=0) is None


def test_what_is_old_or_would_be_late_is_given_up() -> None:
    assert delay(Code.UNAVAILABLE, 1, most=5, age=MAX_AGE, roll=0) is None
    assert delay(Code.UNAVAILABLE, 1, most=5, age=0, left=1.0, roll=0) is None
    assert delay(Code.UNAVAILABLE, 1, most=5, age=0, left=1.1, roll=0) == "1s"
    assert delay(Code.UNAVAILABLE, 1, most=5, age=0, left=-5, roll=0) is None


@given(
    st.sampled_from(sorted(Code)),
    st.integers(0, 2**31 - 1),
    st.floats(0, 1e9),
    st.none() | st.floats(-1e9, 1e9),
    st.floats(0, 1, exclude_max=True),
)
def test_whoever_wrote_the_headers(
    code: Code, attempt: int, age: float, left: float | None, roll: float
) -> None:
    chosen = delay(code, attempt, most=5, age=age, left=left, roll=roll)
    if chosen is not None:
        assert code in TRANSIENT
        assert attempt < 5
        assert age < MAX_AGE
        assert left is None or left > delay_ms(chosen) / 1000
        assert RETRY_DELAYS.index(chosen) in {max(attempt - 1, 0), attempt, len(RETRY_DELAYS) - 1}
