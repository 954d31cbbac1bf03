"""What is said once, and then at a slow pace."""

from __future__ import annotations

from lmaas.broker_config.repeats import PACE, Repeats


def test_once_then_when_it_changes_and_at_a_slow_pace() -> None:
    now = 0.0
    repeats = Repeats(lambda: now)
    assert [repeats.is_due(words) for words in ("a", "a", "b", "a", "b")] == [
        True, False, True, False, False
    ]  # fmt: skip
    now = PACE - 1
    assert not repeats.is_due("a")
    now = PACE
    assert repeats.is_due("a")
    assert not repeats.is_due("a")
