"""The gateway's database: made by migrations, by several processes at once, in transactions."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.exc import OperationalError

from lmaas.broker_config.errors import SettingsError
from lmaas.producer.gateway.failures import failure
from lmaas.producer.gateway.settings import GatewaySettings
from lmaas.producer.gateway.state import (
    METADATA,
    State,
    batches,
    deliveries,
    files,
    idempotency,
    jobs,
    keys,
    received,
    usage,
)

#: Every module that has tables.
MODULES = (batches, deliveries, files, idempotency, jobs, keys, received, usage)

#: Opens the state, and adds one row for each of its numbers.
_OPENER = """
import asyncio, sys
import sqlalchemy as sa
from lmaas.producer.gateway.settings import GatewaySettings
from lmaas.producer.gateway.state import State
from lmaas.producer.gateway.state.idempotency import requests

async def main(settings):
    async with State(settings) as state:
        for number in range(20):
            async with state.writing() as connection:
                rows = await connection.scalar(sa.select(sa.func.count()).select_from(requests))
                row = dict(owner=sys.argv[2], key=str(rows), request=b"", created=0.0)
                await connection.execute(sa.insert(requests).values(row))

asyncio.run(main(GatewaySettings(folder=sys.argv[1])))
"""


async def test_migrations_make_what_the_code_describes(gateway_settings: GatewaySettings) -> None:
    async with State(gateway_settings) as state, state.writing() as connection:
        differences = await connection.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync), METADATA)
        )
    assert MODULES
    assert differences == []


async def test_processes_that_start_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    openers = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", _OPENER, str(folder), str(number), env=os.environ
        )
        for number in range(4)
    ]
    assert [await opener.wait() for opener in openers] == [0, 0, 0, 0]
    async with State(GatewaySettings(folder=str(folder))) as state, state.reading() as connection:
        keys = list(await connection.scalars(sa.select(idempotency.requests.c.key)))
        assert await connection.scalar(sa.text("PRAGMA journal_mode")) == "wal"
    # Each has seen all rows that were there before its own.
    assert sorted(map(int, keys)) == list(range(80))


async def test_a_transaction_is_all_or_nothing_and_readers_do_not_wait(
    gateway_settings: GatewaySettings,
) -> None:
    row = {"owner": "", "key": "a", "request": b"", "created": 0.0}
    count = sa.select(sa.func.count()).select_from(idempotency.requests)
    async with State(gateway_settings) as state:

        async def half() -> None:
            async with state.writing() as connection:
                await connection.execute(sa.insert(idempotency.requests).values(row))
                async with state.reading() as reader:
                    assert await reader.scalar(count) == 0
                raise RuntimeError("half-way")

        with pytest.raises(RuntimeError, match="half-way"):
            await half()
        async with state.reading() as reader:
            assert await reader.scalar(count) == 0


async def test_what_cannot_be_a_database_is_told(
    gateway_settings: GatewaySettings, tmp_path: Path
) -> None:
    for database in ("nonsense", "mysql://here/there"):
        with pytest.raises(SettingsError, match=r"gateway\.database"):
            State(msgspec.structs.replace(gateway_settings, database=database))
    nobody = "postgresql://me:secret@127.0.0.1:1/x"
    with pytest.raises(SettingsError) as told:
        async with State(msgspec.structs.replace(gateway_settings, database=nobody)):
            pass
    assert "secret" not in str(told.value)
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="cannot be kept"):
        async with State(GatewaySettings(folder=str(tmp_path / "file" / "folder"))):
            pass
    (tmp_path / "state.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(SettingsError, match=r"state\.sqlite: file is not a database; .* move it"):
        async with State(GatewaySettings(folder=str(tmp_path))):
            pass


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_file_that_is_deleted_while_it_is_used_is_told(
    gateway_settings: GatewaySettings, replaced: bool
) -> None:
    """Otherwise what is accepted goes into a file that nobody can open again."""
    async with State(gateway_settings) as state:
        async with state.writing():
            pass
        path = state.folder / "state.sqlite"
        path.unlink()
        if replaced:
            path.touch()
        for transaction in (state.reading, state.writing):
            with pytest.raises(OperationalError, match="was deleted or replaced") as told:
                async with transaction():
                    pass
            failed = failure(told.value)
            assert failed is not None
            assert (failed.status, failed.code) == (503, "state_unavailable")
            assert "start the gateway again" in failed.message


async def test_errors_have_no_values_and_no_links(gateway_settings: GatewaySettings) -> None:
    async with State(gateway_settings) as state, state.writing() as connection:
        statement = sa.text("INSERT INTO none VALUES (:one)")
        with pytest.raises(OperationalError) as told:
            await connection.execute(statement, {"one": "whsec_x"})
    assert "no such table" in str(told.value)
    assert "whsec_x" not in str(told.value)
    assert "https://" not in str(told.value)


async def test_who_is_cancelled_leaves_the_database_free(gateway_settings: GatewaySettings) -> None:
    """At any moment: while it begins, writes, fails or commits; also while its error is kept."""
    rounds = 0
    async with State(gateway_settings) as state:

        async def write() -> None:
            nonlocal rounds
            while True:
                rounds += 1
                async with state.reading() as connection:
                    await connection.scalar(sa.select(idempotency.requests.c.key))
                # Of those that begin together one succeeds.
                row = {"owner": "", "key": str(rounds), "request": b"", "created": 0.0}
                async with state.writing() as connection:
                    await connection.execute(sa.insert(idempotency.requests).values(row))

        for _ in range(150):
            writers = [asyncio.create_task(write()) for _ in range(3)]
            await asyncio.wait(writers, timeout=random.random() * 0.02)
            for writer in writers:
                writer.cancel()
            ends = await asyncio.gather(*writers, return_exceptions=True)
            expected = (asyncio.CancelledError, sa.exc.IntegrityError)
            assert all(isinstance(end, expected) for end in ends), ends
            async with asyncio.timeout(60), state.writing():
                pass
