"""`lmaas gateway` in a process of its own, with a folder and settings of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import click

from benchmarks import rig
from lmaas.broker_config.settings import Settings
from lmaas.producer.gateway import api_keys
from lmaas.producer.gateway.settings import SECTION, GatewaySettings
from lmaas.producer.gateway.state import State, keys

START_TIMEOUT = 60.0
#: Seconds for one request, of those that end by themselves.
PATIENCE = 120.0


@dataclass(frozen=True)
class Gateway:
    """One that listens, and a caller of it."""

    url: str
    http: aiohttp.ClientSession
    pid: int

    @property
    def peak(self) -> int:
        """The most bytes that were resident, since it began or `forget_peak`."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024

    async def get(self, path: str, **headers: str) -> Any:
        """The JSON of an answer 200. Raises ClickException for any other."""
        async with self.http.get(self.url + path, headers=headers) as answer:
            return await _checked(answer, 200)

    async def submit(self, query: str, rows: Any, **headers: str) -> str:
        """The id of a job of NDJSON, when it is accepted. `rows`: bytes, or an iterator of them."""
        headers = {"Content-Type": "application/x-ndjson"} | headers
        url = f"{self.url}/v1/jobs?model={rig.MODEL}&{query}"
        async with self.http.post(url, data=rows, headers=headers, timeout=None) as answer:
            name: str = (await _checked(answer, 202))["id"]
            return name

    async def ended(self, job: str, **headers: str) -> dict[str, Any]:
        """The job, as soon as it has finished."""
        url = f"{self.url}/v1/jobs/{job}/events"
        async with self.http.get(url, headers=headers, timeout=None) as events:
            await events.read()
        view: dict[str, Any] = await self.get(f"/v1/jobs/{job}", **headers)
        if view["state"] != "finished":
            raise click.ClickException(f"job {job} is {view['state']}: {view['reason']}")
        return view

    async def cancel(self, job: str, **headers: str) -> None:
        """Returns when it is cancelled, or is about to be."""
        async with self.http.delete(f"{self.url}/v1/jobs/{job}", headers=headers) as answer:
            await answer.read()


async def _checked(answer: aiohttp.ClientResponse, status: int) -> Any:
    if answer.status != status:
        raise click.ClickException(
            f"{answer.method} {answer.url.path}: {answer.status} {await answer.text()}"
        )
    return await answer.json()


@contextlib.contextmanager
def folder() -> Iterator[GatewaySettings]:
    """Settings with a folder for the state of a gateway, which goes with the block."""
    with tempfile.TemporaryDirectory(prefix="lmaas-gateway-") as path:
        yield GatewaySettings(folder=path)


@contextlib.asynccontextmanager
async def listening(
    state: GatewaySettings, engine: Settings, **settings: object
) -> AsyncIterator[Gateway]:
    """`lmaas gateway` with this state, ready; it ends with the block.

    `settings` are those of the section of `lmaas.toml`, of which sections below it are mappings.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder = Path(str(state.folder))
    file = folder / "lmaas.toml"
    file.write_text(
        _toml(SECTION, {"access": "open", "port": port, "folder": str(folder)} | settings)
    )
    with (folder / "log").open("wb") as log:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "lmaas", "gateway",
            env=rig.environment(engine) | {"LMAAS_CONFIG": str(file)},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    timeout = aiohttp.ClientTimeout(PATIENCE)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as http:
            await _ready(http, url, child)
            yield Gateway(url, http, child.pid)
    finally:
        await rig.end(child)


def _toml(section: str, values: Mapping[str, object]) -> str:
    """A file with these values: those of TOML that are written as in JSON, and mappings."""
    plain = {name: value for name, value in values.items() if not isinstance(value, Mapping)}
    lines = [f"[{section}]", *(f"{name} = {json.dumps(value)}" for name, value in plain.items())]
    below = (
        _toml(f"{section}.{name}", value)
        for name, value in values.items()
        if isinstance(value, Mapping)
    )
    return "\n".join([*lines, *below])


async def _ready(http: aiohttp.ClientSession, url: str, child: asyncio.subprocess.Process) -> None:
    give_up = time.monotonic() + START_TIMEOUT
    while time.monotonic() < give_up and child.returncode is None:
        with contextlib.suppress(aiohttp.ClientError):
            async with http.get(f"{url}/health/ready") as answer:
                if answer.status == 200:
                    return
        await asyncio.sleep(0.05)
    raise click.ClickException(f"the gateway at {url} is not ready")


async def key(settings: GatewaySettings, *scopes: str) -> dict[str, str]:
    """A new key, as the header that its caller sends."""
    written, kept = api_keys.make("benchmark", scopes, time.time())
    async with State(settings) as state, state.writing() as connection:
        await keys.add(connection, kept)
    return {"X-API-Key": written}
