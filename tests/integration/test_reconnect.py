"""Brokers that restart or die, and lines that break: every result once, and in order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import ChannelInvalidStateError
from prometheus_client import REGISTRY

from lmaas.broker_config import node_folder
from lmaas.broker_config.connection import Session
from lmaas.broker_config.errors import BrokerUnavailable
from lmaas.broker_config.local_node import LocalNode, installed_server
from lmaas.broker_config.rpc_timeout import RPC_TIMEOUT
from lmaas.broker_config.settings import Settings
from lmaas.producer.batch import Jobs
from lmaas.producer.client import Client
from lmaas.producer.publishing import PackPublisher
from lmaas.workers.worker import Worker
from tests.integration.lanes import depth, serving, until, waiting_packs
from tests.integration.proxy import Proxy

GOOD = "a wonderful, moving film"
#: Seconds without a result, of thousands of texts, with a restart of the broker in between.
LIMIT = 90


@pytest.fixture(autouse=True)
async def _no_error_is_left_lying_about() -> AsyncIterator[None]:
    """An exception that nobody fetched would be noise on every reconnect."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    yield
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []


@pytest.mark.parametrize("piece", range(4, 13))
async def test_a_connection_that_is_closed_together_with_an_answer_is_lost_at_once(
    settings: Settings, proxy: Proxy, piece: int
) -> None:
    proxy.closes_with = piece
    through = msgspec.structs.replace(settings, broker_url=proxy.url)
    async with asyncio.timeout(RPC_TIMEOUT / 2) as limit:
        with pytest.raises(BrokerUnavailable, match="CONNECTION_FORCED"):
            async with PackPublisher(through, "test"):
                pass
    assert not limit.expired()


async def classified(
    client: Client, texts: list[str], at: int, happening: Callable[[], Awaitable[None]]
) -> list[str | None]:
    """The labels of all texts; at one of the results something happens, meanwhile it goes on."""
    labels: list[str | None] = []
    happens: asyncio.Task[None] | None = None
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(LIMIT) as limit:
        async for result in client.classify_many("sentiment", texts):
            limit.reschedule(loop.time() + LIMIT)  # a busy machine may be slow, and not stand still
            assert result.id == str(len(labels)), "lost, doubled or out of order"
            assert result.error is None
            labels.append(result.label)
            if len(labels) == at:
                happens = asyncio.ensure_future(happening())
        assert happens is not None
        await happens
    assert len(labels) == len(texts)
    return labels


@pytest.fixture
async def plain(client: Client, worker: Worker, texts: list[str]) -> list[str | None]:
    """The labels without any accident."""
    return [result.label async for result in client.classify_many("sentiment", texts)]


@pytest.fixture
def own(settings: Settings, node: LocalNode) -> Settings:
    """On the broker of the test's own, in small packs, of which hundreds are on their way.

    On a busy machine a restart of the broker takes more than half a minute.
    """
    patient = {"connect_timeout": LIMIT, "publish_timeout": LIMIT, "timeout": LIMIT}
    return msgspec.structs.replace(
        settings, broker_url=node.url, pack_items=5, window=100, **patient
    )


async def restart(node: LocalNode) -> None:
    await node.restart()


async def crash(node: LocalNode) -> None:
    node.kill()
    await node.start()


async def settled(node: LocalNode, queue: bytes) -> bool:
    """Whether the broker's database holds the queue for good, as a crash would leave it.

    Its transaction log does not count: a new queue can be lost while the log is moved to a table.
    """
    record = node_folder.read_record(node.folder)
    dump = await asyncio.create_subprocess_exec(
        str(installed_server().with_name("rabbitmqctl")), "-q", "eval", "mnesia:dump_log().",
        env=node_folder.environment(node.folder, record),
        stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert await dump.wait() == 0
    tables = [path for path in node.folder.rglob("*") if path.suffix in {".DCL", ".DCD"}]
    if not tables:  # Khepri, since 4.3: what it tells of is on its disk
        return queue.decode() in await node.ctl("list_queues", "name")
    return any(queue in path.read_bytes() for path in tables)


both_ways = pytest.mark.parametrize("accident", [restart, crash])


@both_ways
async def test_many_texts_survive_the_broker(
    own: Settings,
    node: LocalNode,
    texts: list[str],
    plain: list[str | None],
    accident: Callable[[LocalNode], Awaitable[None]],
) -> None:
    async with serving(own), Client(own) as client:
        assert await classified(client, texts, 500, lambda: accident(node)) == plain
        assert (await client.classify("sentiment", GOOD)).label == "positive"
    assert await waiting_packs(own) == 0
    assert await depth(own, own.names.client_results(client.id)) is None


@pytest.mark.chaos
async def test_a_job_survives_a_crash_while_it_is_published_and_one_while_it_is_collected(
    own: Settings, node: LocalNode, texts: list[str], plain: list[str | None]
) -> None:
    halfway = asyncio.Event()
    queue = own.names.job_results("j.").encode()

    async def source() -> AsyncIterator[str]:
        for number, text in enumerate(texts):
            if number == len(texts) // 2:
                await until(lambda: settled(node, queue))
                halfway.set()
            yield text

    async with asyncio.timeout(LIMIT), serving(own), Jobs(own) as jobs:
        submitting = asyncio.create_task(jobs.submit("sentiment", source(), job="j"))
        await halfway.wait()
        await crash(node)
        entry = await submitting
        assert (entry.chunks, entry.items) == (len(texts) // 5, len(texts))
        chunks: dict[int, list[str | None]] = {}
        async for chunk in jobs.results("j"):
            assert chunk.number not in chunks
            chunks[chunk.number] = [result.label for result in chunk.reply.results]
            if len(chunks) == 300:
                await crash(node)
        assert (await jobs.progress("j")).state == "collected"
    assert [label for number in sorted(chunks) for label in chunks[number]] == plain


async def test_calls_and_newcomers_wait_for_a_broker_that_is_away(
    own: Settings, node: LocalNode
) -> None:
    patient = msgspec.structs.replace(own, connect_timeout=LIMIT)
    newcomer = Client(patient)
    async with serving(own), Client(own) as client:
        assert (await client.classify("sentiment", GOOD)).label == "positive"
        node.kill()
        call = asyncio.create_task(client.classify("sentiment", GOOD, timeout=LIMIT))
        entering = asyncio.create_task(newcomer.__aenter__())
        done, _ = await asyncio.wait([call, entering], timeout=1)
        assert not done
        await node.start()
        async with asyncio.timeout(LIMIT):
            assert (await call).label == "positive"
            await entering
            assert (await newcomer.classify("sentiment", GOOD)).label == "positive"
            await newcomer.__aexit__(None, None, None)


async def test_a_broker_that_stays_away_is_told_after_the_time_limits(
    own: Settings, node: LocalNode
) -> None:
    hasty = msgspec.structs.replace(own, publish_timeout=0.5, connect_timeout=3)
    async with serving(hasty), Client(hasty) as client, Jobs(hasty) as jobs:
        node.kill()
        with pytest.raises(BrokerUnavailable, match=r"did not confirm within 0\.5 s"):
            await client.classify("sentiment", GOOD)
        with pytest.raises(BrokerUnavailable, match="did not answer"):
            await anext(client.classify_many("sentiment", [GOOD]))
        with pytest.raises(BrokerUnavailable):
            await jobs.list()


# ----------------------------------------------------------- lines that break


@pytest.fixture
def through(settings: Settings, proxy: Proxy) -> Settings:
    """Over a line that can be cut."""
    return msgspec.structs.replace(settings, broker_url=proxy.url, pack_items=5, window=50)


async def cut_again_and_again(proxy: Proxy) -> None:
    for _ in range(4):
        links = proxy.count
        proxy.cut()

        async def is_back(links: int = links) -> bool:
            return proxy.count >= links + 2

        await until(is_back)


@pytest.mark.chaos
async def test_a_client_whose_line_breaks_again_and_again_loses_and_doubles_nothing(
    worker: Worker, through: Settings, proxy: Proxy, texts: list[str], plain: list[str | None]
) -> None:
    async with Client(through) as client:
        found = await classified(client, texts, 300, lambda: cut_again_and_again(proxy))
    assert found == plain


@pytest.mark.chaos
async def test_a_worker_whose_line_breaks_again_and_again_loses_nothing(
    settings: Settings, through: Settings, proxy: Proxy, texts: list[str], plain: list[str | None]
) -> None:
    small = msgspec.structs.replace(settings, pack_items=5, window=50)
    async with serving(through), Client(small) as client:
        found = await classified(client, texts, 300, lambda: cut_again_and_again(proxy))
    assert found == plain
    assert await waiting_packs(settings) == 0


async def test_a_collector_whose_line_breaks_gets_every_chunk_once(
    worker: Worker, through: Settings, proxy: Proxy, texts: list[str], plain: list[str | None]
) -> None:
    async with asyncio.timeout(LIMIT), Jobs(through) as jobs:
        await jobs.submit("sentiment", texts, job="j")
        chunks: dict[int, list[str | None]] = {}
        async for chunk in jobs.results("j"):
            assert chunk.number not in chunks
            chunks[chunk.number] = [result.label for result in chunk.reply.results]
            if len(chunks) % 300 == 0:
                proxy.cut()
        assert (await jobs.progress("j")).state == "collected"
    assert [label for number in sorted(chunks) for label in chunks[number]] == plain
    # Whatever the job is called, it is counted as what it is for.
    found = links_that_came_back()
    assert "results" in found
    assert not any("j" in link.split() for link in found)


def links_that_came_back() -> set[str]:
    """The labels of the metric."""
    (counted,) = (each for each in REGISTRY.collect() if each.name == "lmaas_reconnects")
    return {sample.labels["link"] for sample in counted.samples}


async def test_a_session_ends_while_it_comes_back_whatever_the_library_makes_of_that(
    settings: Settings,
) -> None:
    """aiormq turns the cancellation of some calls into errors over which one tries again."""
    opened, again = asyncio.Event(), asyncio.Event()

    async def prepare(_: AbstractChannel) -> None:
        if opened.is_set():
            again.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise ChannelInvalidStateError("closed meanwhile") from None

    async with asyncio.timeout(LIMIT), Session(settings, "test", prepare) as session:
        opened.set()
        session.reset()
        await again.wait()


async def test_a_session_comes_back_as_often_as_its_line_breaks(
    through: Settings, proxy: Proxy
) -> None:
    async with asyncio.timeout(LIMIT), Session(through, "test") as session:
        for _ in range(10):
            before = await session.channel()
            proxy.cut()
            await session._left(before)
            assert await session.channel() is not before
            assert session.is_up
    with pytest.raises(BrokerUnavailable, match="closed"):
        await session.channel()


# ------------------------------------------------------------- cancellations


async def lost(_: AbstractConnection) -> str:
    """What `asyncio.wait_for` of Python 3.11 does when the answer comes with the cancellation."""
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
    return "an answer"


async def test_a_cancellation_that_a_library_loses_is_not_lost(settings: Settings) -> None:
    async with Session(settings, "test") as session:
        asking = asyncio.create_task(session.ask(lost))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        assert asking.cancelled()


async def test_who_tidies_up_after_a_cancellation_gets_answers(settings: Settings) -> None:
    async with Session(settings, "test") as session:
        found: list[object] = []

        async def work() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                found.append(await session.counts("nobody has this queue"))

        working = asyncio.create_task(work())
        await asyncio.sleep(0)
        working.cancel()
        await asyncio.wait([working])
        assert working.cancelled()
    assert found == [None]
