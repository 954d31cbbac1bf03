"""Health, metrics, logs and spans of real workers: what their operators see."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from benchmarks import rig
from benchmarks.failures.processes import forked_by
from lmaas.broker_config.errors import BrokerUnavailable
from lmaas.broker_config.headers import Headers
from lmaas.broker_config.local_node import LocalNode
from lmaas.broker_config.messages import Item, Request
from lmaas.broker_config.scheduling import LANES
from lmaas.broker_config.settings import Settings
from lmaas.producer.client import Client
from lmaas.producer.gateway.settings import GatewaySettings
from lmaas.producer.publishing import PackPublisher
from lmaas.workers import watch
from lmaas.workers.consumer import Consumer
from lmaas.workers.worker import Worker
from tests.gateway.conftest import listening
from tests.integration.lanes import LIMIT, channel_to, consumers, having, make_lanes, serving, until
from tests.integration.sender import Sender, of_others
from tests.integration.stage import Stage
from tests.integration.worker_process import StartWorker

GOOD = "a wonderful, moving film"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def port() -> int:
    """One that is free, and the next one too."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            found: int = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", found + 1))
            except (OSError, OverflowError):
                continue
            return found


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


class Probe:
    """Asks one worker."""

    def __init__(self, http: aiohttp.ClientSession, port: int) -> None:
        self._http = http
        self._url = f"http://127.0.0.1:{port}"

    async def status(self, kind: str) -> tuple[int, str | None]:
        """0 when nobody answers."""
        try:
            async with self._http.get(f"{self._url}/health/{kind}") as response:
                return response.status, (await response.json())["problem"]
        except aiohttp.ClientConnectionError:
            return 0, None

    async def until(self, kind: str, status: int) -> str | None:
        """Waits for it; what it says is the problem."""

        async def is_so() -> bool:
            nonlocal problem
            found, problem = await self.status(kind)
            return found == status

        problem: str | None = None
        await until(is_so)
        return problem

    async def metrics(self) -> dict[str, float]:
        """By name and labels, as they are written."""
        async with self._http.get(f"{self._url}/metrics") as response:
            text = await response.text()
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = ",".join(f"{name}={sample.labels[name]}" for name in sorted(sample.labels))
                key = f"{sample.name}{{{labels}}}" if labels else sample.name
                assert key not in found, "twice in one page"
                found[key] = sample.value
        return found


@pytest.fixture
def probe(http: aiohttp.ClientSession, port: int) -> Probe:
    return Probe(http, port)


async def asked(port: int, *arguments: str) -> tuple[int, list[str]]:
    """Exit code and lines of `lmaas worker health`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "lmaas", "worker", "health", "--port", str(port), *arguments,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    told, _ = await process.communicate()
    return process.returncode or 0, told.decode().splitlines()


# ------------------------------------------------------------------ readiness


async def test_a_worker_is_ready_while_it_consumes(
    settings: Settings, node: LocalNode, start_worker: StartWorker, port: int, probe: Probe
) -> None:
    own = having(settings, broker_url=node.url)
    node.kill()
    worker = await start_worker(
        until="no broker", LMAAS_BROKER_URL=node.url, LMAAS_HEALTH_PORT=str(port),
        LMAAS_PROCESSES="1", LMAAS_MAX_PACK_ITEMS="20000",
    )  # fmt: skip
    assert await probe.status("live") == (200, None)
    assert await probe.status("ready") == (503, "starting")
    assert await asked(port, "--processes", "1") == (1, [f"127.0.0.1:{port} not well: starting"])
    assert await asked(port, "--processes", "1", "--live") == (0, [f"127.0.0.1:{port} live"])

    await node.start()
    await probe.until("ready", 200)
    await worker.says("ready")
    assert await consumers(own, own.names.work_queue("sentiment", "short")) == 1
    assert await asked(port, "--processes", "1") == (0, [f"127.0.0.1:{port} ready"])

    node.kill()
    assert "no connection" in (await probe.until("ready", 503) or "")
    assert await probe.status("live") == (200, None)
    await node.start()
    back = time.monotonic()
    await probe.until("ready", 200)
    assert time.monotonic() - back < 30
    found = await probe.metrics()  # a broker that is just starting may hang up again
    assert found["lmaas_reconnects_total{link=consume}"] >= 1
    assert found["lmaas_reconnects_total{link=publish}"] >= 1

    texts = [GOOD * 20] * 20_000
    one_pack = having(own, pack_items=len(texts), pack_bytes=1 << 30, max_pack_items=len(texts))
    async with Client(one_pack) as client:
        answers = asyncio.create_task(_labels(client, texts))
        await until(lambda: _is_running(probe))
        worker.send(signal.SIGTERM)
        assert await probe.until("ready", 503) == "draining"
        assert await probe.status("live") == (200, None)
        assert await answers == {"positive"}
    assert await worker.ended() == 0
    assert await probe.status("live") == (0, None)
    code, lines = await asked(port, "--processes", "1")
    assert code == 1
    assert "no answer" in lines[0]


async def _labels(client: Client, texts: list[str]) -> set[str | None]:
    return {result.label async for result in client.classify_many("sentiment", texts)}


async def _is_running(probe: Probe) -> bool:
    return (await probe.metrics())["lmaas_packs_running"] == 1


async def test_each_process_has_a_port_and_one_that_was_killed_is_back_at_its_own(
    start_worker: StartWorker, http: aiohttp.ClientSession, port: int
) -> None:
    supervisor = await start_worker(
        "--processes", "2", "--health-port", str(port), until=None
    )  # fmt: skip
    probes = [Probe(http, port), Probe(http, port + 1)]
    for probe in probes:
        await probe.until("ready", 200)
    assert await asked(port, "--processes", "2") == (
        0,
        [f"127.0.0.1:{port} ready", f"127.0.0.1:{port + 1} ready"],
    )
    (victim,) = [child for child in forked_by(supervisor.pid) if listens(child, port)]
    neighbours = set(forked_by(supervisor.pid)) - {victim}
    victim.kill()
    killed = time.monotonic()

    async def another() -> bool:
        return len(set(forked_by(supervisor.pid)) - neighbours - {victim}) == 1

    await until(another)
    assert time.monotonic() - killed < 30
    await probes[0].until("ready", 200)
    await supervisor.says("worker process 0 ended with signal SIGKILL")
    await supervisor.says("ready", times=3)


def listens(process: psutil.Process, port: int) -> bool:
    return any(
        link.laddr.port == port
        for link in process.net_connections("tcp")
        if link.status == psutil.CONN_LISTEN
    )


@pytest.mark.parametrize(("processes", "code"), [("1", 2), ("2", 1)])
async def test_a_port_that_is_taken_ends_a_worker_with_words(
    start_worker: StartWorker, port: int, processes: str, code: int
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        worker = await start_worker(
            "--processes", processes, "--health-port", str(port), until="error:"
        )
        assert await worker.ended() == code
    told = "".join(worker.lines)
    assert f"cannot be told at 127.0.0.1:{port}" in told
    assert "health_port" in told
    assert "Traceback" not in told


async def test_a_worker_that_was_not_asked_to_tell_listens_nowhere(
    start_worker: StartWorker,
) -> None:
    worker = await start_worker()
    links = psutil.Process(worker.pid).net_connections("tcp")
    assert links, "it has its connections to the broker"
    assert all(link.status != psutil.CONN_LISTEN for link in links)
    assert await asked(0) == (2, [])


# ---------------------------------------------------------------- consumption


async def test_a_worker_whose_lane_was_deleted_consumes_it_again(
    settings: Settings, start_worker: StartWorker, port: int, probe: Probe
) -> None:
    await start_worker("--processes", "1", "--health-port", str(port))
    lane = settings.names.work_queue("sentiment", "short")
    async with channel_to(settings) as channel:
        await channel.queue_delete(lane)
    deleted = time.monotonic()

    async def is_back() -> bool:
        return await consumers(settings, lane) == 1

    await until(is_back)
    await probe.until("ready", 200)
    assert time.monotonic() - deleted < 30
    async with Client(settings) as client:
        assert (await client.classify("sentiment", GOOD)).label == "positive"


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "INTERVAL", 0.2)


@pytest.mark.parametrize("side", ["the broker's", "ours"])
async def test_a_consumer_that_is_gone_without_a_word_is_made_anew(
    quick_looks: None, settings: Settings, side: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(settings) as worker, Client(settings) as client:
        before = await _channel(worker)
        lane = worker.lanes[2]
        registered = before.consumers[lane.tag]
        if side == "ours":
            del before.consumers[lane.tag]
        else:
            await before.basic_cancel(lane.tag)
            before.consumers[lane.tag] = registered

        async def is_known() -> bool:
            return worker.not_ready == f"nobody consumes {lane.queue.name}"

        async def is_ready() -> bool:
            return worker.not_ready is None

        assert worker.not_ready is None
        await until(is_known)
        await until(is_ready)
        assert await _channel(worker) is not before
        assert await consumers(settings, lane.queue.name) == 1
        assert (await client.classify("sentiment", GOOD)).label == "positive"
    lost = [r for r in caplog.records if getattr(r, "action", None) == "consumer_lost"]
    assert len(lost) == 1


async def _channel(worker: Worker) -> Any:
    assert worker.watch is not None
    channel = await worker.watch._consumer.session.channel()
    return await channel.get_underlay_channel()


async def test_a_worker_that_cannot_consume_ends(
    quick_looks: None, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nobody(_: Consumer) -> str:
        return "the lane"

    monkeypatch.setattr(Consumer, "unconsumed", nobody)
    worker = Worker(having(settings, connect_timeout=1.0))
    with pytest.raises(BrokerUnavailable, match=r"nobody consumes the lane for [1-9]"):
        async with asyncio.timeout(LIMIT):
            await worker.run()


async def test_looks_see_nothing_wrong_while_a_worker_works_and_drains(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watch, "INTERVAL", 0.0)
    async with serving(settings) as worker, Client(having(settings, pack_items=3)) as client:
        assert await _labels(client, [GOOD] * 3_000) == {"positive"}
        assert worker.not_ready is None
    assert not [r for r in caplog.records if getattr(r, "action", None) == "consumer_lost"]


async def test_a_client_is_ready_while_its_connections_are_up(
    settings: Settings, node: LocalNode
) -> None:
    client = Client(having(settings, broker_url=node.url))
    assert not client.is_ready
    async with client:
        assert client.is_ready
        node.kill()

        async def is_ready() -> bool:
            return client.is_ready

        async def is_not() -> bool:
            return not client.is_ready

        await until(is_not)
        await node.start()
        await until(is_ready)
    assert not client.is_ready


# -------------------------------------------------------------------- metrics


async def test_a_known_load_is_counted(
    settings: Settings, start_worker: StartWorker, port: int, probe: Probe
) -> None:
    await start_worker("--processes", "1", "--health-port", str(port))
    before = await probe.metrics()
    assert before["lmaas_ready"] == 1
    assert before["lmaas_executions_total"] == 0
    texts = [GOOD] * 197 + [""] * 3
    async with Client(having(settings, pack_items=10)) as client:
        results = [result async for result in client.classify_many("sentiment", texts)]
        assert sum(result.error is not None for result in results) == 3
    late = Headers(deadline_ms=1_000_000_000_000)
    async with PackPublisher(settings, "foreign publish") as publisher:
        await publish(publisher, of_others(settings.names, "nobody"), Headers())
        await publish(publisher, of_others(settings.names, "nobody"), late)

    async def is_settled() -> bool:
        nonlocal found
        found = await probe.metrics()
        empty = all(
            found[f"lmaas_queue_depth{{lane={lane},model=sentiment}}"] == 0 for lane in LANES
        )
        looked = found["lmaas_loop_lag_seconds_count"] > 0
        outcomes = [value for name, value in found.items() if "outcomes_total" in name]
        idle = found["lmaas_packs_held"] == found["lmaas_packs_running"] == 0
        told = found["lmaas_confirm_seconds_count"] >= 22
        return empty and looked and idle and told and sum(outcomes) == 202

    found: dict[str, float] = {}
    await until(is_settled)
    # One was run again, because nobody took its answer.
    retries = [value for name, value in found.items() if name.startswith("lmaas_retries_total")]
    assert sum(retries) == 1
    assert found["lmaas_unclaimed_replies_total"] == 2
    assert found["lmaas_items_total{model=sentiment}"] == 202
    assert found["lmaas_packs_total{model=sentiment}"] == 22
    assert 1 <= found["lmaas_executions_total"] <= 22
    assert found["lmaas_outcomes_total{model=sentiment,outcome=ok}"] == 198
    assert found["lmaas_outcomes_total{model=sentiment,outcome=empty_text}"] == 3
    assert found["lmaas_outcomes_total{model=sentiment,outcome=deadline_exceeded}"] == 1
    assert found["lmaas_deadline_misses_total"] == 1
    assert found["lmaas_service_seconds_count{model=sentiment}"] == 22
    assert 0 < found["lmaas_service_seconds_sum{model=sentiment}"] < LIMIT
    waits = {lane: found[f"lmaas_wait_seconds_count{{lane={lane}}}"] for lane in LANES}
    assert sum(waits.values()) == 22
    # Replies to 20 packs and to a question for cards, and the copy for a retry.
    assert found["lmaas_confirm_seconds_count"] == 22
    for lane in LANES:
        labels = f"{{lane={lane},model=sentiment}}"
        assert found[f"lmaas_prefetch{labels}"] >= 1
        assert found[f"lmaas_queue_age_seconds{labels}"] == 0
        predicted = found[f"lmaas_estimate_predicted_seconds_total{labels}"]
        actual = found[f"lmaas_estimate_actual_seconds_total{labels}"]
        assert (predicted > 0) == (actual > 0)
    total = sum(value for name, value in found.items() if "estimate_actual_seconds_total" in name)
    assert total == pytest.approx(found["lmaas_service_seconds_sum{model=sentiment}"], rel=0.01)
    assert 0 <= found["lmaas_loop_lag_newest_seconds"] < LIMIT
    assert not [name for name in found if "redeliveries_total" in name]
    assert "process_resident_memory_bytes" in found


async def publish(publisher: PackPublisher, reply_to: str, headers: Headers) -> None:
    await publisher.publish_pack(
        Request(model="sentiment", items=[Item(id="0", text=GOOD)]),
        reply_to=reply_to, correlation_id="c", headers=headers,
    )  # fmt: skip


async def test_what_waits_and_what_comes_again_is_counted(
    settings: Settings, start_worker: StartWorker, port: int, probe: Probe
) -> None:
    """Ten packs were with somebody who did not settle them, and are a minute old."""
    await make_lanes(settings)
    queue = settings.names.work_queue("sentiment", "instant")
    async with PackPublisher(settings, "foreign publish") as publisher:
        for _ in range(10):
            await publish(publisher, of_others(settings.names, "nobody"), Headers())
    async with channel_to(settings) as channel:
        holder = await channel.get_queue(queue)
        for _ in range(10):
            await holder.get()

    async def are_done() -> bool:
        return (await probe.metrics()).get("lmaas_packs_total{model=sentiment}") == 10

    async with channel_to(settings) as channel:
        await channel.declare_queue(of_others(settings.names, "nobody"), exclusive=True)
        await start_worker("--processes", "1", "--health-port", str(port))
        await until(are_done)
    found = await probe.metrics()
    assert found["lmaas_redeliveries_total{model=sentiment}"] == 10


async def test_depth_and_age_of_a_lane_are_those_of_the_broker(
    quick_looks: None, settings: Settings, sender: Sender
) -> None:
    minute_ago = int((time.time() - 60) * 1000)
    stage = Stage()
    stage.hold()
    async with stage.serving(having(settings, prefetch=1)) as stage:
        (lane,) = [lane for lane in stage.worker.lanes if lane.name == "short"]
        for number in range(4):
            headers = {"lmaas-published-ms": minute_ago}
            await sender.raw(str(number), 0.01, "short", headers=headers)

        async def waits() -> bool:
            return lane.depth == 3

        async def is_empty() -> bool:
            return lane.depth == 0

        await until(waits)
        assert lane.age == pytest.approx(60, abs=LIMIT)
        stage.release()
        await until(is_empty)
        assert (lane.age, lane.waited) == (0.0, pytest.approx(60, abs=LIMIT))


# ---------------------------------------------------------------- one-shot use


async def test_a_client_that_nobody_asks_loads_no_library_for_it(
    settings: Settings, worker: Worker
) -> None:
    code = (
        "import asyncio, sys, lmaas, lmaas.cli.worker, lmaas.workers.worker\n"
        "async def call():\n"
        "    async with lmaas.Client() as client:\n"
        "        await client.classify('sentiment', 'a good film')\n"
        "asyncio.run(call())\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE,
        env=rig.environment(settings),
    )  # fmt: skip
    told, _ = await process.communicate()
    assert process.returncode == 0
    assert not set(told.decode().split()) & {"prometheus_client", "aiohttp", "opentelemetry"}


# ----------------------------------------------------------------------- logs


async def test_the_lines_of_a_worker_are_json_on_request(
    settings: Settings, start_worker: StartWorker
) -> None:
    worker = await start_worker(LMAAS_LOG_FORMAT="json")
    traceparent = f"00-{TRACE}-00f067aa0ba902b7-01"
    late = Headers(deadline_ms=1, job="night", chunk=7, traceparent=traceparent)
    async with PackPublisher(settings, "foreign publish") as publisher:
        await publish(publisher, of_others(settings.names, "nobody"), late)
    await worker.says("nobody waits")
    worker.send(signal.SIGTERM)
    assert await worker.ended() == 0
    lines = {line["action"]: line for line in map(json.loads, worker.lines)}
    assert {"worker_ready", "deadline_exceeded", "reply_unclaimed", "drain"} <= lines.keys()
    for action in ("deadline_exceeded", "reply_unclaimed"):
        line = lines[action]
        assert (line["job"], line["chunk"], line["trace"]) == ("night", 7, TRACE)
        assert line["logger"].startswith("lmaas.workers.")
        assert line["process"] == worker.pid
        assert line["time"].endswith("Z")
    assert lines["worker_ready"]["worker"].endswith(f"-{worker.pid}")


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_why_a_worker_ends_is_json_too(start_worker: StartWorker, processes: str) -> None:
    worker = await start_worker(
        "--processes", processes, "--model", "nope", until="no model", LMAAS_LOG_FORMAT="json"
    )
    assert await worker.ended() == 1
    lines = [json.loads(line) for line in worker.lines]
    assert any("no model 'nope'" in line["message"] for line in lines)
    assert lines[-1]["action"] == "failed"


# ---------------------------------------------------------------------- spans

#: What `opentelemetry-instrument` does to a process, with a file for the spans.
SITE = """
import os
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

if "SPANS" in os.environ:
    out = open(os.environ["SPANS"], "a", buffering=1)
    line = lambda span: span.to_json(indent=None) + "\\n"
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=out, formatter=line)))
    trace.set_tracer_provider(provider)
"""


@pytest.fixture(scope="module")
def exporter() -> Iterator[InMemorySpanExporter]:
    """Of this process, which can have one provider only; it collects for these tests only."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    yield exporter
    exporter.shutdown()


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> Iterator[InMemorySpanExporter]:
    exporter.clear()
    yield exporter
    exporter.clear()


async def test_a_trace_goes_from_an_http_request_to_the_worker(
    settings: Settings, worker: Worker, tmp_path: Path, spans: InMemorySpanExporter
) -> None:
    given = GatewaySettings(access="open", port=0, folder=str(tmp_path))
    headers = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    call = {"model": "sentiment", "items": [GOOD]}
    async with listening(given, settings) as gateway:
        assert (await gateway.post("/v1/classify", json=call, headers=headers))[0] == 200

    async def all_told() -> bool:
        return len(spans.get_finished_spans()) == 3

    await until(all_told)
    by_name = {span.name: span for span in spans.get_finished_spans()}
    serves = by_name["POST /v1/classify"]
    publishes = by_name[f"publish {settings.names.work}"]
    processes = by_name[f"process {settings.names.work}"]
    assert {f"{span.context.trace_id:032x}" for span in by_name.values()} == {TRACE}
    assert publishes.parent is not None
    assert publishes.parent.span_id == serves.context.span_id
    assert processes.parent is not None
    assert processes.parent.span_id == publishes.context.span_id


async def test_the_spans_of_a_client_and_of_a_worker_are_one_trace(
    settings: Settings, start_worker: StartWorker, tmp_path: Path, spans: InMemorySpanExporter
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SITE)
    file = tmp_path / "spans.jsonl"
    await start_worker(PYTHONPATH=str(tmp_path), SPANS=str(file))
    texts = [GOOD] * 8 + ["", ""]
    with trace.get_tracer("test").start_as_current_span("caller") as caller:
        async with Client(settings) as client:
            assert len([r async for r in client.classify_many("sentiment", texts)]) == 10
    inside = caller.get_span_context()

    async def is_told() -> bool:
        return file.is_file() and file.read_text().count("\n") == 1

    await until(is_told)
    theirs = json.loads(file.read_text())
    (ours,) = [span for span in spans.get_finished_spans() if span.name.startswith("publish")]
    assert ours.kind is trace.SpanKind.PRODUCER
    assert ours.parent is not None
    assert ours.parent.span_id == inside.span_id
    assert theirs["context"]["trace_id"] == f"0x{inside.trace_id:032x}"
    assert theirs["parent_id"] == f"0x{ours.context.span_id:016x}"
    assert theirs["kind"] == "SpanKind.CONSUMER"
    assert theirs["name"] == f"process {settings.names.work}"
    lane = theirs["attributes"].pop("lmaas.lane")
    assert theirs["attributes"] == {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": settings.names.work,
        "messaging.rabbitmq.destination.routing_key": f"sentiment.{lane}",
        "lmaas.model": "sentiment",
        "lmaas.items": 10,
        "lmaas.outcome": "empty_text,ok",
    }
    assert theirs["start_time"] < theirs["end_time"]


async def test_a_trace_that_the_caller_brings_goes_on_and_its_header_stays(
    settings: Settings, spans: InMemorySpanExporter
) -> None:
    traceparent = f"00-{TRACE}-00f067aa0ba902b7-01"
    async with (
        serving(settings),
        Client(settings) as client,
        PackPublisher(settings, "foreign publish") as publisher,
    ):
        await publish(publisher, client._replies.queue_name, Headers(traceparent=traceparent))

        async def are_there() -> bool:
            return len(spans.get_finished_spans()) == 2

        await until(are_there)
    for span in spans.get_finished_spans():
        assert f"{span.context.trace_id:032x}" == TRACE
        assert span.parent is not None
        assert f"{span.parent.span_id:016x}" == "00f067aa0ba902b7"


async def test_a_pack_that_cannot_be_published_has_a_span_that_says_so(
    settings: Settings, spans: InMemorySpanExporter
) -> None:
    with pytest.raises(Exception, match="no worker has ever served"):
        async with Client(settings) as client:
            await client.classify("nobody-s", GOOD)
    (span,) = spans.get_finished_spans()
    assert not span.status.is_ok
