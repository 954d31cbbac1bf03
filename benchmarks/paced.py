"""A worker with a pace: the real one, whose inference thread sleeps after a batch until its time is
over. Service times are then what was asked for, and not what other processes leave of the cores.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any
from unittest import mock

import click

from benchmarks import rig
from lmaas.broker_config.messages import Item
from lmaas.broker_config.settings import Settings
from lmaas.cli.loop import run
from lmaas.cli.worker import serve
from lmaas.service import logs
from lmaas.workers.batcher import Batch
from lmaas.workers.heads import Scores
from lmaas.workers.preprocess import Encoded
from lmaas.workers.runtime import Runtime


def worker(
    settings: Settings, *, a_text: float = 0.0, a_byte: float = 0.0, a_batch: float = 0.0
) -> AbstractAsyncContextManager[Any]:
    """One that takes at least so many seconds a text, a byte and a batch."""
    pace = map(str, (a_text, a_byte, a_batch))
    return rig.process(settings, "-m", "benchmarks.paced", *pace)


class _Sized:
    """Encoded texts with their bytes."""

    def __init__(self, encoded: Encoded, items: Sequence[Item]) -> None:
        self.lengths = encoded.lengths
        self.arrays = encoded.arrays
        self.sizes = [item.size for item in items]


class Paced(Runtime):
    """Each of its batches takes at least its time."""

    a_text = a_byte = a_batch = 0.0

    def encode(self, items: Sequence[Item]) -> Encoded:
        return _Sized(super().encode(items), items)

    def run(self, encoded: Encoded, batch: Batch) -> Scores:
        assert isinstance(encoded, _Sized)
        texts = len(batch.positions)
        size = sum(encoded.sizes[position] for position in batch.positions)
        end = time.monotonic() + self.a_batch + self.a_text * texts + self.a_byte * size
        scores = super().run(encoded, batch)
        time.sleep(max(0.0, end - time.monotonic()))
        return scores


@click.command()
@click.argument("a_text", type=float)
@click.argument("a_byte", type=float)
@click.argument("a_batch", type=float)
def main(a_text: float, a_byte: float, a_batch: float) -> None:
    """Serve as `lmaas worker` does, at least A_TEXT seconds a text, A_BYTE a byte and A_BATCH a
    batch.
    """
    logs.configure(logging.INFO)
    Paced.a_text, Paced.a_byte, Paced.a_batch = a_text, a_byte, a_batch
    with mock.patch("lmaas.workers.models.Runtime", Paced):
        run(serve(Settings.load(), ()))


if __name__ == "__main__":
    main()
