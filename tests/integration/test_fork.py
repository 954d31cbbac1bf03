"""A client and `os.fork`, as of gunicorn --preload; a client that nobody closes before the end."""

from __future__ import annotations

import asyncio
import os
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from lmaas.broker_config.settings import Settings
from tests.integration.lanes import LIMIT, consumers, depth, until
from tests.integration.proxy import Proxy
from tests.integration.worker_process import StartWorker

#: What the scripts begin with. A child that hangs is ended, and its parent tells.
HEAD = """
import asyncio, contextlib, os, signal, sys
import lmaas
GOOD = "a wonderful, moving film"

def forked(work):
    "The exit code of a child that does the work and ends as Python ends."
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        work()
        sys.exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def refused(work):
    try:
        work()
    except lmaas.BrokerUnavailable as error:
        assert f"belongs to process {os.getppid()}" in str(error), error
        assert "Make a client in each process" in str(error), error
    else:
        raise AssertionError("not refused")
"""

Running = Callable[[str], Awaitable[asyncio.subprocess.Process]]


@pytest.fixture
async def running(settings: Settings) -> AsyncIterator[Running]:
    """Starts a script as a process of its own."""
    started = []

    async def start(script: str, **changes: str) -> asyncio.subprocess.Process:
        own = {"LMAAS_BROKER_URL": settings.broker_url, "LMAAS_PREFIX": settings.prefix, **changes}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "error::ResourceWarning",
            "-c", HEAD + textwrap.dedent(script),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, env={**os.environ, **own},
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
        assert process.stdin is not None
        process.stdin.close()  # which children wait for; before Python 3.12 communicate does not
        await process.communicate()


async def told(process: asyncio.subprocess.Process) -> str:
    """What a script has printed, which must end well."""
    async with asyncio.timeout(LIMIT):
        out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return out.decode().strip()


async def test_a_client_in_a_child_says_so_and_its_parents_goes_on(
    start_worker: StartWorker, running: Running
) -> None:
    await start_worker()
    script = """
    client = lmaas.SyncClient()
    client.classify("sentiment", GOOD)
    results = client.classify_many("sentiment", [GOOD] * 2_000)
    next(results)

    def child():
        assert not client.is_ready
        refused(lambda: client.classify("sentiment", GOOD))
        refused(lambda: list(client.classify_many("sentiment", [GOOD])))
        refused(client.open)
        refused(lambda: next(results))
        client.close()
        with lmaas.SyncClient() as own:
            assert own.classify("sentiment", GOOD).label == "positive"

    print([forked(child) for _ in range(3)], client.is_ready)
    print({r.label for r in results} | {client.classify("sentiment", GOOD, timeout=60).label})
    client.close()
    """
    assert await told(await running(script)) == "[0, 0, 0] True\n{'positive'}"


async def test_a_child_does_not_keep_the_connection_of_a_parent_that_is_gone(
    start_worker: StartWorker, running: Running, settings: Settings
) -> None:
    """Else a parent that crashed would have its connections as long as its children live."""
    await start_worker()
    script = """
    client = lmaas.SyncClient()
    client.classify("sentiment", GOOD)
    if os.fork() == 0:
        signal.alarm(60)
        print(client._client.id, flush=True)
        sys.stdin.readline()
        os._exit(0)
    signal.pause()
    """
    process = await running(script, LMAAS_HEARTBEAT="600")
    assert process.stdout is not None
    async with asyncio.timeout(LIMIT):
        queue = settings.names.client_results((await process.stdout.readline()).decode().strip())
    assert await consumers(settings, queue) == 1
    process.kill()  # the child lives until its standard input ends, with this test

    async def is_noticed() -> bool:
        return await consumers(settings, queue) == 0

    await until(is_noticed)


async def test_a_client_that_has_not_connected_yet_connects_in_the_child(
    start_worker: StartWorker, running: Running
) -> None:
    await start_worker()
    script = """
    client = lmaas.SyncClient()

    def child():
        assert client.classify("sentiment", GOOD).label == "positive"
        assert client.is_ready

    print(forked(child), client.is_ready, client.classify("sentiment", GOOD).label)
    """
    assert await told(await running(script)) == "0 False positive"


async def test_an_asynchronous_client_in_a_child_says_so(
    start_worker: StartWorker, running: Running
) -> None:
    await start_worker()
    script = """
    loop = asyncio.new_event_loop()
    client = lmaas.Client()
    jobs = lmaas.Jobs()
    loop.run_until_complete(client.open())
    loop.run_until_complete(jobs.__aenter__())

    def child():
        async def many():
            async for _ in client.classify_many("sentiment", [GOOD]):
                pass

        assert not client.is_ready
        refused(lambda: asyncio.run(client.classify("sentiment", GOOD)))
        refused(lambda: asyncio.run(many()))
        refused(lambda: asyncio.run(client.workers("sentiment")))
        refused(lambda: asyncio.run(jobs.list()))
        asyncio.run(client.close())
        os._exit(0)

    print(forked(child), client.is_ready)
    print(loop.run_until_complete(client.classify("sentiment", GOOD, timeout=60)).label)
    loop.run_until_complete(client.close())
    loop.run_until_complete(jobs.__aexit__(None, None, None))
    loop.close()
    """
    assert await told(await running(script)) == "0 True\npositive"


async def test_a_program_that_does_not_close_ends_and_leaves_nothing(
    start_worker: StartWorker, running: Running, settings: Settings
) -> None:
    await start_worker()
    script = """
    client = lmaas.SyncClient()
    print(client.classify("sentiment", GOOD).label, client._client.id)
    """
    process = await running(script)
    async with asyncio.timeout(LIMIT):
        out, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")
    label, name = out.decode().split()
    assert label == "positive"
    assert await depth(settings, settings.names.client_results(name)) is None


async def test_a_broker_that_is_silent_does_not_keep_a_program_from_ending(
    start_worker: StartWorker, running: Running, settings: Settings, proxy: Proxy
) -> None:
    await start_worker()
    script = """
    client = lmaas.SyncClient()
    print(client.classify("sentiment", GOOD).label, client._client.id, flush=True)
    sys.stdin.readline()
    """
    process = await running(script, LMAAS_BROKER_URL=proxy.url)
    assert process.stdout is not None
    assert process.stdin is not None
    async with asyncio.timeout(LIMIT):
        label, name = (await process.stdout.readline()).decode().split()
        assert label == "positive"
        assert await consumers(settings, settings.names.client_results(name)) == 1
        proxy.stall()
        process.stdin.write(b"\n")
        assert await process.wait() == 0


async def test_importing_registers_nothing(running: Running) -> None:
    script = """
    import threading
    assert threading.active_count() == 1
    assert lmaas.SyncClient is not None
    from lmaas.producer import sync
    assert sync._register.cache_info().currsize == 0
    lmaas.SyncClient()
    assert sync._register.cache_info().currsize == 0
    """
    await told(await running(script))
