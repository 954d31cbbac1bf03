"""A worker with a pace."""

import pytest

from benchmarks import paced
from lmaas.broker_config.messages import Item
from lmaas.workers.runtime import Runtime


def test_answer_is_held_back(monkeypatch):
    now = 0.0

    def sleep(seconds):
        nonlocal now
        now += seconds

    def plain(runtime, items, faults, *, top_k=0):
        sleep(0.4)
        return [item.id for item in items]

    monkeypatch.setattr(Runtime, "answer", plain)
    monkeypatch.setattr(paced.time, "monotonic", lambda: now)
    monkeypatch.setattr(paced.time, "sleep", sleep)
    items = [Item(id="a", text="x"), Item(id="b", text="y")]
    assert paced.held_back(0.5, 0.0)(None, items, {}, top_k=1) == ["a", "b"]
    assert now == pytest.approx(1.0)
    paced.held_back(0.1, 0.0)(None, items, {})
    assert now == pytest.approx(1.4)  # it took longer by itself
    paced.held_back(0.0, 0.3)(None, [Item(id="c", text="four")], {})
    assert now == pytest.approx(2.6)
