"""A worker with a pace."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import paced
from lmaas.broker_config.messages import Item
from lmaas.workers.batcher import Batch
from lmaas.workers.heads import Scores
from lmaas.workers.preprocess import Encoded
from lmaas.workers.repository import Repository
from lmaas.workers.runtime import Runtime


@pytest.mark.parametrize(
    ("pace", "seconds"),
    [({"a_text": 0.5}, 1.0), ({"a_byte": 0.3}, 1.5), ({"a_batch": 2.0}, 2.0), ({}, 0.4)],
)
def test_a_batch_is_held_back(
    monkeypatch: pytest.MonkeyPatch, pace: dict[str, float], seconds: float
) -> None:
    now = 0.0

    def sleep(more: float) -> None:
        nonlocal now
        now += more

    version = Repository(Path(__file__).parents[3] / "models").find("sentiment")
    plain, items = Runtime(version), [Item(id="a", text="x"), Item(id="b", text="four")]
    model = paced.Paced(version)
    for name, value in pace.items():
        monkeypatch.setattr(model, name, value)
    expected = plain.scores(items)
    run = Runtime.run

    def slow(runtime: Runtime, encoded: Encoded, batch: Batch) -> Scores:
        sleep(0.4)  # it has a pace of its own
        return run(runtime, encoded, batch)

    monkeypatch.setattr(Runtime, "run", slow)
    monkeypatch.setattr(paced.time, "monotonic", lambda: now)
    monkeypatch.setattr(paced.time, "sleep", sleep)
    assert np.array_equal(model.scores(items), expected)
    assert now == pytest.approx(seconds)
