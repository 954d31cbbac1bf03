"""`lmaas worker`, which somebody else kills over a text: `python -m tests.integration.killed`.

A text `... zzkilledzz FILE` ends the process that runs it with SIGKILL while FILE has bytes, and
takes one of them each time. With `zzdecodedzz` it is the process that decodes it, in the isolated
process. To the worker that is what the kernel or an operator does to a process that happens to be
at that text.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from benchmarks import poisoned
from lmaas.broker_config.messages import Item
from lmaas.broker_config.seals import Opening
from lmaas.broker_config.settings import Settings
from lmaas.cli import worker
from lmaas.workers.isolated import child
from lmaas.workers.pack import Pack
from lmaas.workers.preprocess import Encoded
from lmaas.workers.runtime import Runtime

WORD: Final = "zzkilledzz"
DECODED: Final = "zzdecodedzz"


def spend(name: str) -> None:
    """End this process, if the file has a byte left."""
    if left := Path(name).stat().st_size:
        os.truncate(name, left - 1)
        os.kill(os.getpid(), signal.SIGKILL)
        signal.pause()  # until it is delivered


def mortal(plain: Callable[..., Encoded]) -> Callable[..., Encoded]:
    """`Runtime.encode` that is ended over the texts that say so."""

    def encode(runtime: Runtime, items: Sequence[Item]) -> Encoded:
        for item in items:
            _, found, name = (item.text or "").partition(f"{WORD} ")
            if found:
                spend(name.partition(" ")[0])
        return plain(runtime, items)

    return encode


def mortal_read(plain: Callable[..., Pack]) -> Callable[..., Pack]:
    """`read` of the isolated process that is ended over the bodies that say so, sealed or not."""

    def read(
        body: bytes,
        content_type: str | None,
        settings: Settings,
        model: str,
        opening: Opening | None,
    ) -> Pack:
        content = opening(body) if opening else body
        if found := re.search(rb"%b (\S+?\.bytes)" % DECODED.encode(), content):
            spend(found[1].decode())
        return plain(body, content_type, settings, model, opening)

    return read


if __name__ in {"__main__", "__mp_main__"}:
    poisoned.harm()
    Runtime.encode = mortal(Runtime.encode)  # type: ignore[method-assign]
    child.read = mortal_read(child.read)  # type: ignore[attr-defined]

if __name__ == "__main__":
    worker.command()
