"""When chunks count as lost."""

from __future__ import annotations

import re

import msgspec
import pytest

from lmaas.producer.journal import JobEntry
from lmaas.producer.lost import Waiting, loss

ENTRY = JobEntry(job="j", state="submitted", model="m", queue="q", chunks=5, items=9)
NOBODY, IDLE = Waiting(packs=0, workers=0), Waiting(packs=0, workers=2)


@pytest.mark.parametrize(
    ("answered", "waiting", "quiet", "words"),
    [
        (3, NOBODY, 0.0, "job j: 2 of 5 chunks .* no worker takes packs of model 'm'"),
        (0, IDLE, 61.0, "job j: 5 of 5 chunks .* nothing has come for 61 s"),
    ],
)
def test_chunks_that_are_nowhere_are_told(
    answered: int, waiting: Waiting, quiet: float, words: str
) -> None:
    found = loss(ENTRY, answered, waiting, quiet, patience=60)
    assert found
    assert re.search(words, found)


@pytest.mark.parametrize(
    ("answered", "waiting", "quiet"),
    [
        (5, NOBODY, 99.0),  # all came
        (3, Waiting(packs=1, workers=0), 99.0),  # it waits
        (3, IDLE, 59.0),  # it may be run
    ],
)
def test_others_are_not(answered: int, waiting: Waiting, quiet: float) -> None:
    assert loss(ENTRY, answered, waiting, quiet, patience=60) is None


@pytest.mark.parametrize("state", ["submitting", "cancelled", "collected"])
def test_of_a_job_that_is_not_complete_nobody_knows(state: str) -> None:
    entry = msgspec.structs.replace(ENTRY, state=state)
    assert loss(entry, 0, NOBODY, 99.0, patience=60) is None
