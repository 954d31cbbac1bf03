"""One text a POST over HTTP, by wrk: the gateway beside servers of models, with their batching on.

The gateway has a broker and a worker process behind it, the others have one process that runs the
model beside those that they answer from. All share the machine with wrk.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import click

from benchmarks import rig
from benchmarks.report import Figure, Report, bars
from lmaas.broker_config.settings import Settings

WORDS = 60
#: Connections, each of which has one request on its way.
CONNECTIONS = (1, 64, 256)
SECONDS = 4
WARM_UP = 1
ROUNDS = 2
START_TIMEOUT = 60.0

OURS = "LMaaS, lmaas gateway"
ECHO = "aiohttp, an echo"
LITSERVE = "LitServe"
BENTOML = "BentoML"
RAY = "Ray Serve"

#: Texts a request: wrk takes them in turn.
SCRIPT = """\
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local bodies, next = {}, 0
for line in io.lines(os.getenv("BODIES")) do bodies[#bodies + 1] = line end
request = function()
  next = next % #bodies + 1
  return wrk.format(nil, nil, nil, bodies[next])
end
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format("figures %d %d %d %d\\n", summary.requests, summary.duration,
    latency:percentile(50), e.connect + e.read + e.write + e.status + e.timeout))
end
"""


@dataclass(frozen=True)
class Server:
    """How one is started, and asked."""

    command: Callable[[int], tuple[str, ...]]
    path: str
    body: Callable[[str], object]


SERVERS = {
    OURS: Server(
        lambda port: ("-m", "lmaas", "gateway", "--port", str(port), "--access", "open"),
        "/v1/classify",
        lambda text: {"model": rig.MODEL, "items": [text]},
    ),
    ECHO: Server(
        lambda port: ("-m", "benchmarks.peers.echo", str(port)),
        "/v1/classify",
        lambda text: {"model": rig.MODEL, "items": [text]},
    ),
    LITSERVE: Server(
        lambda port: ("-m", "benchmarks.peers.litserve", str(port)),
        "/predict",
        lambda text: {"text": text},
    ),
    BENTOML: Server(
        lambda port: (
            "-m", "bentoml", "serve", "benchmarks.peers.bentoml:Reviews",
            "--host", "127.0.0.1", "--port", str(port),
        ),
        "/classify",
        lambda text: {"texts": [text]},
    ),
    RAY: Server(
        lambda port: ("-m", "benchmarks.peers.ray_serve", str(port)),
        "/",
        lambda text: {"text": text},
    ),
}  # fmt: skip
#: What they would tell their makers, they do not.
QUIET = {"BENTOML_DO_NOT_TRACK": "True", "RAY_USAGE_STATS_ENABLED": "0", "DO_NOT_TRACK": "1"}

#: By connections: how often as many requests a second as each.
GOALS = {
    64: {LITSERVE: 10, BENTOML: 10, RAY: 25, ECHO: 0.5},
    256: {ECHO: 0.7},
}


@dataclass(frozen=True)
class Seen:
    """Requests a second, and the median of their seconds."""

    rate: float
    median: float


async def measure() -> Report:
    texts = [" ".join(review.split()[:WORDS]) for review in rig.reviews()[:5000]]
    best: dict[tuple[str, int], Seen] = {}
    with tempfile.TemporaryDirectory(prefix="lmaas-http-") as folder:
        script = Path(folder) / "post.lua"
        script.write_text(SCRIPT)
        async with rig.broker() as settings:
            for _ in range(ROUNDS):
                for name, server in SERVERS.items():
                    bodies = Path(folder) / "bodies"
                    bodies.write_text("".join(f"{json.dumps(server.body(t))}\n" for t in texts))
                    workers = rig.workers(settings, 1) if name == OURS else contextlib.nullcontext()
                    async with workers, _serving(server, settings, Path(folder), texts[0]) as url:
                        for connections in CONNECTIONS:
                            await _wrk(url, script, bodies, connections, WARM_UP)
                            seen = await _wrk(url, script, bodies, connections, SECONDS)
                            known = best.get((name, connections))
                            if known is None or seen.rate > known.rate:
                                best[name, connections] = seen
    return _report(best)


def _report(best: dict[tuple[str, int], Seen]) -> Report:
    figures = [
        Figure(
            name=f"{connections} connections: {name}", value=best[name, connections].rate, unit="/s"
        )
        for connections in CONNECTIONS[1:]
        for name in SERVERS
    ]
    figures += [
        Figure(name=f"one connection, p50: {name}", value=best[name, 1].median * 1000, unit="ms")
        for name in SERVERS
    ]
    figures += [
        Figure(
            name=f"{connections} connections: LMaaS / {name}",
            value=best[OURS, connections].rate / best[name, connections].rate,
            unit="",
            at_least=GOALS[connections].get(name),
        )
        for connections in GOALS
        for name in SERVERS
        if name != OURS
    ]
    return Report(
        benchmark="http",
        setting=f"one text of {WORDS} words a POST, by wrk for {SECONDS} s, one worker process; "
        f"best of {ROUNDS}",
        figures=figures,
        plots=[
            bars(
                "Requests a second over 64 connections",
                "/s",
                {name: best[name, 64].rate for name in SERVERS},
                ours=[OURS],
            )
        ],
    )


@contextlib.asynccontextmanager
async def _serving(
    server: Server, settings: Settings, folder: Path, text: str
) -> AsyncIterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = (
        rig.environment(settings) | QUIET | {"LMAAS_GATEWAY_FOLDER": str(folder / "state")}
    )
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *server.command(port),
        env=environment,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        url = f"http://127.0.0.1:{port}{server.path}"
        await _answers(url, server.body(text))
        yield url
    finally:
        await rig.end(child)


async def _answers(url: str, body: object) -> None:
    """Waits for the first good answer."""
    give_up = time.monotonic() + START_TIMEOUT
    async with aiohttp.ClientSession() as http:
        while time.monotonic() < give_up:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with http.post(url, json=body, timeout=aiohttp.ClientTimeout(5)) as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.1)
    raise click.ClickException(f"{url} does not answer")


async def _wrk(url: str, script: Path, bodies: Path, connections: int, seconds: int) -> Seen:
    """Raises ClickException when requests failed, or wrk is missing."""
    command = (
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        "--timeout",
        "10s",
        "-s",
        str(script),
    )
    try:
        wrk = await asyncio.create_subprocess_exec(
            *command, url, env=os.environ | {"BODIES": str(bodies)}, stdout=asyncio.subprocess.PIPE
        )
    except FileNotFoundError as error:
        raise click.ClickException("wrk is missing: apt install wrk") from error
    told, _ = await wrk.communicate()
    found = re.search(rb"^figures (\d+) (\d+) (\d+) (\d+)$", told, re.MULTILINE)
    if wrk.returncode or not found:
        raise click.ClickException(f"wrk {url}: {told.decode()}")
    requests, microseconds, median, errors = map(int, found.groups())
    if errors:
        raise click.ClickException(f"{errors} of {requests} requests to {url} failed")
    return Seen(requests / (microseconds / 1e6), median / 1e6)
