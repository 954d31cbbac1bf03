"""`lmaas worker`, which somebody else kills over a text: `python -m tests.integration.killed`.

A text `... zzkilledzz FILE` ends the process that runs it with SIGKILL while FILE has bytes, and
takes one of them each time. To the worker that is what the kernel or an operator does to a process
that happens to be at that text.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from benchmarks import poisoned
from lmaas.broker_config.messages import Item
from lmaas.cli import worker
from lmaas.workers.preprocess import Encoded
from lmaas.workers.runtime import Runtime

WORD: Final = "zzkilledzz"


def mortal(plain: Callable[..., Encoded]) -> Callable[..., Encoded]:
    """`Runtime.encode` that is ended over the texts that say so."""

    def encode(runtime: Runtime, items: Sequence[Item]) -> Encoded:
        for item in items:
            _, found, name = (item.text or "").partition(f"{WORD} ")
            if found and (left := Path(name).stat().st_size):
                os.truncate(name, left - 1)
                os.kill(os.getpid(), signal.SIGKILL)
                signal.pause()  # until it is delivered
        return plain(runtime, items)

    return encode


assert poisoned  # its harm is there too
Runtime.encode = mortal(Runtime.encode)  # type: ignore[method-assign]

if __name__ == "__main__":
    worker.command()
