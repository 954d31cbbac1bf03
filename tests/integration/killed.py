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
from typing import Any, Final

from benchmarks import poisoned
from lmaas.broker_config.messages import Item, Result
from lmaas.cli import worker
from lmaas.workers.runtime import Runtime

WORD: Final = "zzkilledzz"


def mortal(plain: Callable[..., list[Result]]) -> Callable[..., list[Result]]:
    """`Runtime.answer` that is ended over the texts that say so."""

    def answer(runtime: Runtime, items: Sequence[Item], *rest: Any, **options: Any) -> list[Result]:
        for item in items:
            _, found, name = (item.text or "").partition(f"{WORD} ")
            if found and (left := Path(name).stat().st_size):
                os.truncate(name, left - 1)
                os.kill(os.getpid(), signal.SIGKILL)
                signal.pause()  # until it is delivered
        return plain(runtime, items, *rest, **options)

    return answer


assert poisoned  # its harm is there too
Runtime.answer = mortal(Runtime.answer)  # type: ignore[method-assign]

if __name__ == "__main__":
    worker.command()
