"""The gateway's state in PostgreSQL, which several gateways share; the server is the tests' own."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from lmaas.broker_config.settings import Settings
from lmaas.producer.gateway import api_keys
from lmaas.producer.gateway.settings import GatewaySettings
from lmaas.producer.gateway.state import METADATA, State
from tests.gateway import postgresql
from tests.gateway import test_at_rest as at_rest
from tests.gateway import test_openai_batches as batches
from tests.gateway.conftest import Gateway, listening
from tests.gateway.receivers import receiving, statuses
from tests.gateway.test_jobs import CALL, EXPECTED, ended, results, told
from tests.integration.lanes import serving, until
from tests.payload_keys import new_keys, sealed


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The URL of one, without a database."""
    with postgresql.private() as server:
        yield server.url.rpartition("/")[0]


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
async def test_what_postgresql_cannot_keep_is_the_callers_fault(
    shared: GatewaySettings, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """A text with NUL, which paths may have."""
    async with listening(shared, settings) as gateway:
        paths = ("jobs/%00", "jobs/%00/results", "jobs?after=%00", "files/%00", "batches/%00")
        answers = [await gateway.get(f"/v1/{path}") for path in paths]
        answers.append(await gateway.post("/v1/deliveries/%00/redeliver"))
    for status, answer in answers:
        assert 400 <= status < 500, answer
        assert "0x00" in answer["error"]["message"]
    assert not [one for one in caplog.records if one.levelname == "ERROR"]


@pytest.mark.usefixtures("worker")
async def test_two_gateways_share_batches(shared: GatewaySettings, settings: Settings) -> None:
    content = batches.line("a") + batches.line("b", "")
    async with contextlib.AsyncExitStack() as stack:
        gateways = [await stack.enter_async_context(listening(shared, settings)) for _ in range(2)]
        one, other = [
            await stack.enter_async_context(batches.calling(gateway)) for gateway in gateways
        ]
        file = await one.files.create(file=content, purpose="batch")
        made = await asyncio.gather(
            *(
                client.batches.create(
                    input_file_id=file.id,
                    endpoint=batches.CLASSIFICATIONS,
                    completion_window="24h",
                )
                for client in (one, other) * 3
            )
        )
        (name,) = {batch.id for batch in made}
        more = [await batches.submitted(client, content) for client in (one, other) * 2]
        for client in (one, other):
            for batch in (made[0], *more):
                found = await batches.ended(client, batch)
                assert (found.status, batches.counts(found)) == ("completed", (2, 1, 1))
                assert list(await batches.told(client, found.output_file_id)) == ["a"]
            listed = [batch.id async for batch in client.batches.list(limit=2)]
            assert listed == [batch.id for batch in reversed(more)] + [name]
        assert len((await other.files.list(limit=100)).data) == 5 + 10


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


async def test_no_column_can_be_read(
    shared: GatewaySettings, settings: Settings, tmp_path: Path
) -> None:
    """With payload keys, as in `test_at_rest`; and a gateway that starts anew reads all of it."""
    settings = sealed(settings, new_keys(tmp_path / "payload.keys"))
    shared = at_rest.keeping(shared)
    async with receiving(statuses(500, 204)) as receiver, serving(settings):
        async with listening(shared, settings) as gateway:
            kept = await at_rest.filled(gateway, receiver)
        found = await rows(shared.database or "")
        assert kept.job["id"].encode() in found
        assert [hidden for hidden in at_rest.HIDDEN if hidden in found] == []
        async with listening(shared, settings) as gateway:
            await at_rest.check(gateway, receiver, kept)


async def rows(database: str) -> bytes:
    """Every value of every table."""
    connection = await asyncpg.connect(database)
    try:
        found = [
            value
            for table in METADATA.tables
            for row in await connection.fetch(f'SELECT * FROM "{table}"')
            for value in row
        ]
    finally:
        await connection.close()
    return b"\n".join(one if isinstance(one, bytes) else str(one).encode() for one in found)


#: Status, code, and whether there is a Retry-After.
AWAY = (503, "state_unavailable", True)


async def refused(
    gateway: Gateway, method: str, path: str, **options: Any
) -> tuple[int, str, bool]:
    """As in AWAY."""
    async with gateway.http.request(method, gateway.url + path, **options) as answer:
        told = (await answer.json())["error"]
        return answer.status, told["code"], "Retry-After" in answer.headers


@pytest.mark.usefixtures("worker")
async def test_a_server_that_is_away_is_told_and_comes_back(
    gateway_settings: GatewaySettings, settings: Settings
) -> None:
    with postgresql.private() as server:
        shared = msgspec.structs.replace(gateway_settings, database=server.url, access="keys")
        async with listening(shared, settings) as gateway:
            headers = {"Authorization": f"Bearer {await batches._key(shared, 'jobs')}"}
            status, job = await gateway.post("/v1/jobs", json=CALL, headers=headers)
            assert status == 202
            await asyncio.to_thread(server.stop)
            try:
                unknown, _ = api_keys.make("new", ["jobs"], 0.0)
                for method, path, body in (
                    ("GET", "/v1/jobs", None),
                    ("POST", "/v1/jobs", CALL),
                    ("GET", "/v1/files", None),
                ):
                    for auth in (headers, {"X-API-Key": unknown}):
                        found = await refused(gateway, method, path, json=body, headers=auth)
                        assert found == AWAY, (method, path)
            finally:
                await asyncio.to_thread(server.start)
            status, page = await gateway.get("/v1/jobs", headers=headers)
            assert (status, [one["id"] for one in page["jobs"]]) == (200, [job["id"]])

            async def has_ended() -> bool:
                found = await gateway.get(f"/v1/jobs/{job['id']}", headers=headers)
                return bool(found[1]["state"] == "finished")

            await until(has_ended)


async def test_a_connection_that_is_ended_over_a_statement_is_told(
    shared: GatewaySettings, settings: Settings
) -> None:
    end_those_that_wait = (
        "SELECT pg_stat_clear_snapshot(); "  # or a transaction sees whom it saw first alone
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with listening(shared, settings) as gateway:
        connection = await asyncpg.connect(shared.database)
        try:
            async with connection.transaction():
                await connection.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
                asking = asyncio.create_task(refused(gateway, "GET", "/v1/jobs"))
                while not asking.done():
                    await connection.execute(end_those_that_wait)
        finally:
            await connection.close()
        assert await asking == AWAY
