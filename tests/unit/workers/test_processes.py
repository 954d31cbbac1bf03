from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import psutil
import pytest

from lmaas.broker_config.errors import ModelError
from lmaas.workers.processes import Answering, Processes

MOST = 3
#: More than a socket takes at once.
LARGE = 4 * 1024 * 1024


def begin(name: bytes) -> Answering:
    def answer(body: bytes) -> bytes:
        if body == b"exit":
            os._exit(7)
        if body == b"kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if body == b"pid":
            return str(os.getpid()).encode()
        return name + body

    return answer


def started() -> list[psutil.Process]:
    children = psutil.Process().children()
    return [one for one in children if "spawn_main" in " ".join(one.cmdline())]


@pytest.fixture
async def processes() -> AsyncIterator[Processes]:
    processes = Processes(MOST, begin, b"of ")
    before = started()
    yield processes
    await processes.close()
    assert started() == before


async def test_one_is_started_when_no_other_is_idle(processes: Processes) -> None:
    first = await processes.run(b"pid")
    assert await processes.run(b"pid") == first
    pids = set(await asyncio.gather(*(processes.run(b"pid") for _ in range(10 * MOST))))
    assert first in pids
    assert len(pids) == MOST


async def test_answers_belong_to_their_bodies(processes: Processes) -> None:
    bodies = [b"", *(bytes([n]) * LARGE for n in range(12))]
    answers = await asyncio.gather(*map(processes.run, bodies))
    assert answers == [b"of " + body for body in bodies]


async def test_who_does_not_wait_any_more_costs_nobody_an_answer(processes: Processes) -> None:
    await processes.run(b"")
    tasks = [asyncio.create_task(processes.run(b"%d" % n)) for n in range(10 * MOST)]
    await tasks[0]
    for task in tasks[1::2]:
        task.cancel()
    answers = await asyncio.gather(*tasks[::2])
    assert answers == [b"of %d" % n for n in range(0, 10 * MOST, 2)]


@pytest.mark.parametrize(
    ("body", "words"), [(b"exit", "exit code 7"), (b"kill", "signal SIGKILL; out of memory")]
)
async def test_one_that_ends_fails_what_it_has_and_what_comes(
    processes: Processes, body: bytes, words: str
) -> None:
    await processes.run(b"")
    with pytest.raises(ModelError, match=words):
        await asyncio.gather(processes.run(body), processes.run(b""))
    with pytest.raises(ModelError, match=words):
        await asyncio.gather(*(processes.run(b"") for _ in range(10 * MOST)))


async def test_the_signals_of_a_group_end_no_process(processes: Processes) -> None:
    pid = int(await processes.run(b"pid"))
    os.kill(pid, signal.SIGTERM)
    os.kill(pid, signal.SIGINT)
    assert await processes.run(b"pid") == b"%d" % pid
