"""Requests and replies without the items that have one of some ids. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import msgspec

from lmaas.broker_config.codes import Code
from lmaas.broker_config.messages import Item, ItemError, Reply, Request, Result

#: What stands in the place of a result that is gone: the others keep theirs.
_GONE: Final = Result(
    id="", error=ItemError(code=Code.PURGED, message="this item was removed (lmaas purge)")
)


def named(request: Request, ids: Collection[str]) -> int:
    """How many items have one of these ids."""
    return sum(item.id in ids for item in request.items)


def without_items(
    request: Request, faults: Mapping[int, ItemError], ids: Collection[str]
) -> Request:
    """The request with the other items; one with a fault has that in the place of its content."""
    items = [
        Item(id=item.id, error=faults[place]) if place in faults else item
        for place, item in enumerate(request.items)
        if item.id not in ids
    ]
    return msgspec.structs.replace(request, items=items)


def answered(reply: Reply, ids: Collection[str]) -> int:
    """How many results have one of these ids."""
    return sum(result.id in ids for result in reply.results)


def without_results(reply: Reply, ids: Collection[str]) -> Reply:
    """The reply with an error in the place of each of these results, and without their ids."""
    results = [_GONE if result.id in ids else result for result in reply.results]
    return msgspec.structs.replace(reply, results=results)
