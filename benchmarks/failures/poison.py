"""Items that harm whoever runs them: by what word, and what has to become of them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from random import Random
from typing import Final

from lmaas.broker_config.codes import Code


class Poison(StrEnum):
    """What an item does, by the word in its text that makes it do so."""

    #: The process ends with a segmentation fault.
    SEGFAULT = "zzsegfaultzz"
    #: The process takes too much memory, and the kernel ends it.
    OOM_KILL = "zzoomkillzz"
    #: Python refuses the memory, each time.
    MEMORY_ERROR = "zzmemoryerrorzz"
    #: It runs for ever, and lets other threads run.
    SLEEP = "zzsleepzz"
    #: It runs for ever, and holds the interpreter's lock.
    HOLD = "zzholdzz"
    #: A plain bug.
    EXCEPTION = "zzexceptionzz"

    @property
    def code(self) -> Code:
        """The error that its row has in the end."""
        return _CODES[self]


_CODES: Final = {
    Poison.SEGFAULT: Code.POISON,
    Poison.OOM_KILL: Code.POISON,
    Poison.MEMORY_ERROR: Code.OUT_OF_MEMORY,
    Poison.SLEEP: Code.TIME_LIMIT,
    Poison.HOLD: Code.TIME_LIMIT,
    Poison.EXCEPTION: Code.INTERNAL,
}


def poison_of(text: str) -> Poison | None:
    """What a text does to whoever runs it."""
    return next((poison for poison in Poison if poison in text), None) if "zz" in text else None


def rows(seed: int, kinds: Sequence[Poison], each: int, items: int) -> dict[int, Poison]:
    """Where the poison is: `each` rows of every kind among so many, at random."""
    wanted = [poison for poison in kinds for _ in range(each)]
    return dict(zip(Random(seed).sample(range(items), len(wanted)), wanted, strict=True))
