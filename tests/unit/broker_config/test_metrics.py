"""What is counted, and when nothing is."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest

from lmaas.broker_config.codes import Code
from lmaas.broker_config.messages import ItemError, Reply, Result
from lmaas.broker_config.metrics import counted, known, outcomes

BAD = Result(id="1", error=ItemError(code=Code.EMPTY_TEXT, message="the text is empty"))
FOREIGN = Result(id="2", error=ItemError(code="user-4711", message="theirs"))
GOOD = Result(id="0", label="positive", score=0.9)
REFUSED = ItemError(code=Code.MALFORMED, message="no request")


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(model="m", results=[GOOD, GOOD]), {"ok": 2}),
        (Reply(model="m", results=[BAD]), {"empty_text": 1}),
        (Reply(model="m", results=[GOOD, BAD, FOREIGN, BAD]), Counter(ok=1, empty_text=2, other=1)),
        (Reply(model="", results=[], error=REFUSED), {"malformed": 1}),
        (Reply(model="m", results=[BAD], error=REFUSED), {"empty_text": 1}),
        (Reply(model="m", results=[]), {}),
    ],
)  # fmt: skip
def test_items_are_counted_by_outcome(reply: Reply, expected: dict[str, int]) -> None:
    assert outcomes(reply) == expected


def test_only_our_codes_are_labels() -> None:
    assert {known(code) for code in Code} == set(map(str, Code))
    assert known("anything else") == "other"


def test_nothing_is_counted_before_the_library_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    call = counted(calls.append)
    monkeypatch.setitem(sys.modules, "prometheus_client", sys)
    call(1)
    monkeypatch.delitem(sys.modules, "prometheus_client")
    call(2)
    assert calls == [1]


def test_a_service_that_exposes_the_default_registry_has_our_names() -> None:
    code = (
        "import prometheus_client\n"
        "from broker_config import metrics\n"
        "from lmaas.broker_config.messages import *\n"
        "metrics.published(); metrics.confirmed(0.01); metrics.reconnected('client 1f publish')\n"
        "metrics.reconnected('job 4e results'); metrics.reconnected('job 5c results')\n"
        "metrics.answered(Reply(model='m', results=[Result(id='0', label='x', score=1.0)]))\n"
        "print(prometheus_client.generate_latest().decode())"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=180
    ).stdout
    for line in (
        "lmaas_published_packs_total 1.0",
        "lmaas_confirm_seconds_count 1.0",
        'lmaas_reconnects_total{link="publish"} 1.0',
        'lmaas_reconnects_total{link="results"} 2.0',
        'lmaas_answers_total{outcome="ok"} 1.0',
    ):
        assert line in told.splitlines()
