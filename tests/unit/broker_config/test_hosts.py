"""How long a client waits before it tries again."""

from __future__ import annotations

import pytest

from lmaas.broker_config import hosts
from lmaas.broker_config.hosts import Pauses


@pytest.fixture
def _no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts.random, "uniform", lambda _, most: most)


@pytest.mark.usefixtures("_no_jitter")
@pytest.mark.parametrize("growth", [hosts.GROWTH, hosts.GROWTH_AWAY])
def test_pauses_grow_from_the_first_to_the_last(growth: float) -> None:
    pauses = Pauses(growth)
    assert pauses.is_first
    found = [pauses.next() for _ in range(80)]
    assert not pauses.is_first
    assert found[0] == hosts.FIRST_PAUSE
    assert found == sorted(found)
    assert found[-1] == hosts.LAST_PAUSE


@pytest.mark.usefixtures("_no_jitter")
def test_nobody_comes_later_than_a_broker_by_much_more_than_a_twentieth_of_its_absence() -> None:
    pauses = Pauses(hosts.GROWTH_AWAY)
    away = 0.0
    for _ in range(80):
        pause = pauses.next()
        assert pause <= hosts.FIRST_PAUSE + away / 20 + 1e-9
        away += pause


def test_clients_do_not_try_in_step() -> None:
    ones = {Pauses().next() for _ in range(20)}
    assert len(ones) > 1
    assert all(hosts.FIRST_PAUSE / 2 <= one <= hosts.FIRST_PAUSE for one in ones)
