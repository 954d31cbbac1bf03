"""What a worker and its isolated process tell each other: tasks, their outcomes, and progress."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from multiprocessing.sharedctypes import RawValue
from typing import Final, Literal

import msgspec

from lmaas.broker_config.messages import ItemError, Reply, Request
from lmaas.broker_config.seals import Seal

#: What the child is at: the decoding, several items together, or one, by its place after these.
READING: Final = 0
TOGETHER: Final = 1
ITEMS: Final = 2


def step_of(places: Sequence[int]) -> int:
    """The number of a run of these items."""
    return TOGETHER if len(places) > 1 else ITEMS + places[0]


class Task(msgspec.Struct):
    """A body for the child to decode, and what to do then."""

    body: bytes
    content_type: str | None
    #: Whose lane it came by.
    model: str | None
    #: What answers if the request names no version.
    version: str | None
    #: Only decode; run the items; or just the one at `place`.
    action: Literal["read", "run", "one"]
    place: int = 0
    #: Whether items are run one by one, and which are not run.
    singly: bool = False
    without: list[int] = []
    #: Of the body; None when that is read as it is.
    seal: Seal | None = None


class Outcome(msgspec.Struct):
    """What came of a task: the pack, and its replies, each with the places of its items."""

    request: Request | None
    faults: dict[int, ItemError]
    error: ItemError | None
    replies: list[tuple[list[int], Reply]] = []


outcomes: Final = msgspec.msgpack.Decoder(Outcome)
tasks: Final = msgspec.msgpack.Decoder(Task)


class Progress:
    """What the child is at, and since when: in one word, so that both belong together."""

    _BITS: Final = 40  # of the milliseconds; the others have the step

    def __init__(self) -> None:
        self._shared = RawValue(ctypes.c_uint64)

    def begin(self, step: int) -> None:
        self._shared.value = step << self._BITS | self._clock()

    def now(self) -> tuple[int, float]:
        """The step, and for how many seconds the child has been at it."""
        value = self._shared.value
        began = value & ((1 << self._BITS) - 1)
        return value >> self._BITS, (self._clock() - began) / 1000

    @staticmethod
    def _clock() -> int:
        """Milliseconds of a clock that all processes share."""
        return int(time.monotonic() * 1000)
