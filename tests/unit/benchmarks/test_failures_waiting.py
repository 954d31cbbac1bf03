"""The pure parts of the job that waits: its texts, its rows, its report."""

from __future__ import annotations

import pytest

from benchmarks.failures.comparison import Row, Verdict, row_of
from benchmarks.failures.job import numbered
from benchmarks.failures.waiting import Found, report
from lmaas.broker_config.messages import ItemError, Result


def test_every_text_of_a_job_is_another_one() -> None:
    assert list(numbered(["good", "bad"], 3)) == ["0 good", "1 bad", "2 good"]


@pytest.mark.parametrize(
    ("result", "row"),
    [
        (Result(id="7", label="positive", score=0.0), Row("7", "positive", "0.0", "")),
        (
            Result(id="8", error=ItemError(code="poison", message="it ended")),
            Row("8", "", "", "poison: it ended"),
        ),
    ],
)
def test_a_result_is_a_row_as_it_would_be_written(result: Result, row: Row) -> None:
    assert row_of(result) == row


@pytest.mark.parametrize(
    ("verdict", "consuming", "missed"),
    [
        (Verdict(), 5.0, []),
        (Verdict(lost=1), 5.0, ["items lost"]),
        (Verdict(doubled=1, wrong=1), 5.0, ["items doubled", "items wrong"]),
        (Verdict(), 5.1, ["broker back from it: all workers consuming"]),
    ],
)
def test_what_is_missed_is_told(verdict: Verdict, consuming: float, missed: list[str]) -> None:
    found = Found(items=10, chunks=2, consuming=consuming, verdict=verdict)
    assert [figure.name for figure in report(found).figures if not figure.met] == missed
