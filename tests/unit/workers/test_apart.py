"""The pure parts of running a pack apart: what is run together, and one reply of many."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest

from lmaas.broker_config.codes import Code
from lmaas.broker_config.messages import Item, ItemError, Reply, Request, Result
from lmaas.workers.apart import PART, _Ended, _joined, _step, _Task, _units

BAD = ItemError(code=Code.POISON, message="it ended the process")


def units(items: int, action: Any = "run", **changes: Any) -> list[list[int]]:
    return list(_units(_Task(b"", None, None, action, **changes), items))


@pytest.mark.parametrize("items", [1, 2, PART, PART + 1, 5 * PART - 1])
def test_every_item_is_run_once_whatever_is_suspect(items: int) -> None:
    places = list(range(items))
    assert list(chain.from_iterable(units(items))) == places
    assert all(len(unit) <= PART for unit in units(items))
    assert list(chain.from_iterable(units(items, suspects=[0, PART]))) == places
    assert list(chain.from_iterable(units(items, suspects=[0], without=[0]))) == places[1:]


def test_only_suspect_parts_are_run_item_by_item() -> None:
    found = units(3 * PART, suspects=[PART], without=[PART + 3])
    assert [len(unit) for unit in found] == [PART, *[1] * (PART - 1), PART]
    assert units(3 * PART, "one", place=70) == [[70]]
    assert units(3 * PART, "read") == []


@pytest.mark.parametrize("place", [0, 1, PART, 3 * PART + 5])
def test_what_the_child_was_at_is_told_by_its_step(place: int) -> None:
    one, several = _Ended(BAD, _step([place])), _Ended(BAD, _step([place, place + 1]))
    assert (one.item, several.item) == (place, None)
    assert several.part == place // PART * PART


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
