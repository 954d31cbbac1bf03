"""The main job on this machine: a broker, two workers, single calls, a batch job, HTTP.

Uses the broker in LMAAS_BROKER_URL when it is set, and a private one otherwise, where workers, the
caller and the gateway have users of their own; everything that it starts has ended when it ends.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import csv
import itertools
import json
import os
import secrets
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
from aiohttp import web
from rich.console import Console
from rich.table import Table

import lmaas
from lmaas.broker_config.hosts import connect
from lmaas.broker_config.local_node import LocalNode
from lmaas.broker_config.rights import Role
from lmaas.broker_config.topology import journal, topology
from lmaas.cli.lanes import Lanes
from lmaas.producer.gateway.secret import Secret
from lmaas.producer.gateway.serving import serving
from lmaas.producer.gateway.settings import GatewaySettings
from lmaas.producer.gateway.signatures import StandardWebhooks

MODEL = "sentiment"
WORKERS = 2
#: How much is measured: calls at the same time, and items of the batch job.
CALLS = 2_000
JOB_ITEMS = 20_000
#: Seconds for a callback to come.
PATIENCE = 30
HERE = Path(__file__).parent

console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)


async def main() -> None:
    with (HERE / "reviews.csv").open(encoding="utf-8", newline="") as file:
        reviews = [row["review"] for row in csv.DictReader(file)]
    prefix = f"demo-{uuid.uuid4().hex[:8]}"
    async with broker(prefix) as settings_of, workers(settings_of("worker")):
        caller = settings_of("producer")
        await single_calls(caller, reviews)
        await batch_job(caller, reviews)
        await over_http(settings_of("gateway"))


@contextlib.asynccontextmanager
async def broker(prefix: str) -> AsyncIterator[Callable[[Role], lmaas.Settings]]:
    """A broker that can be used, by who has which role there."""

    def settings(url: str) -> lmaas.Settings:
        models = str(HERE.parent / "models")
        return lmaas.Settings.load(broker_url=url, prefix=prefix, models=models)

    if url := os.environ.get("LMAAS_BROKER_URL"):
        async with cleared(settings(url)):
            yield lambda role: settings(url)
        return
    began = time.perf_counter()
    async with LocalNode(prefix=prefix) as node:
        await Lanes(settings(node.url_of("operator")), [MODEL]).make()
        console.print(f"private RabbitMQ started in {time.perf_counter() - began:.1f} s")
        yield lambda role: settings(node.url_of(role))


@contextlib.asynccontextmanager
async def workers(settings: lmaas.Settings) -> AsyncIterator[None]:
    """Worker processes that consume; they drain in the end."""
    began = time.perf_counter()
    environment = os.environ | {
        "LMAAS_BROKER_URL": settings.broker_url,
        "LMAAS_PREFIX": settings.prefix,
        "LMAAS_MODELS": settings.models,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lmaas", "worker", "--processes", str(WORKERS)),
        env=environment,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        for _ in range(WORKERS):
            while b"ready" not in (line := await process.stderr.readline()):
                if not line:
                    raise SystemExit("the workers did not start")
        console.print(f"{WORKERS} workers ready in {time.perf_counter() - began:.1f} s\n")
        yield
    finally:
        process.terminate()
        await process.communicate()


@contextlib.asynccontextmanager
async def cleared(settings: lmaas.Settings) -> AsyncIterator[None]:
    """Leaves nothing on a broker that is not ours alone."""
    try:
        yield
    finally:
        async with await connect(settings, name="demo") as connection:
            channel = await connection.channel()
            names, kind = settings.names, settings.queue_type
            for made in (
                topology(names, kind, [MODEL], settings.retry_delays),
                journal(names, kind),
            ):
                for queue in made.queues:
                    await channel.queue_delete(queue.name)
                for exchange in made.exchanges:
                    await channel.exchange_delete(exchange.name)


async def single_calls(settings: lmaas.Settings, reviews: list[str]) -> None:
    async with lmaas.Client(settings) as client:
        results = await asyncio.gather(
            *(client.classify(MODEL, review, errors="return") for review in reviews)
        )
        show(reviews, results)
        texts = itertools.islice(itertools.cycle(filter(None, reviews)), CALLS)
        began = time.perf_counter()
        await asyncio.gather(*(client.classify(MODEL, text) for text in texts))
        rate = CALLS / (time.perf_counter() - began)
    console.print(f"{CALLS:,} single calls at the same time: {rate:,.0f} a second")


async def batch_job(settings: lmaas.Settings, reviews: list[str]) -> None:
    texts = itertools.islice(itertools.cycle(reviews), JOB_ITEMS)
    async with lmaas.Jobs(settings) as jobs:
        began = time.perf_counter()
        job = await jobs.submit(MODEL, texts)
        submitted = time.perf_counter() - began
        counts = {"positive": 0, "negative": 0, "errors": 0}
        async for chunk in jobs.results(job.job):
            for result in chunk.reply.results:
                counts[result.label or "errors"] += 1
        rate = JOB_ITEMS / (time.perf_counter() - began)
    told = ", ".join(f"{number:,} {name}" for name, number in counts.items())
    console.print(
        f"a batch job of {JOB_ITEMS:,} short texts: submitted in {submitted:.1f} s, "
        f"{rate:,.0f} a second until the last result:\n{told}"
    )


async def over_http(settings: lmaas.Settings) -> None:
    """A call as curl makes it, and a job whose end a callback tells."""
    secret = f"whsec_{base64.b64encode(secrets.token_bytes(24)).decode()}"
    with tempfile.TemporaryDirectory() as folder:
        gateway = GatewaySettings(
            access="open", port=0, folder=folder, allowed_networks=("127.0.0.0/8",)
        )
        async with (
            serving(gateway, settings) as url,
            receiving(secret) as (callback_url, received),
            aiohttp.ClientSession() as http,
        ):
            call = {"model": MODEL, "items": ["What a wonderful film!", "Dull. A waste of time."]}
            async with http.post(f"{url}/v1/classify", json=call) as answer:
                found = await answer.text()
            console.print(f"\ncurl -d '{json.dumps(call)}' {url}/v1/classify\n{found}")
            job = call | {"callback_url": callback_url, "callback_secret": secret}
            async with http.post(f"{url}/v1/jobs", json=job) as answer:
                accepted = answer.headers["Location"]
            console.print(f"a job with a callback: {answer.status}, {accepted}")
            console.print(await asyncio.wait_for(received, PATIENCE))


@contextlib.asynccontextmanager
async def receiving(secret: str) -> AsyncIterator[tuple[str, asyncio.Future[str]]]:
    """A receiver of webhooks that checks signatures: its URL, and what came first, in words."""
    scheme = StandardWebhooks([Secret(secret)])
    received: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def receive(request: web.Request) -> web.Response:
        body = await request.read()
        signed = scheme.verify(request.headers, body, time.time())
        if not received.done():
            told = "its signature is right" if signed else "its signature is WRONG"
            received.set_result(f"the callback came, {told}: {json.loads(body)['type']}")
        return web.Response(status=204 if signed else 401)

    app = web.Application()
    app.router.add_post("/", receive)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/", received
    finally:
        await runner.cleanup()


def show(reviews: list[str], results: list[lmaas.Result]) -> None:
    table = Table(title="single calls through the queue")
    table.add_column("review", no_wrap=True, overflow="ellipsis", max_width=58)
    table.add_column("label", no_wrap=True)
    table.add_column("score", no_wrap=True)
    for review, result in zip(reviews, results, strict=True):
        if result.error:
            table.add_row(repr(review), f"[red]error: {result.error.message}[/red]", "")
        else:
            table.add_row(review, result.label, f"{result.score:.3f}")
    console.print(table)


if __name__ == "__main__":
    asyncio.run(main())
