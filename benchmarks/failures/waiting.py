"""A job that waits in a broker which is restarted, before any worker is there and half-way."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from benchmarks import rig
from benchmarks.failures import queues
from benchmarks.failures.comparison import Row, Verdict, compare, damage, examples, row_of
from benchmarks.failures.job import numbered
from benchmarks.failures.polling import until
from benchmarks.failures.processes import Process, started
from benchmarks.failures.stage import CALM, LIMIT, WORKERS, check_alive, until_consuming
from benchmarks.report import Figure, Report, listed
from lmaas.broker_config.local_node import LocalNode
from lmaas.broker_config.messages import Item, Reply, Request
from lmaas.broker_config.settings import Settings
from lmaas.producer.answers import Chunk
from lmaas.producer.batch import Jobs
from lmaas.producer.journal import JobEntry
from lmaas.producer.packing import packs
from lmaas.producer.window import windowed
from lmaas.workers.pool import Pool

#: Seconds between two looks at how far the job is.
POLL: Final = 0.05
#: Seconds without a chunk after which nothing more is expected.
PATIENCE: Final = 60.0


@dataclass(slots=True)
class Found:
    """What became of the job."""

    items: int
    chunks: int = 0
    #: Packs in the lanes after the first restart; chunks that were answered before the second.
    waiting: int = 0
    half: int = 0
    #: From the end of the second restart until every worker consumed again.
    consuming: float = 0.0
    #: From its submission to its last result, and of the restarts in it.
    seconds: float = 0.0
    outages: list[float] = field(default_factory=list)
    answered: int = 0
    verdict: Verdict = field(default_factory=Verdict)


async def measure(
    texts: Sequence[str],
    items: int,
    tell: Callable[[str], None] = print,
    pack_items: int = Settings().pack_items,
    payload_keys: str | None = None,
) -> Found:
    """The whole job; it ends by itself."""
    different = list(numbered(texts, items))
    found = Found(items)
    async with LocalNode() as node:
        settings = Settings(
            broker_url=node.url,
            models=str(rig.MODELS),
            pack_items=pack_items,
            payload_keys=payload_keys,
        )
        calm = await _in_process(different, settings)
        tell(f"{len(calm):,} labels in process")
        await _serve_once(settings)
        rows = await _restarted(node, settings, different, found, tell)
    found.answered = len(rows)
    found.verdict = compare(calm, rows, {})
    return found


async def _in_process(texts: Sequence[str], settings: Settings) -> list[Row]:
    """What the queue has to answer."""
    async with Pool(settings, rig.MODEL) as pool:

        async def run(items: list[Item]) -> Reply:
            return await pool.run(Request(model=rig.MODEL, items=items))

        replies = windowed(packs(texts, settings), run, settings.window)
        return [row_of(result) async for reply in replies for result in reply.results]


async def _serve_once(settings: Settings) -> None:
    """A model has lanes once a worker has served it."""
    async with started(settings, *CALM, times=WORKERS) as workers:
        await workers.drained()


async def _restarted(
    node: LocalNode,
    settings: Settings,
    texts: Sequence[str],
    found: Found,
    tell: Callable[[str], None],
) -> list[Row]:
    """The job, and both restarts; the rows of its results."""
    began = time.monotonic()
    async with Jobs(settings) as jobs:
        entry = await jobs.submit(rig.MODEL, texts)
        found.chunks = entry.chunks or 0
        await _restart(node, found)
        async with queues.connected(settings) as connection:
            found.waiting = await queues.waiting(connection, settings)
        tell(f"restarted: {found.waiting:,} of {found.chunks:,} packs wait")
        async with started(settings, *CALM, times=WORKERS) as workers:
            await _until_half(jobs, entry, workers, found)
            await _restart(node, found)
            back = time.monotonic()
            async with asyncio.timeout(LIMIT):
                await until_consuming(workers, settings)
            found.consuming = time.monotonic() - back
            tell(f"restarted after {found.half:,} chunks: consuming after {found.consuming:.2f} s")
            chunks = await _collected(jobs, entry.job)
            await workers.drained()
    found.seconds = time.monotonic() - began
    chunks.sort(key=lambda chunk: chunk.number)
    return [row_of(result) for chunk in chunks for result in chunk.reply.results]


async def _restart(node: LocalNode, found: Found) -> None:
    """SIGTERM, and a start on the same data."""
    began = time.monotonic()
    await node.restart()
    found.outages.append(time.monotonic() - began)


async def _until_half(jobs: Jobs, entry: JobEntry, workers: Process, found: Found) -> None:
    """Half of the chunks are answered, or a few more."""

    async def half_answered() -> bool:
        check_alive(workers)
        found.half = (await jobs.progress(entry.job)).done or 0
        return 2 * found.half >= found.chunks

    async with asyncio.timeout(LIMIT):
        await until(half_answered, POLL)


async def _collected(jobs: Jobs, job: str) -> list[Chunk]:
    """All that comes, until it is whole or nothing new has come for long."""
    loop = asyncio.get_running_loop()
    chunks = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE) as patience:
            async for chunk in jobs.results(job):
                patience.reschedule(loop.time() + PATIENCE)
                chunks.append(chunk)
    return chunks


def report(found: Found) -> Report:
    return Report(
        benchmark="waiting",
        setting=f"a job of {found.items:,} IMDB reviews in {found.chunks:,} packs; the broker is "
        f"restarted when all of them wait, and again when {WORKERS} workers have answered half; "
        "labels and scores compared with those of the in-process pool",
        figures=[
            Figure(name="items", value=found.items, unit=""),
            Figure(name="items answered", value=found.answered, unit=""),
            *damage("items", [found.verdict]),
            Figure(name="packs waiting after the first restart", value=found.waiting, unit=""),
            Figure(name="chunks answered before the second restart", value=found.half, unit=""),
            Figure(name="broker back from it: all workers consuming", value=found.consuming,
                   unit="s", at_most=5),
            Figure(name="from the submission to the last result", value=found.seconds, unit="s"),
            Figure(name="restarts in it", value=sum(found.outages), unit="s"),
        ],
        tables=listed(examples([found.verdict])),
    )  # fmt: skip
