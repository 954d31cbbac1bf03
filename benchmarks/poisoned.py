"""`lmaas worker`, in which some texts do harm: `python -m benchmarks.poisoned`.

The processes that `multiprocessing` spawns from here, and those that these spawn, import it again,
by another name, and put the harm into their Runtime, too. Who imports it by its own does not.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

from benchmarks.failures.poison import Poison, poison_of
from lmaas.broker_config.messages import Item
from lmaas.cli import worker
from lmaas.workers import execution, pack
from lmaas.workers.isolated import child
from lmaas.workers.pack import Pack
from lmaas.workers.preprocess import Encoded
from lmaas.workers.runtime import Runtime

#: A body with this ends whoever decodes it with all care.
DECODER_BUG: Final = "decoder-bug"


def harmful(plain: Callable[..., Encoded]) -> Callable[..., Encoded]:
    """`Runtime.encode` that the first poison among its texts does its harm to."""

    def encode(runtime: Runtime, items: Sequence[Item]) -> Encoded:
        for item in items:
            if poison := poison_of(item.text or ""):
                HARM[poison]()
        return plain(runtime, items)

    return encode


def _die(number: signal.Signals) -> NoReturn:
    os.kill(os.getpid(), number)
    while True:  # until it is delivered
        time.sleep(1)


def _refuse_memory() -> NoReturn:
    raise MemoryError("std::bad_alloc")


def _sleep() -> NoReturn:
    while True:
        time.sleep(1)


def _hold() -> NoReturn:
    # A call through PyDLL keeps the interpreter's lock, as a bug in an extension would.
    library = ctypes.PyDLL(None)
    while True:
        library.sleep(3600)


def _raise() -> NoReturn:
    raise ValueError("a bug that only this text meets")


HARM: dict[Poison, Callable[[], NoReturn]] = {
    Poison.SEGFAULT: lambda: _die(signal.SIGSEGV),
    Poison.OOM_KILL: lambda: _die(signal.SIGKILL),
    Poison.MEMORY_ERROR: _refuse_memory,
    Poison.SLEEP: _sleep,
    Poison.HOLD: _hold,
    Poison.EXCEPTION: _raise,
}


def deadly(plain: Callable[..., Pack]) -> Callable[..., Pack]:
    """`pack.read` that a body with DECODER_BUG ends the process of."""

    def read(body: bytes, *rest: Any) -> Pack:
        if DECODER_BUG.encode() in body:
            HARM[Poison.SEGFAULT]()
        return plain(body, *rest)

    return read


def harm() -> None:
    """From now on this process comes to harm."""
    Runtime.encode = harmful(Runtime.encode)  # type: ignore[method-assign]
    execution.read = child.read = deadly(pack.read)  # type: ignore[attr-defined]


if __name__ in {"__main__", "__mp_main__"}:
    harm()

if __name__ == "__main__":
    worker.command()
