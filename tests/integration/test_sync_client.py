"""The synchronous client: threads, notebooks, generators that are not read to their end."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from lmaas.broker_config.errors import BrokerUnavailable, ItemFailed, ModelNotFound
from lmaas.broker_config.settings import Settings
from lmaas.producer.sync import SyncClient
from tests.integration.lanes import LIMIT, make_lanes, serving, waiting_packs

GOOD, BAD = "a wonderful, moving film", "an awful, boring waste of time"


@pytest.fixture
def worker(settings: Settings) -> Iterator[None]:
    """A worker on a loop in a thread of its own: the tests themselves block."""
    started, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        async with serving(settings):
            started.set()
            await asyncio.to_thread(stop.wait)

    with ThreadPoolExecutor(1) as executor:
        running = executor.submit(asyncio.run, serve())
        assert started.wait(LIMIT)
        yield
        stop.set()
        running.result(LIMIT)


@pytest.fixture
def client(settings: Settings) -> Iterator[SyncClient]:
    with SyncClient(settings) as client:
        yield client
    assert client_threads() == []


def client_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "lmaas client"]


@pytest.mark.usefixtures("worker")
def test_one_text_and_many(client: SyncClient) -> None:
    assert client.classify("sentiment", GOOD).label == "positive"
    results = client.classify_many("sentiment", [("a", GOOD), ("b", BAD), ("c", "")])
    assert [(r.id, r.label) for r in results] == [("a", "positive"), ("b", "negative"), ("c", None)]


@pytest.mark.usefixtures("worker")
def test_errors_are_those_of_the_client(client: SyncClient) -> None:
    with pytest.raises(ModelNotFound):
        client.classify("nope", GOOD)
    with pytest.raises(ItemFailed):
        client.classify("sentiment", "")
    with pytest.raises(ModelNotFound):
        list(client.classify_many("nope", [GOOD]))
    assert client.classify("sentiment", GOOD, top_k=2, version="1").label == "positive"


@pytest.mark.usefixtures("worker")
def test_several_threads_share_a_client(client: SyncClient) -> None:
    texts = [f"{GOOD if number % 2 else BAD} {number}" for number in range(200)]
    with ThreadPoolExecutor(8) as threads:
        singles = list(threads.map(lambda text: client.classify("sentiment", text).label, texts))
        parts = threads.map(
            lambda part: [r.label for r in client.classify_many("sentiment", part)],
            (texts[start : start + 50] for start in range(0, 200, 50)),
        )
        many = [label for part in parts for label in part]
    assert singles == many
    assert set(many) == {"positive", "negative"}


@pytest.mark.usefixtures("worker")
def test_a_generator_may_be_closed_early(client: SyncClient) -> None:
    read: list[int] = []

    def endless() -> Iterator[str]:
        while True:
            read.append(1)
            yield GOOD

    with contextlib.closing(client.classify_many("sentiment", endless())) as results:
        assert next(results).label == "positive"
    before = len(read)
    assert client.classify("sentiment", GOOD).label == "positive"
    assert len(read) == before


@pytest.mark.usefixtures("worker")
def test_a_generator_may_outlive_its_client(settings: Settings) -> None:
    with SyncClient(settings) as client:
        results = client.classify_many("sentiment", [GOOD] * 1_000)
        assert next(results).label == "positive"
    with pytest.raises(BrokerUnavailable, match="closed"):
        list(results)


@pytest.mark.usefixtures("worker")
async def test_it_works_where_an_event_loop_runs(settings: Settings) -> None:
    with SyncClient(settings) as client:
        assert client.classify("sentiment", GOOD).label == "positive"


@pytest.mark.usefixtures("worker")
def test_a_client_may_be_entered_again(settings: Settings) -> None:
    client = SyncClient(settings)
    for _ in range(2):
        with client:
            assert client.classify("sentiment", GOOD).label == "positive"
    with pytest.raises(BrokerUnavailable, match="closed"):
        client.classify("sentiment", GOOD)


@pytest.mark.usefixtures("worker")
async def test_without_with_the_first_call_connects(settings: Settings) -> None:
    """As in a notebook's cells, beside a loop that runs."""
    client = SyncClient(settings)
    assert not client.is_ready
    assert next(client.classify_many("sentiment", [GOOD])).label == "positive"
    assert client.classify("sentiment", GOOD).label == "positive"
    assert client.is_ready
    client.open()  # it is
    assert len(client_threads()) == 1
    client.close()
    client.close()
    assert client_threads() == []
    assert not client.is_ready
    with pytest.raises(BrokerUnavailable, match=r"closed; `open\(\)` connects it again"):
        client.classify("sentiment", GOOD)
    with pytest.raises(BrokerUnavailable, match="closed"):
        next(client.classify_many("sentiment", [GOOD]))
    client.open()
    assert client.classify("sentiment", GOOD).label == "positive"
    client.close()


@pytest.mark.usefixtures("worker")
def test_first_calls_at_the_same_time_connect_once(settings: Settings) -> None:
    client = SyncClient(settings)
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(client.classify, ["sentiment"] * 8, [GOOD] * 8))
    assert {result.label for result in results} == {"positive"}
    assert len(client_threads()) == 1
    client.close()


def test_a_first_call_that_finds_no_broker_leaves_nothing(settings: Settings) -> None:
    client = SyncClient(
        msgspec.structs.replace(settings, broker_url="amqp://127.0.0.1:1/", connect_timeout=0.3)
    )
    for _ in range(2):
        with pytest.raises(BrokerUnavailable, match="no broker at"):
            client.classify("sentiment", GOOD)
        assert client_threads() == []


def test_no_thread_is_left_when_there_is_no_broker(settings: Settings) -> None:
    nowhere = msgspec.structs.replace(
        settings, broker_url="amqp://127.0.0.1:1/", connect_timeout=0.3
    )
    with pytest.raises(BrokerUnavailable), SyncClient(nowhere):
        pass
    assert client_threads() == []


SCRIPT = """
import asyncio, aio_pika, lmaas
try:
    lmaas.SyncClient(lmaas.Settings(broker_url="amqp://127.0.0.1:1/", connect_timeout=0.7)).open()
except lmaas.LmaasError as error:
    print("got", error)
try:
    asyncio.run(aio_pika.connect("amqp://127.0.0.1:2/"))
except aio_pika.exceptions.AMQPError:
    pass
"""


def test_a_script_without_logging_hears_once_that_there_is_no_broker() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=LIMIT
    )
    assert ended.stdout.startswith("got no broker at amqp://127.0.0.1:1/ within 0.7 s")
    ours, others = ended.stderr.splitlines()
    assert ours == "no broker at amqp://127.0.0.1:1/ yet; trying for 0.7 s"
    # Connections that are not ours keep their lines.
    assert others.startswith("error when creating transport")


def test_closing_ends_the_calls_of_other_threads(settings: Settings) -> None:
    asyncio.run(make_lanes(settings))  # and nobody consumes them
    with ThreadPoolExecutor(2) as threads:
        with SyncClient(settings) as client:
            single = threads.submit(client.classify, "sentiment", GOOD)
            many = threads.submit(lambda: list(client.classify_many("sentiment", [GOOD])))
            while asyncio.run(waiting_packs(settings)) < 2:
                pass
        for call in (single, many):
            with pytest.raises(BrokerUnavailable, match="closed"):
                call.result(LIMIT)
    assert client_threads() == []
