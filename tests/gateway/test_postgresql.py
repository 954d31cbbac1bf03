"""The gateway's state in PostgreSQL, which several gateways share; the server is the tests' own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import msgspec
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from lmaas.broker_config.settings import Settings
from lmaas.producer.gateway.settings import GatewaySettings
from lmaas.producer.gateway.state import METADATA, State
from tests.gateway.conftest import listening
from tests.gateway.test_jobs import CALL, EXPECTED, ended, results, told

_FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The URL of one without databases."""
    if not _FOLDERS:
        pytest.skip("PostgreSQL is not installed")
    folder, port = Path(tempfile.mkdtemp(dir="/tmp")), _free_port()
    # PostgreSQL does not run as root.
    user = [] if os.getuid() else ["runuser", "-u", "postgres", "--"]
    if user:
        os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
    data = str(folder / "data")

    def run(command: str, *arguments: str) -> None:
        subprocess.run(
            [*user, str(_FOLDERS[-1] / command), "-D", data, *arguments],
            check=True, stdout=subprocess.DEVNULL, cwd=folder,
        )  # fmt: skip

    run("initdb", "-U", "lmaas", "--auth=trust", "-N")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    try:
        run("pg_ctl", "-w", "-t", "120", "-l", str(folder / "log"), "-o", options, "start")
        yield f"postgresql://lmaas@127.0.0.1:{port}"
    finally:
        run("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@pytest.fixture
async def shared(server: str, gateway_settings: GatewaySettings) -> AsyncIterator[GatewaySettings]:
    """Settings with a database of their own."""
    name = f"test_{uuid.uuid4().hex}"
    connection = await asyncpg.connect(f"{server}/postgres")
    try:
        await connection.execute(f"CREATE DATABASE {name}")
        yield msgspec.structs.replace(gateway_settings, database=f"{server}/{name}")
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await connection.close()


async def test_gateways_that_start_at_once_migrate_once(shared: GatewaySettings) -> None:
    async def start() -> None:
        async with State(shared):
            pass

    await asyncio.gather(*(start() for _ in range(4)))
    async with State(shared) as state, state.writing() as connection:
        differences = await connection.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync), METADATA)
        )
    assert differences == []


@pytest.mark.usefixtures("worker")
async def test_two_gateways_share_jobs(shared: GatewaySettings, settings: Settings) -> None:
    async with contextlib.AsyncExitStack() as stack:
        gateways = [await stack.enter_async_context(listening(shared, settings)) for _ in range(2)]
        key = {"Idempotency-Key": "one"}
        made = [await gateway.post("/v1/jobs", json=CALL, headers=key) for gateway in gateways]
        assert [status for status, _ in made] == [202, 202]
        assert made[0][1]["id"] == made[1][1]["id"]
        more = await asyncio.gather(
            *(gateway.post("/v1/jobs", json=CALL) for gateway in gateways * 3)
        )
        for _, job in (made[0], *more):
            for gateway in gateways:
                assert (await ended(gateway, job["id"]))["state"] == "finished"
                assert told(await results(gateway, job["id"])) == EXPECTED
        _, page = await gateways[0].get("/v1/jobs?limit=5")
        assert len(page["jobs"]) == 5
        _, rest = await gateways[1].get(page["next"])
        assert len(rest["jobs"]) == 2
        async with gateways[0].http.delete(f"{gateways[0].url}/v1/jobs/{job['id']}") as answer:
            assert answer.status == 200
