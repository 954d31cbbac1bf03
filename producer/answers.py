"""The answers to a job's chunks, in whatever order, and however often, they come. Pure.

The first answer of an item stands, with one exception: an error gives way to the answer of a
replay, and the error of a replay to that of a later one. So the end does not depend on doubles.

Of a chunk that was refused as a whole (its body was damaged, or its answer too large to be sent)
the ids are not known: each of its items has the error, and the id "" until a replay answers.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from lmaas.broker_config.codes import Code
from lmaas.broker_config.messages import Reply, Result

#: Of the id of an item of which nothing is known.
_UNKNOWN = hash("")


@dataclass(frozen=True, slots=True)
class Chunk:
    """The results of one chunk, which is the `number`-th of its job, from 0."""

    number: int
    reply: Reply
    #: Whether the results are those of a replay, only of items that have failed before, and take
    #: the places of these (see `merged`).
    amends: bool = False


class Answers:
    """What has come of a job; what it hands on is each chunk once, and then its amendments."""

    def __init__(self) -> None:
        #: Chunks that were answered, and how many items they have.
        self._seen: set[int] = set()
        self._items = 0
        #: Chunks and items of the whole job, once that is known.
        self._seal: tuple[int | None, int | None] | None = None
        self._failures = _Failures()
        #: Answers of replays that came before the first answer of their chunk.
        self._early: dict[int, list[tuple[int, Reply]]] = {}

    @property
    def is_complete(self) -> bool:
        """Whether every chunk has been answered."""
        return self._seal is not None and len(self._seen) == self._seal[0]

    @property
    def count(self) -> int:
        """Chunks that have been answered."""
        return len(self._seen)

    def knows(self, number: int, replays: int) -> bool:
        """Whether an answer is one more of the same: of a chunk that was run twice."""
        return not replays and number in self._seen

    def seal(self, chunks: int | None, items: int | None) -> list[Chunk]:
        """How much there is in all; the chunks that are complete with this."""
        self._seal = chunks, items
        return self._replays_alone()

    def add(self, number: int, replays: int, reply: Reply) -> list[Chunk]:
        """An answer from the `replays`-th replay, 0 for none; what can be handed on with it."""
        if self.knows(number, replays):
            return []
        if number in self._seen:
            return self._amended(number, replays, reply)
        if replays:
            self._early.setdefault(number, []).append((replays, reply))
            return self._replays_alone()
        return [*self._first(number, reply), *self._replays_alone()]

    def _first(self, number: int, reply: Reply) -> list[Chunk]:
        self._seen.add(number)
        self._items += len(reply.results)
        self._failures.add(number, reply.results)
        early = self._early.pop(number, [])
        amendments = [self._amended(number, replays, again) for replays, again in early]
        return [Chunk(number, reply), *(chunk for chunks in amendments for chunk in chunks)]

    def _amended(self, number: int, replays: int, reply: Reply) -> list[Chunk]:
        results = self._failures.amended(number, replays, reply.results)
        if not results:
            return []
        return [Chunk(number, msgspec.structs.replace(reply, results=results), amends=True)]

    def _replays_alone(self) -> list[Chunk]:
        """The chunks left, when the answers of their replays are all that there will be.

        A pack that the broker dead-lettered was not answered before. That it is not one that a
        worker dead-lettered, with the failed items only, is seen from the number of the job's
        items.
        """
        early = self._early
        if self._seal is None or not early:
            return []
        items = sum(len(replies[0][1].results) for replies in early.values())
        if (len(self._seen) + len(early), self._items + items) != self._seal:
            return []
        firsts = [(number, early[number].pop(0)[1]) for number in sorted(early)]
        return [chunk for number, reply in firsts for chunk in self._first(number, reply)]


class _Failures:
    """The items whose answer so far is an error, in 8 bytes each: it may be every one of a job."""

    def __init__(self) -> None:
        #: Chunk -> hashes of the ids, one for each item that failed.
        self._failed: dict[int, array[int]] = {}
        #: The replay that an error is from; 0 for all others.
        self._replays: dict[tuple[int, int], int] = {}
        #: Chunks with items whose ids are not known.
        self._unread: set[int] = set()

    def add(self, chunk: int, results: Sequence[Result]) -> None:
        """Note the first answers of a chunk."""
        failed = array("q", (hash(result.id) for result in results if result.error is not None))
        if failed:
            self._failed[chunk] = failed
            if all(map(_is_unread, results)):
                self._unread.add(chunk)

    def amended(self, chunk: int, replays: int, results: Iterable[Result]) -> list[Result]:
        """Those answers of a replay that take the place of an error."""
        failed = self._failed.get(chunk)
        if not failed:
            return []
        return [result for result in results if self._gives_way(failed, chunk, replays, result)]

    def _gives_way(self, failed: array[int], chunk: int, replays: int, result: Result) -> bool:
        item = hash(result.id)
        if item not in failed:
            if chunk not in self._unread or _UNKNOWN not in failed:
                return False
            failed[failed.index(_UNKNOWN)] = item
        if result.error is None:
            failed.remove(item)
            return True
        if self._replays.get((chunk, item), 0) >= replays:
            return False
        self._replays[chunk, item] = replays
        return True


def for_each(reply: Reply, items: int) -> Reply:
    """The answer to a chunk of so many items, each of which has the error of one that was refused
    as a whole."""
    if reply.error is None or reply.results:
        return reply
    return msgspec.structs.replace(reply, results=[Result(id="", error=reply.error)] * items)


def _is_unread(result: Result) -> bool:
    """Whether a result is that of an item of which nothing is known; one that was purged is not."""
    error = result.error
    return not result.id and error is not None and error.code != Code.PURGED


def merged(results: list[Result], amendments: Iterable[Result]) -> list[Result]:
    """The results of a chunk with its amendments in the places of the errors, in their order; what
    has no such place takes that of an item whose id was not known."""
    merged = list(results)
    places: dict[str, list[int]] = {}
    for place in reversed(range(len(results))):
        if results[place].error is not None:
            places.setdefault(results[place].id, []).append(place)
    unread = places.get("", []) if all(map(_is_unread, results)) else []
    for amendment in amendments:
        if found := places.get(amendment.id) or unread:
            place = found.pop()
            merged[place] = amendment
            if amendment.error is not None and found is unread:  # a later replay's may come
                places.setdefault(amendment.id, []).append(place)
    return merged
