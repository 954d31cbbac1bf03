"""A worker with a pace: the real one, whose inference thread sleeps after a run until its time is
over. Service times are then what was asked for, and not what other processes leave of the cores.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any
from unittest import mock

import click

from benchmarks import rig
from lmaas.broker_config.messages import Item, Result
from lmaas.broker_config.settings import Settings
from lmaas.cli import logs
from lmaas.cli.loop import run
from lmaas.cli.worker import serve
from lmaas.workers.runtime import Runtime


def worker(
    settings: Settings, *, a_text: float = 0.0, a_byte: float = 0.0
) -> AbstractAsyncContextManager[Any]:
    """One that takes at least so many seconds a text and a byte."""
    return rig.process(settings, "-m", "benchmarks.paced", str(a_text), str(a_byte))


def held_back(a_text: float, a_byte: float) -> Callable[..., list[Result]]:
    """`Runtime.answer` with a pace."""
    plain = Runtime.answer

    def answer(runtime: Runtime, items: Sequence[Item], *rest: Any, **options: Any) -> list[Result]:
        size = sum(len((item.text or "").encode()) for item in items) if a_byte else 0
        end = time.monotonic() + a_text * len(items) + a_byte * size
        results = plain(runtime, items, *rest, **options)
        time.sleep(max(0.0, end - time.monotonic()))
        return results

    return answer


@click.command()
@click.argument("a_text", type=float)
@click.argument("a_byte", type=float)
def main(a_text: float, a_byte: float) -> None:
    """Serve as `lmaas worker` does, at least A_TEXT seconds a text and A_BYTE a byte."""
    logs.configure(logging.INFO)
    with mock.patch.object(Runtime, "answer", held_back(a_text, a_byte)):
        run(serve(Settings.load(), ()))


if __name__ == "__main__":
    main()
