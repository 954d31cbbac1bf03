"""Single calls while a job of long packs runs on the only worker: they wait for a batch and not for
a pack.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import msgspec
import numpy as np

from benchmarks import paced, rig
from benchmarks.report import Figure, Report
from lmaas.producer.batch import Jobs
from lmaas.producer.client import Client

#: Seconds of a batch, which has eight texts, and batches of a pack: two seconds.
BATCH: Final = 0.02
TEXTS, BATCHES = 8, 100
#: Of the job.
PACKS: Final = 25
WORDS: Final = 10
CALLS: Final = 200
#: Seconds from one call to the next.
PAUSE: Final = 0.05


async def measure() -> Report:
    texts = [" ".join(review.split()[:WORDS]) for review in rig.reviews()]
    async with rig.broker() as settings:
        small = msgspec.structs.replace(
            settings, batch_units=1, pack_items=TEXTS * BATCHES, pack_seconds=60.0, window=4
        )
        async with (
            paced.worker(small, a_batch=BATCH),
            Client(small) as client,
            Jobs(small) as jobs,
        ):
            alone = await _calls(client, texts)
            # The job is estimated by what the worker has learnt of its pace.
            job = await jobs.submit(rig.MODEL, texts[: TEXTS * BATCHES * PACKS])
            beside = await _calls(client, texts)
            progress = await jobs.progress(job.job)
            assert not progress.finished, "the job has to last longer than the calls"
            await jobs.cancel(job.job)
    trip = float(np.median(alone)) - BATCH
    worst = float(np.percentile(beside, 99))
    return Report(
        benchmark="preemption",
        setting=f"{CALLS} single calls, one every {PAUSE * 1e3:g} ms at most, beside a job whose "
        f"packs have {BATCHES} batches of {BATCH * 1e3:g} ms each; one worker",
        figures=[
            Figure(name="a call on an idle worker, p50", value=float(np.median(alone)) * 1e3,
                   unit="ms"),
            Figure(name="a call beside the job, p50", value=float(np.median(beside)) * 1e3,
                   unit="ms"),
            Figure(name="a call beside the job, p99", value=worst * 1e3, unit="ms"),
            Figure(name="p99 / (two batches + round trip)", value=worst / (2 * BATCH + trip),
                   unit="", at_most=1.0),
        ],
    )  # fmt: skip


async def _calls(client: Client, texts: list[str]) -> np.ndarray:
    took = []
    for text in texts[:CALLS]:
        began = time.perf_counter()
        await client.classify(rig.MODEL, text)
        took.append(time.perf_counter() - began)
        await asyncio.sleep(max(0.0, PAUSE - took[-1]))
    return np.array(took)
