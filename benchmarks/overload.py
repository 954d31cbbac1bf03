"""Ten times as many calls as can be answered: what becomes of each, and how late the answers are.

The worker has a pace (see `paced`), so that ten times its capacity is a load which one process
makes, and which leaves the machine time: it is the gateway that has to refuse. The capacity is what
callers in a loop get. The calls of the overload come by chance (an open loop), and the time of one
is from the moment at which it was to be made.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import click
import numpy as np

from benchmarks import gateway, load, paced, queueing, rig
from benchmarks.report import Figure, Report, none

#: Seconds of a text at the pace of the worker, and words of it.
A_TEXT = 10e-3
WORDS = 60
TEXTS = 4_096
#: Callers in a loop, and the seconds of theirs that show the capacity. They keep the worker busy,
#: and are so few that none of them is refused.
CALLERS, CAPACITY_SECONDS = 16, 5.0
TIMES = 10
SECONDS = 60.0
#: Seconds that an accepted call may take, p99: half as long again as the gateway lets it expect.
GOAL = 1.5 * 5.0
#: Seconds in which a request is answered, in any case.
PATIENCE = 90.0


@dataclass(frozen=True, slots=True)
class Called:
    """What became of a call. `status` 0: there was no answer."""

    status: int
    #: Seconds from the moment at which it was to be made, and by which it was made late.
    took: float
    late: float
    #: Whether the answer is all that belongs to its status.
    whole: bool
    #: The path of the job that it has become.
    job: str | None = None


class Caller:
    """Makes calls, and checks what is answered."""

    def __init__(self, http: aiohttp.ClientSession, url: str, texts: Sequence[str]) -> None:
        self._http = http
        self._url = f"{url}/v1/classify"
        self._texts = texts
        self._clock = asyncio.get_running_loop().time

    async def call(self, place: int, due: float) -> Called:
        late = self._clock() - due
        text = self._texts[place % len(self._texts)]
        body = {"model": rig.MODEL, "items": [{"id": str(place), "text": text}]}
        status, whole, job = 0, False, None
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with self._http.post(self._url, json=body) as answer:
                whole = _is_whole(answer, await answer.json(), str(place))
                status, job = answer.status, answer.headers.get("Location")
        return Called(status, self._clock() - due, late, whole, job)


def _is_whole(answer: aiohttp.ClientResponse, body: Any, name: str) -> bool:
    match answer.status:
        case 200:
            return [one["id"] for one in body["results"] if one.get("label")] == [name]
        case 202:
            return "Location" in answer.headers
        case _:
            return answer.headers.get("Retry-After", "").isdigit()


async def measure(seconds: float = SECONDS, a_text: float = A_TEXT) -> Report:
    texts = [" ".join(review.split()[:WORDS]) for review in rig.reviews()[:TEXTS]]
    async with rig.broker() as engine, paced.worker(engine, a_text=a_text):
        with gateway.folder() as state:
            async with gateway.listening(state, engine) as served, _session() as http:
                caller = Caller(http, served.url, texts)
                capacity = await _capacity(caller)
                began = time.perf_counter()
                called = await _overload(caller, TIMES * capacity, seconds)
                until_all = time.perf_counter() - began
                lost = [one.job for one in called if one.job and not await _done(served, one.job)]
    return _report(capacity, called, len(lost), seconds, until_all)


@contextlib.asynccontextmanager
async def _session() -> AsyncIterator[aiohttp.ClientSession]:
    """As many connections as there are calls on their way."""
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(PATIENCE)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
        yield http


async def _capacity(caller: Caller) -> float:
    """Answers a second."""
    places = itertools.count()

    async def call(_: str) -> None:
        called = await caller.call(next(places), 0.0)
        if called.status != 200:
            raise click.ClickException(f"a call without any load was answered {called.status}")

    return (await load.closed(call, [""], CALLERS, CAPACITY_SECONDS)).rate


async def _overload(caller: Caller, rate: float, seconds: float) -> list[Called]:
    came = queueing.poisson_within(np.random.default_rng(7), rate, seconds)
    moments = (asyncio.get_running_loop().time() + came).tolist()
    calls = await load.arrive(moments, lambda place: caller.call(place, moments[place]))
    return list(await asyncio.gather(*calls))


async def _done(served: gateway.Gateway, path: str) -> bool:
    """Whether a call that has become a job is answered."""
    view = await served.ended(path.rpartition("/")[2])
    return bool(view["done"] == 1 and not view["failed"])


def _report(
    capacity: float, called: Sequence[Called], lost: int, seconds: float, until_all: float
) -> Report:
    """`until_all`: seconds until the last one was answered."""
    statuses = Counter(one.status for one in called)
    answered = [one.took for one in called if one.status == 200]
    refused = [one.took for one in called if one.status == 429]
    late = float(np.percentile([one.late for one in called], 99))
    return Report(
        benchmark="overload",
        setting=f"one text of {WORDS} words a POST, {TIMES} times the capacity by chance for "
        f"{seconds:g} s, {len(called):,} calls; one worker process with a pace",
        figures=[
            Figure(name="capacity", value=capacity, unit="/s"),
            Figure(name="answered 200, of the capacity",
                   value=len(answered) / until_all / capacity, unit="", at_least=0.9),
            Figure(name="answered 200, p99", value=float(np.percentile(answered, 99)), unit="s",
                   at_most=GOAL),
            Figure(name="answered 200", value=len(answered), unit=""),
            Figure(name="answered 202, a job", value=statuses[202], unit=""),
            Figure(name="answered 429", value=len(refused), unit="", at_least=1),
            *([Figure(name="answered 429, p99", value=float(np.percentile(refused, 99)), unit="s")]
              if refused else []),
            *none({
                "other statuses, or none": len(called) - sum(statuses[s] for s in (200, 202, 429)),
                "200 without its result, 202 without a job, 429 without Retry-After": sum(
                    not one.whole for one in called if one.status in {200, 202, 429}
                ),
                "jobs without their result": lost,
            }),
            Figure(name="made late by, p99", value=late, unit="s"),
        ],
    )  # fmt: skip
