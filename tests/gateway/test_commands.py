"""`lmaas gateway` as a command: real processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from lmaas.broker_config.settings import Settings
from lmaas.cli.exits import Exit
from tests.integration.lanes import LIMIT

CALL = {"model": "sentiment", "items": ["a wonderful, moving film"]}


@contextlib.asynccontextmanager
async def command(*arguments: str, **variables: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A command that runs; it gets SIGTERM at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "lmaas",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=os.environ | variables,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(LIMIT):
                await process.communicate()


async def line(process: asyncio.subprocess.Process, beginning: str) -> str:
    """The first line of its output that begins so."""
    assert process.stdout is not None
    async with asyncio.timeout(LIMIT):
        async for found in process.stdout:
            if found.decode().startswith(beginning):
                return found.decode().strip()
    raise AssertionError(f"it ended without a line {beginning!r}")


def of(settings: Settings) -> dict[str, str]:
    """The test's own queues, for a command."""
    return {"LMAAS_BROKER_URL": settings.broker_url, "LMAAS_PREFIX": settings.prefix}


@pytest.mark.usefixtures("worker")
async def test_a_gateway_of_its_own_ends_by_a_signal(settings: Settings, tmp_path: Path) -> None:
    arguments = ("gateway", "--port", "0", "--access", "open", "--folder", str(tmp_path))
    async with command(*arguments, **of(settings)) as process:
        url = (await line(process, "gateway: ")).split()[1].rstrip(",")
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{url}/v1/classify", json=CALL) as answer,
        ):
            assert (await answer.json())["results"][0]["label"] == "positive"
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(LIMIT):
            assert await process.wait() == Exit.OK


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--access", "open", "--host", "0.0.0.0"], "without keys, for everybody who reaches it"),
        (["--port", "70000"], "gateway.port (argument) is 70000"),
        (["--access", "open", "--host", "192.0.2.1"], "without keys"),
    ],
)
async def test_what_would_be_unsafe_or_wrong_is_refused(arguments: list[str], words: str) -> None:
    async with command("gateway", *arguments) as process:
        told, _ = await process.communicate()
        assert words in told.decode()
        assert process.returncode == Exit.USAGE


async def test_a_port_that_is_taken_is_told(settings: Settings, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        arguments = ("gateway", "--port", port, "--access", "open", "--folder", str(tmp_path))
        async with command(*arguments, **of(settings)) as process:
            told, _ = await process.communicate()
            assert f"cannot listen at 127.0.0.1:{port}" in told.decode()
            assert process.returncode == Exit.USAGE


async def test_tls_files_that_are_none_are_told(settings: Settings, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    wrong.chmod(0o600)
    variables = of(settings) | {"LMAAS_GATEWAY_TLS_CERTIFICATE": str(wrong)}
    async with command("gateway", "--port", "0", "--folder", str(tmp_path), **variables) as process:
        told, _ = await process.communicate()
        assert "gateway.tls_certificate" in told.decode()
        assert process.returncode == Exit.USAGE


async def test_it_is_described(settings: Settings, tmp_path: Path) -> None:
    arguments = ("gateway", "--port", "0", "--access", "open", "--folder", str(tmp_path))
    async with command(*arguments, **of(settings)) as process:
        url = (await line(process, "gateway: ")).split()[1].rstrip(",")
        async with aiohttp.ClientSession() as http, http.get(f"{url}/openapi.json") as answer:
            found = json.loads(await answer.text())
    assert found["openapi"] == "3.1.0"
    assert "/v1/classify" in found["paths"]
