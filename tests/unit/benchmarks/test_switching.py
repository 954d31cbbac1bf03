"""What the switching benchmark sees in replies, and when it counts them."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import cast

import pytest

from benchmarks import switching
from benchmarks.switching import Answer, Callers, Switch
from lmaas.broker_config.errors import BrokerUnavailable
from lmaas.broker_config.messages import Item, ItemError, Reply, Request, Result
from lmaas.producer.client import Client
from lmaas.workers.repository import Repository
from lmaas.workers.runtime import Runtime


def reply(version: str, *labels: str | None) -> Reply:
    error = ItemError(code="internal", message="no")
    results = [
        Result(id=str(place), label=label, error=None if label else error)
        for place, label in enumerate(labels)
    ]
    return Reply(model=switching.MODEL, version=version, results=results)


@pytest.mark.parametrize(
    ("found", "mixed", "errors"),
    [
        (reply("1", "positive 1", "negative 1"), False, 0),
        (reply("1", "positive 1", "negative 2"), True, 0),
        (reply("1", "positive 2", "negative 2"), True, 0),
        (reply("2", "positive 2", None), False, 1),
        (
            Reply(model="m", results=[], error=ItemError(code="unknown_model", message="no")),
            False,
            1,
        ),
    ],
)
def test_labels_say_which_version_a_result_is_of(found: Reply, mixed: bool, errors: int) -> None:
    answer = switching._answer(0.0, found)
    assert (answer.mixed, answer.errors) == (mixed, errors)


def answer(asked: float, took: float, version: str = "1") -> Answer:
    return Answer(asked, asked + took, frozenset([version]), version, 0)


def test_packs_belong_to_the_phase_in_which_they_were_asked_for() -> None:
    switches = [Switch("2", 10.0, 0.1, 2.0), Switch("3", 20.0, 0.1, 3.0)]
    asked = [9.0, 10.0, 12.9, 13.1, 19.9, 20.0, 23.9, 24.1]
    phases = switching._phases([answer(at, 5.0) for at in asked], switches)
    assert {name: [one.asked for one in some] for name, some in phases.items()} == {
        "before": [9.0],
        "during": [10.0, 12.9, 20.0, 23.9],
        "after": [13.1, 19.9, 24.1],
    }


def test_the_report_misses_its_goals_by_what_was_seen() -> None:
    callers = Callers(cast(Client, None), [], failed=["no broker"])
    callers.answers = [answer(0.0, 0.01), answer(10.5, 0.03), answer(14.0, 0.01)]
    callers.answers.append(switching._answer(11.0, reply("1", "positive 1", "positive 2", None)))
    report = switching._report(callers, [Switch("2", 10.0, 0.1, 2.0)])
    missed = {one.name: one.value for one in report.figures if not one.met}
    assert missed.pop("p99 during / before") > 2
    assert missed == {"errors": 2, "packs of two versions, or of another than they name": 1}


class Service:
    """Answers by one version, then fails once, then answers by the next."""

    def __init__(self) -> None:
        self._replies = itertools.cycle(
            [reply("1", "positive 1"), BrokerUnavailable("away"), reply("2", "positive 2")]
        )

    async def run(self, _: Request) -> Reply:
        await asyncio.sleep(0)
        match next(self._replies):
            case Reply() as answered:
                return answered
            case error:
                raise error


async def test_callers_go_on_after_an_error_and_tell_of_a_versions_first_answer() -> None:
    pack = Request(model=switching.MODEL, items=[Item(id="0", text="a film")])
    callers = Callers(cast(Client, Service()), [pack])
    async with callers.calling():
        first = await callers.first_of("2")
    of_it = [one for one in callers.answers if "2" in one.versions]
    assert first == of_it[0].answered
    assert callers.failed[0] == "away"


async def test_a_version_that_never_answers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switching, "PATIENCE", 0.01)
    callers = Callers(cast(Client, Service()), [])
    with pytest.raises(Exception, match=r"version 9 did not answer within 0.01 s: nobody did"):
        await callers.first_of("9")


def test_each_version_that_is_made_is_complete_and_has_labels_of_its_own(tmp_path: Path) -> None:
    for version in ("1", "2"):
        switching._make(tmp_path / switching.MODEL / version, version)

    def labelled(version: str) -> tuple[str, float]:
        runtime = Runtime(Repository(tmp_path).find(switching.MODEL, version))
        label, score, _ = runtime.labelled([Item(id="0", text="a wonderful film")])[0]
        return label, score

    first, second = labelled("1"), labelled("2")
    assert (first[0], second[0]) == ("positive 1", "positive 2")
    assert first[1] == second[1]
