"""A million rows of NDJSON as one job over HTTP, beside `lmaas classify --queue` of the same rows.

Both read rows that are made while they are sent, and both answer a worker's results: the gateway
into its folder, the command to /dev/null. The seconds of the job are from the first byte of the
POST to its end, when the last result is in the file; those of the command are all of it.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import click
import msgspec

from benchmarks import gateway, rig
from benchmarks.report import Figure, Report, bars, none
from lmaas.broker_config.settings import Settings

ROWS = 1_000_000
WORDS = 60
#: Rows that are sent together.
PIECE = 512
#: Rows of a job before the one that counts: what takes more memory than this one grows with rows.
FEW = ROWS // 10

#: What is said of the rows.
QUERY = "text_column=text&id_column=id"

OURS, COMMAND = "job over HTTP", "lmaas classify --queue"


async def measure(rows: int = ROWS, few: int = FEW) -> Report:
    texts = [" ".join(review.split()[:WORDS]) for review in rig.reviews()]
    async with rig.broker() as engine, rig.workers(engine, 1):
        with gateway.folder() as state:
            async with gateway.listening(state, engine) as served:
                await _posted(served, texts, few)
                before = served.peak
                view, took = await _posted(served, texts, rows)
                peak = served.peak
        command = await _classified(engine, texts, rows)
    rates = {OURS: rows / took, COMMAND: rows / command}
    return Report(
        benchmark="upload",
        setting=f"{rows:,} rows of NDJSON, texts of {WORDS} words, made while they are sent; one "
        "worker process; of the job the seconds from the first byte of the POST to the last "
        "result in the gateway's file, of the command all of it",
        figures=[
            *(Figure(name=name, value=rate, unit="rows/s") for name, rate in rates.items()),
            Figure(name=f"{OURS} / {COMMAND}", value=rates[OURS] / rates[COMMAND], unit="",
                   at_least=0.7),
            Figure(name="seconds of the job", value=took, unit="s"),
            Figure(name="resident memory of the gateway, peak", value=peak / 1e6, unit="MB",
                   at_most=300),
            Figure(name=f"the same with {few:,} rows", value=before / 1e6, unit="MB"),
            *none({"without a result": rows - view["done"], "failed": view["failed"]}, "rows"),
        ],
        plots=[bars("Rows a second", "rows/s", rates, ours=[OURS, COMMAND])],
    )  # fmt: skip


def pieces(texts: Sequence[str], rows: int) -> Iterator[bytes]:
    """NDJSON of so many rows, the texts in turn."""
    lines = (
        {"id": str(row), "text": text} for row, text in zip(range(rows), itertools.cycle(texts))
    )
    while piece := list(itertools.islice(lines, PIECE)):
        yield msgspec.json.Encoder().encode_lines(piece)


async def made(texts: Sequence[str], rows: int) -> AsyncIterator[bytes]:
    """The same, for who sends it."""
    for piece in pieces(texts, rows):
        yield piece


async def _posted(
    served: gateway.Gateway, texts: Sequence[str], rows: int
) -> tuple[dict[str, Any], float]:
    """The job when it has ended, and its seconds."""
    began = time.time()
    job = await served.submit(QUERY, made(texts, rows))
    view = await served.ended(job)
    return view, view["ended"] - began


async def _classified(engine: Settings, texts: Sequence[str], rows: int) -> float:
    """Seconds of the command."""
    began = time.perf_counter()
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "lmaas", "classify", "--queue", "--format", "jsonl",
        "--text-column", "text", "--keep", "id", "-o", "-", "-",
        env=rig.environment(engine),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    try:
        assert child.stdin is not None
        assert child.stderr is not None
        told = asyncio.create_task(child.stderr.read())
        for piece in pieces(texts, rows):
            child.stdin.write(piece)
            await child.stdin.drain()
        child.stdin.close()
        if await child.wait():
            raise click.ClickException(f"lmaas classify: {(await told).decode()}")
        return time.perf_counter() - began
    finally:
        if child.returncode is None:
            await rig.end(child)
