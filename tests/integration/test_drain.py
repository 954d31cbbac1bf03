"""A rolling restart under load: nobody who asks notices."""

from __future__ import annotations

import asyncio
import itertools
import signal

import psutil
import pytest

from benchmarks.failures.processes import forked_by
from lmaas.broker_config.settings import Settings
from lmaas.producer.client import Client
from tests.integration.lanes import LIMIT, depth, having, until, waiting_packs
from tests.integration.worker_process import StartWorker

GOOD = "a wonderful, moving film"


async def test_all_workers_are_restarted_in_turn_and_no_caller_sees_it(
    settings: Settings, start_worker: StartWorker
) -> None:
    settings = having(settings, pack_items=20, window=50)
    workers = [await start_worker(), await start_worker()]
    restarted = asyncio.Event()
    calls: list[str] = []

    async def caller(client: Client) -> None:
        """Single calls, one after the other; any error ends the test."""
        while not restarted.is_set():
            result = await client.classify("sentiment", GOOD)
            assert result.label is not None
            calls.append(result.label)

    async def stream(client: Client) -> int:
        """Texts without end until all workers were restarted, in order and once each."""
        numbers = itertools.takewhile(lambda _: not restarted.is_set(), itertools.count())
        count = 0
        async for result in client.classify_many("sentiment", (f"{n} {GOOD}" for n in numbers)):
            assert (result.id, result.label) == (str(count), "positive")
            count += 1
        return count

    async def restart_in_turn() -> None:
        for turn in range(4):
            done = len(calls)
            workers[turn % 2].send(signal.SIGTERM)
            assert await workers[turn % 2].ended() == 0
            workers[turn % 2] = await start_worker()

            async def goes_on(done: int = done) -> bool:
                return len(calls) > done + 10

            await until(goes_on)
        restarted.set()

    async with (
        asyncio.timeout(2 * LIMIT),
        Client(settings) as client,
        asyncio.TaskGroup() as group,
    ):
        streamed = group.create_task(stream(client))
        for _ in range(8):
            group.create_task(caller(client))
        group.create_task(restart_in_turn())
    assert streamed.result() > 1_000
    assert set(calls) == {"positive"}
    assert await waiting_packs(settings) == 0
    assert await depth(settings, settings.names.dead) == 0
    for delay in settings.retry_delays:
        assert await depth(settings, settings.names.retry("sentiment", delay)) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_to_the_whole_group_drains_every_process(
    settings: Settings, start_worker: StartWorker, texts: list[str], number: signal.Signals
) -> None:
    settings = having(settings, pack_items=20, window=50)
    supervisor = await start_worker("--processes", "2", until=None)
    await supervisor.says("ready", times=2)
    (server,) = {worker.parent() for worker in forked_by(supervisor.pid)}
    assert server is not None
    processes = [server, *forked_by(supervisor.pid)]
    async with asyncio.timeout(2 * LIMIT), Client(settings) as client:
        count = 0
        async for result in client.classify_many("sentiment", texts):
            assert (result.id, result.error) == (str(count), None)
            count += 1
            if count == 500:
                supervisor.send_to_group(number)
                assert await supervisor.ended() == 0
                gone, _ = psutil.wait_procs(processes, timeout=0)
                assert set(processes[1:]) <= set(gone), "it waits for them"
                await start_worker()
    assert count == len(texts)
    told = "".join(supervisor.lines)
    assert told.count("drained") == 2
    assert "ended with" not in told
    assert "Traceback" not in told
