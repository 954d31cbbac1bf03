"""What is older than a moment goes from the gateway's state, with its files; the rest stays."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from lmaas.broker_config.settings import Settings
from lmaas.cli.exits import Exit
from lmaas.cli.purge import command
from lmaas.producer.gateway.jobs.result_file import index_path, lines_path
from lmaas.producer.gateway.purging import older
from lmaas.producer.gateway.settings import GatewaySettings
from lmaas.producer.gateway.settings.hooks import Hook
from lmaas.producer.gateway.state import State, database
from lmaas.producer.gateway.state.batches import batches
from lmaas.producer.gateway.state.deliveries import deliveries
from lmaas.producer.gateway.state.files import files
from lmaas.producer.gateway.state.idempotency import requests
from lmaas.producer.gateway.state.jobs import jobs
from lmaas.producer.gateway.state.received import received
from lmaas.producer.purging import Removed

DAY = 86_400.0
NOW = time.time()
CANARY = b"zz-the-text-of-somebody-zz"
TABLES = (jobs, batches, files, deliveries, requests, received)


def row(table: sa.Table, **values: Any) -> sa.Insert:
    """With something in each column that must not be empty."""
    fill: dict[type, Any] = {str: "x", bytes: b"[]", float: NOW, int: 0, bool: False}
    needed = {
        column.name: fill[column.type.python_type]
        for column in table.columns
        if not column.nullable and column.name not in values
    }
    return sa.insert(table).values(needed | values)


def rows(name: str, at: float) -> list[sa.Insert]:
    """One of everything, which ended, or was made, at a moment."""
    return [
        row(jobs, id=name, ended=at, reason=CANARY.decode()),
        row(batches, id=name, state="completed", ended=at),
        row(files, id=f"file-{name}", created=at),
        row(deliveries, id=name, ended=at, body=CANARY),
        row(requests, owner=name, created=at, status=200, body=CANARY),
        row(received, hook="mine", delivery=name, status=200, expires=at + DAY, body=CANARY),
        row(received, hook="was", delivery=name, status=200, expires=at + 30 * DAY),
    ]


async def prepared(settings: GatewaySettings) -> list[Path]:
    """Old things, new ones, and what is not over; all files."""
    begun = [
        row(jobs, id="runs"),
        row(jobs, id="clears", ended=1.0, on_broker=True),
        row(batches, id="runs", state="in_progress", input_file="file-used"),
        row(files, id="file-used", created=1.0),
        row(deliveries, id="waits", state="pending", due=1.0),
        row(requests, owner="waits", created=1.0, holder="y"),
        row(received, hook="mine", delivery="waits", expires=1.0, held_until=1.0),
    ]
    async with State(settings) as state:
        async with state.writing() as connection:
            for insert in (*rows("old", NOW - 40 * DAY), *rows("new", NOW - 20 * DAY), *begun):
                await connection.execute(insert)
        for folder in (state.results, state.files):
            folder.mkdir(exist_ok=True)
        paths = []
        for name in ("old", "new"):
            paths += [
                lines_path(state.results, name),
                index_path(state.results, name),
                state.results / f"{name}.csv",
                state.files / f"file-{name}",
            ]
    for path in paths:
        path.write_bytes(CANARY)
    return paths


async def count(settings: GatewaySettings) -> list[int]:
    async with State(settings) as state, state.reading() as connection:
        query = sa.func.count()
        found = [await connection.scalar(sa.select(query).select_from(one)) for one in TABLES]
    return [number or 0 for number in found]


async def test_what_is_old_goes_with_its_files(gateway_settings: GatewaySettings) -> None:
    hook = Hook(scheme="none", text="text", model="sentiment", remember=DAY)
    settings = GatewaySettings(folder=gateway_settings.folder, hooks={"mine": hook})
    paths = await prepared(settings)
    place = f"gateway {settings.folder}"
    expected = [
        Removed(place, "jobs with results", 1),
        Removed(place, "batches", 1),
        Removed(place, "files", 1),
        Removed(place, "callbacks", 1),
        Removed(place, "answers with an Idempotency-Key", 1),
        Removed(place, "webhooks that came in", 2),
    ]
    before = await count(settings)
    assert (await older(settings, NOW - 30 * DAY, dry=True)).removed == expected
    assert (await count(settings), all(path.exists() for path in paths)) == (before, True)
    assert (await older(settings, NOW - 30 * DAY)).removed == expected
    assert await count(settings) == [n - one.count for n, one in zip(before, expected, strict=True)]
    assert [path.exists() for path in paths] == [False] * 4 + [True] * 4
    assert (await older(settings, NOW - 30 * DAY)).removed == []


async def test_nothing_is_left_in_the_database_file(gateway_settings: GatewaySettings) -> None:
    await prepared(gateway_settings)
    folder = Path(gateway_settings.state_folder)

    def found() -> int:
        return sum(path.read_bytes().count(CANARY) for path in folder.glob("state.sqlite*"))

    async with State(gateway_settings) as running:  # a gateway that goes on, and its log with it
        async with running.writing() as connection:
            await connection.execute(row(deliveries, id="late", ended=1.0, body=CANARY))
        assert found() > 0
        assert (await older(gateway_settings, NOW)).remains == []
        assert found() == 0


async def test_a_log_that_is_in_use_is_told(
    gateway_settings: GatewaySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await prepared(gateway_settings)
    monkeypatch.setattr(database, "_PATIENCE", 0.1)
    async with State(gateway_settings) as running, running.reading() as connection:
        await connection.execute(sa.select(jobs))  # it goes on to see what there was
        (told,) = (await older(gateway_settings, NOW)).remains
    assert "the log of its database is in use" in told


def test_the_command_has_it_too(gateway_settings: GatewaySettings, settings: Settings) -> None:
    import asyncio

    folder = str(gateway_settings.folder)
    place = ["--broker", settings.broker_url, "--prefix", settings.prefix]
    environment = {"LMAAS_GATEWAY_FOLDER": folder}

    def lmaas(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(command, [*arguments, *place], env=environment)
        return done.exit_code, done.output

    assert lmaas("--older-than", "30d", "--yes") == (Exit.OK, "nothing to remove\n")
    assert not Path(folder).exists()
    asyncio.run(prepared(gateway_settings))
    code, output = lmaas("--older-than", "30d", "--yes")
    assert (code, "callbacks" in output) == (Exit.OK, True)
    code, output = lmaas("--id", "somebody", "--yes")
    assert code == Exit.SOME_FAILED
    assert "not searched for ids: 3 jobs with results; 2 files, until" in output
