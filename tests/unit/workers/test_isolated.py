"""The pure parts of the isolated process: what is run together, and one reply of many."""

from __future__ import annotations

from typing import Any

import pytest

from lmaas.broker_config.codes import Code
from lmaas.broker_config.messages import Item, ItemError, Reply, Request, Result
from lmaas.workers.isolated.child import _units
from lmaas.workers.isolated.process import _Ended, _joined
from lmaas.workers.isolated.tasks import Task, step_of

BAD = ItemError(code=Code.POISON, message="it ended the process")


def units(items: int, action: Any = "run", **changes: Any) -> list[list[int]]:
    return list(_units(Task(b"", None, None, None, action, **changes), items))


@pytest.mark.parametrize("items", [1, 2, 300])
def test_items_are_run_together_or_each_by_itself(items: int) -> None:
    places = list(range(items))
    assert units(items) == [places]
    assert units(items, singly=True) == [[place] for place in places]


def test_what_is_known_to_be_guilty_is_not_run() -> None:
    assert units(4, without=[1, 3]) == [[0, 2]]
    assert units(4, singly=True, without=[1]) == [[0], [2], [3]]
    assert units(1, without=[0]) == []
    assert units(300, "one", place=70) == [[70]]
    assert units(300, "read") == []


@pytest.mark.parametrize("place", [0, 1, 4_095])
def test_what_the_child_was_at_is_told_by_itsstep_of(place: int) -> None:
    assert _Ended(BAD, step_of([place])).item == place
    assert _Ended(BAD, step_of([place, place + 1])).item is None
    assert _Ended(BAD, 0).item is None


def test_parts_make_one_reply_in_the_order_of_the_items() -> None:
    request = Request(model="m", items=[Item(id=str(place), text="a") for place in range(4)])
    results = [Result(id=str(place), label="x") for place in range(4)]
    replies = [([0, 3], [results[0], results[3]]), ([1], [results[1]])]
    made = [(at, Reply(model="m", version="1", results=some)) for at, some in replies]
    reply = _joined(request, made, {2: BAD}, "w")
    assert reply.results == [results[0], results[1], Result(id="2", error=BAD), results[3]]
    assert (reply.version, reply.worker, reply.error) == ("1", "w", None)
    refused = _joined(request, [*made, ([], Reply(model="m", results=[], error=BAD))], {2: BAD}, "")
    assert refused.error == BAD
