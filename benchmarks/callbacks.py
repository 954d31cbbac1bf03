"""10,000 callbacks to one receiver, of which every tenth fails: whether all come, and when.

The ends of 10,000 jobs are in the outbox when the gateway starts. Of each hundred of them the
receiver answers nine by 500 once, twice or three times before it accepts them, and one always. It
checks each signature, and is in the process that measures.

By the receiver's clock a try is early when the delay of the schedule has not passed since the
answer to the try before. It is out of order when another one that was due later came long before.
"""

from __future__ import annotations

import asyncio
import base64
import bisect
import contextlib
import hashlib
import hmac
import itertools
import math
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from aiohttp import web

from benchmarks import ended_jobs, gateway, rig
from benchmarks.report import Figure, Report, none

COUNT = 10_000
#: Seconds before each try, and by which part of itself each is longer at most, at random.
DELAYS = (0.0, 1.0, 2.0, 4.0)
JITTER = 0.2
#: Seconds by which two tries may change places, of those in which they are due as of those in which
#: they come: some are on their way together, and the gateway looks twice a second for those that
#: have come due.
TOGETHER = 1.0
#: Seconds in which all of them end.
LIMIT = 480.0
#: Jobs whose deliveries are asked for at a time.
ASKED = 16


def failures(place: int) -> int:
    """How often one of them fails."""
    if place % 100 == 0:
        return len(DELAYS)
    return 1 + place % 3 if place % 100 < 10 else 0


@dataclass(frozen=True, slots=True)
class Try:
    """One that came. Seconds of the monotonic clock."""

    came: float
    answered: float
    status: int


class Receiver:
    """Remembers what came, and fails what it is to fail."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._failing: dict[str, int] = {}
        self._open: set[str] = set()
        #: By job.
        self.tries: dict[str, list[Try]] = {}
        self.unsigned = 0
        self.finished = asyncio.Event()

    def expect(self, jobs: Sequence[str]) -> None:
        """The end of each of these is told."""
        self._failing = {job: failures(place) for place, job in enumerate(jobs)}
        self.tries = {job: [] for job in jobs}
        self._open = set(jobs)

    async def receive(self, request: web.BaseRequest) -> web.Response:
        came, body = time.monotonic(), await request.read()
        self.unsigned += not self._is_signed(request.headers, body)
        job = msgspec.json.decode(body)["data"]["id"]
        tries = self.tries[job]
        status = 500 if len(tries) < self._failing[job] else 204
        tries.append(Try(came, time.monotonic(), status))
        if status == 204 or len(tries) == len(DELAYS):
            self._open.discard(job)
        if not self._open:
            self.finished.set()
        return web.Response(status=status)

    def _is_signed(self, headers: Mapping[str, str], body: bytes) -> bool:
        """As Standard Webhooks has it."""
        content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        signature = base64.b64encode(hmac.digest(self._key, content, hashlib.sha256)).decode()
        return f"v1,{signature}" in headers["webhook-signature"].split()


@contextlib.asynccontextmanager
async def _listening(receiver: Receiver) -> AsyncIterator[str]:
    """Its URL."""
    runner = web.ServerRunner(web.Server(receiver.receive))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def measure(count: int = COUNT) -> Report:
    key = os.urandom(32)
    receiver = Receiver(key)
    async with rig.broker() as engine, _listening(receiver) as url:
        with gateway.folder() as state:
            secret = f"whsec_{base64.b64encode(key).decode()}"
            jobs = await ended_jobs.ended(state, count, (url, secret))
            receiver.expect(jobs)
            async with gateway.listening(
                state,
                engine,
                allowed_networks=["127.0.0.0/8"],
                callbacks={"delays": DELAYS, "jitter": JITTER},
            ) as served:
                async with asyncio.timeout(LIMIT):
                    await receiver.finished.wait()
                    told = await _told(served, jobs)
    return _report(receiver, told)


async def _told(served: gateway.Gateway, jobs: Sequence[str]) -> dict[str, tuple[str, list[int]]]:
    """By job: the state of its delivery, when that is settled, and the status of each try."""
    found: dict[str, tuple[str, list[int]]] = {}
    left = iter(jobs)

    async def ask() -> None:
        for job in left:
            state = "pending"
            while state == "pending":
                answer = await served.get(f"/v1/jobs/{job}/deliveries")
                (delivery,) = answer["deliveries"]
                state = delivery["state"]
            found[job] = (state, [one["status"] for one in delivery["tries"]])

    await asyncio.gather(*(ask() for _ in range(ASKED)))
    return found


def _report(receiver: Receiver, told: Mapping[str, tuple[str, list[int]]]) -> Report:
    every = receiver.tries
    states = Counter(state for state, _ in told.values())
    seen = {
        job: ("delivered" if tries[-1].status == 204 else "failed", [one.status for one in tries])
        for job, tries in every.items()
    }
    tries = sum(map(len, every.values()))
    firsts = [one[0].came for one in every.values()]
    round_ = max(firsts) - min(firsts)
    found = list(_retries(every))
    late = [one.came - one.latest for one in found if one.is_last]
    expected = sum(failures(place) < len(DELAYS) for place in range(len(every)))
    return Report(
        benchmark="callbacks",
        setting=f"{len(every):,} callbacks of one key to one receiver, every tenth fails; tries "
        f"after {', '.join(f'{delay:g}' for delay in DELAYS)} s, each longer by up to "
        f"{JITTER:.0%} at random; {tries:,} tries",
        figures=[
            Figure(name="first tries", value=len(firsts) / round_, unit="/s"),
            Figure(name="delivered", value=states["delivered"], unit="", at_least=expected),
            Figure(name="recorded as failed", value=states["failed"], unit="",
                   at_least=len(every) - expected),
            *none({
                "neither": len(every) - states["delivered"] - states["failed"],
                "other states or tries than the receiver saw": sum(
                    told[job] != seen[job] for job in every
                ),
                "tries without a right signature": receiver.unsigned,
                "tries beyond the first one that was accepted": sum(
                    one.status == 204 for tries in every.values() for one in tries[:-1]
                ),
                "tries before their time": sum(one.came < one.earliest - 1e-3 for one in found),
                "tries out of order": _out_of_order(every, found),
            }),
            *([Figure(name="the last tries, later than due, p99",
                      value=float(np.percentile(late, 99)), unit="s", at_most=TOGETHER)]
              if late else []),
        ],
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Retry:
    """When one came, and between which moments it was due."""

    came: float
    earliest: float
    latest: float
    #: Whether there is none after it. The first retries wait for all first tries, which were due
    #: before them; the last ones wait for nothing.
    is_last: bool = False


def _retries(every: Mapping[str, Sequence[Try]]) -> Iterator[Retry]:
    for tries in every.values():
        for delay, (before, one) in zip(DELAYS[1:], itertools.pairwise(tries), strict=False):
            earliest = before.answered + delay
            yield Retry(one.came, earliest, earliest + delay * JITTER, delay == DELAYS[-1])


def _out_of_order(every: Mapping[str, Sequence[Try]], retries: Sequence[Retry]) -> int:
    """Those that were due before one that came before them, each by more than TOGETHER."""
    began = min(tries[0].came for tries in every.values())
    firsts = [Retry(tries[0].came, began, began) for tries in every.values()]
    order = sorted((*firsts, *retries), key=lambda one: one.came)
    moments = [one.came for one in order]
    latest = [-math.inf, *itertools.accumulate((one.earliest for one in order), max)]
    return sum(
        latest[bisect.bisect(moments, one.came - TOGETHER)] > one.latest + TOGETHER for one in order
    )
