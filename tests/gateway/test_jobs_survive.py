"""Jobs when something ends: the gateway by kill -9, the broker, a caller; two gateways at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncConnection

from lmaas.broker_config.local_node import LocalNode
from lmaas.broker_config.settings import Settings
from lmaas.producer.batch import Jobs
from lmaas.producer.gateway.app import create_app
from lmaas.producer.gateway.app_keys import STATE
from lmaas.producer.gateway.jobs.collecting import FINISHED
from lmaas.producer.gateway.settings import GatewaySettings
from lmaas.producer.gateway.state.jobs import Job
from tests.gateway.conftest import Gateway, listening
from tests.gateway.test_commands import line, of
from tests.gateway.test_jobs import LONG, ended, results, told
from tests.integration.lanes import LIMIT, having, until
from tests.integration.stage import Stage

ITEMS = [{"id": str(number), "text": LONG} for number in range(12)]
CALL = {"model": "sentiment", "items": ITEMS}
EXPECTED = {item["id"]: "positive" for item in ITEMS}


class Running:
    """`lmaas gateway` as a process."""

    def __init__(self, process: asyncio.subprocess.Process, gateway: Gateway) -> None:
        self._process = process
        self.gateway = gateway

    async def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        await self._process.wait()


@contextlib.asynccontextmanager
async def process(folder: Path, settings: Settings, **variables: str) -> AsyncIterator[Running]:
    """It is killed at the end, if it was not before."""
    arguments = ("--access", "open", "--port", "0", "--folder", str(folder))
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "lmaas", "gateway", *arguments,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | of(settings) | variables,
    )  # fmt: skip
    try:
        url = (await line(started, "gateway: ")).split()[1].rstrip(",")
        async with aiohttp.ClientSession() as http:
            yield Running(started, Gateway(url, http))
    finally:
        with contextlib.suppress(ProcessLookupError):
            started.kill()
        await started.communicate()


@pytest.fixture
async def stage(settings: Settings) -> AsyncIterator[Stage]:
    async with Stage().serving(settings) as stage:
        yield stage


async def has(gateway: Gateway, job: str, count: int) -> None:
    """Waits for so many results."""

    async def enough() -> bool:
        return len(await results(gateway, job)) >= count

    await until(enough)


async def test_a_gateway_that_is_killed_comes_back_and_ends_its_jobs(
    stage: Stage, settings: Settings, tmp_path: Path
) -> None:
    """Killed with 4 of 12 results; what was handed out before stays as it was."""
    stage.hold()
    small = {"LMAAS_PACK_ITEMS": "1"}
    async with process(tmp_path / "state", settings, **small) as first:
        _, job = await first.gateway.post("/v1/jobs", json=CALL)
        for _ in range(4):
            stage.step()
        await has(first.gateway, job["id"], 4)
        seen = await results(first.gateway, job["id"])
        await first.kill()
    # Half of a chunk, as if it had been killed while it wrote.
    lines = tmp_path / "state" / "results" / f"{job['id']}.ndjson"
    with lines.open("ab") as file:
        file.write(b'{"id": "half')
    stage.release()
    async with process(tmp_path / "state", settings, **small) as second:
        assert (await results(second.gateway, job["id"]))[:4] == seen
        found = await ended(second.gateway, job["id"])
        assert (found["state"], found["done"], found["failed"]) == ("finished", 12, 0)
        everything = await results(second.gateway, job["id"])
        assert everything[:4] == seen
        assert told(everything) == EXPECTED


@pytest.mark.usefixtures("lanes")
async def test_what_a_killed_gateway_was_submitting_is_cancelled(
    settings: Settings, tmp_path: Path
) -> None:
    """The lane is full, so that it is killed half-way."""
    full = {"LMAAS_PACK_ITEMS": "1", "LMAAS_MAX_WAITING": "3"}
    async with process(tmp_path / "state", settings, **full) as first:
        sending = asyncio.create_task(first.gateway.post("/v1/jobs", json=CALL))
        found: list[dict[str, Any]] = []

        async def submitting() -> bool:
            found[:] = (await first.gateway.get("/v1/jobs"))[1]["jobs"]
            return bool(found) and found[0]["state"] == "submitting"

        await until(submitting)
        async with Jobs(settings) as jobs:

            async def known() -> bool:
                return found[0]["id"] in {one.entry.job for one in await jobs.list()}

            await until(known)
        await first.kill()
        with pytest.raises(aiohttp.ClientError):
            await sending
    async with process(tmp_path / "state", settings, **full) as second, Jobs(settings) as jobs:

        async def cancelled() -> bool:
            return (await jobs.progress(found[0]["id"])).state == "cancelled"

        await until(cancelled)

        async def forgotten() -> bool:
            return bool((await second.gateway.get("/v1/jobs"))[1]["jobs"] == [])

        await until(forgotten)


async def test_two_gateways_share_a_folder(
    stage: Stage, settings: Settings, gateway_settings: GatewaySettings
) -> None:
    """Each knows the jobs of both, every job is collected once, and told once."""
    ends: list[str] = []

    async def finished(_connection: AsyncConnection, job: Job) -> None:
        ends.append(job.id)

    engine = having(settings, pack_items=1)
    async with contextlib.AsyncExitStack() as stack:
        gateways = []
        for _ in range(2):
            app = create_app(gateway_settings, engine)
            app[FINISHED].append(finished)
            gateways.append(await stack.enter_async_context(_running(app)))
        made = [
            (await gateways[number % 2].post("/v1/jobs", json=CALL))[1]["id"] for number in range(6)
        ]
        for job in made:
            for gateway in gateways:
                assert (await ended(gateway, job))["state"] == "finished"
                assert told(await results(gateway, job)) == EXPECTED
    assert sorted(ends) == sorted(made)


@contextlib.asynccontextmanager
async def _running(app: web.Application) -> AsyncIterator[Gateway]:
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0]
        async with aiohttp.ClientSession() as http:
            yield Gateway(f"http://{host}:{port}", http)
    finally:
        await runner.cleanup()


async def test_what_is_to_be_done_at_the_end_is_done_with_it_or_not_at_all(
    stage: Stage, settings: Settings, gateway_settings: GatewaySettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The first try fails; then neither the end nor what was written before is there."""
    monkeypatch.setattr("lmaas.producer.gateway.jobs.collecting.RETRY", 0.2)
    app = create_app(gateway_settings, settings)
    tries: list[str] = []

    async def finished(connection: AsyncConnection, job: Job) -> None:
        assert job.state == "finished"
        tries.append(job.id)
        await connection.exec_driver_sql("CREATE TABLE told (id TEXT)")
        if len(tries) == 1:
            raise RuntimeError("half-way")

    app[FINISHED].append(finished)
    async with _running(app) as gateway:
        _, job = await gateway.post("/v1/jobs", json=CALL)
        assert (await ended(gateway, job["id"]))["state"] == "finished"
        assert tries == [job["id"]] * 2
        async with app[STATE].reading() as connection:
            await connection.exec_driver_sql("SELECT id FROM told")


async def test_without_the_broker_a_job_is_refused_and_others_go_on_later(
    node: LocalNode, settings: Settings, gateway_settings: GatewaySettings
) -> None:
    mine = having(settings, broker_url=node.url, connect_timeout=1.0, pack_items=1)
    async with Stage().serving(mine) as stage, listening(gateway_settings, mine) as gateway:
        stage.hold()
        _, job = await gateway.post("/v1/jobs", json=CALL)
        stage.step()
        await has(gateway, job["id"], 1)
        await node.stop()
        async with asyncio.timeout(LIMIT):
            status, answer = await gateway.post("/v1/jobs", json=CALL)
        assert (status, answer["error"]["code"]) == (503, "broker_unavailable")
        assert (await gateway.get(f"/v1/jobs/{job['id']}"))[1]["state"] == "running"
        await node.start()
        stage.release()
        found = await ended(gateway, job["id"])
        assert (found["state"], found["reason"]) == ("finished", None)
        assert told(await results(gateway, job["id"])) == EXPECTED


async def test_a_large_upload_takes_no_memory(settings: Settings, tmp_path: Path) -> None:
    """200,000 rows, 60 MB, to a gateway whose workers answer at once."""
    psutil = pytest.importorskip("psutil")
    row = json.dumps({"text": "good " * 60}).encode() + b"\n"

    async def rows() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield row * 1_000

    async with Stage().serving(settings), process(tmp_path / "state", settings) as one:
        gateway = one.gateway
        running = psutil.Process(one._process.pid)
        before = most = running.memory_info().rss
        sending = asyncio.create_task(
            gateway.post(
                "/v1/jobs?model=sentiment",
                data=rows(),
                headers={"Content-Type": "application/x-ndjson"},
                timeout=aiohttp.ClientTimeout(240),
            )
        )
        while not sending.done():
            most = max(most, running.memory_info().rss)
            await asyncio.wait([sending], timeout=0.1)
        status, job = await sending
        assert (status, job["items"]) == (202, 200_000)
        while (await gateway.get(f"/v1/jobs/{job['id']}"))[1]["ended"] is None:
            most = max(most, running.memory_info().rss)
            await asyncio.sleep(0.1)
        assert (await gateway.get(f"/v1/jobs/{job['id']}"))[1]["done"] == 200_000
        assert most - before < 100 * 1024 * 1024
