"""A cluster whose nodes are killed: quorum queues lose nothing, clients go to another node."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from random import Random

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage
from yarl import URL

from benchmarks.failures.cluster import MAY_PAUSE, Kill, only_lane, stricken
from benchmarks.failures.pauses import Pauses
from benchmarks.failures.quorum import Role, node_of
from lmaas.broker_config.connection import Session
from lmaas.broker_config.hosts import connect
from lmaas.broker_config.local_cluster import LocalCluster
from lmaas.broker_config.settings import Settings
from lmaas.producer.batch import Jobs
from lmaas.producer.client import Client
from lmaas.producer.journal import JobEntry, read, record
from lmaas.producer.publishing import PackPublisher
from lmaas.workers.worker import Worker
from tests.integration.lanes import channel_to, depth, having, make_lanes, serving, waiting_packs

pytestmark = pytest.mark.chaos

GOOD = "a wonderful, moving film"
#: Seconds for a test.
LIMIT = 90


@pytest.fixture(scope="module")
def own_cluster(rabbitmq: Path) -> Iterator[LocalCluster]:
    cluster = LocalCluster()
    asyncio.run(cluster.start())
    yield cluster
    asyncio.run(cluster.stop())


@pytest.fixture
async def cluster(own_cluster: LocalCluster) -> LocalCluster:
    """Three nodes that run when a test begins."""
    await own_cluster.start()
    return own_cluster


@pytest.fixture
def own(settings: Settings, cluster: LocalCluster) -> Settings:
    """On quorum queues, in small packs, of which many are on their way in one lane."""
    return having(
        settings, broker_url=cluster.url, queue_type="quorum", policy="fifo", pack_items=5,
        window=50, connect_timeout=30,
    )  # fmt: skip


def over_one(own: Settings, cluster: LocalCluster) -> Settings:
    """Over a node that runs, for what knows of one host only."""
    return having(own, broker_url=next(node.url for node in cluster.nodes if node.pid))


@pytest.fixture
async def plain(client: Client, worker: Worker, texts: list[str]) -> list[str | None]:
    """The labels as a broker of one node gives them, without any accident."""
    return [result.label async for result in client.classify_many("sentiment", texts)]


any_role = pytest.mark.parametrize("role", list(Role))


@any_role
async def test_many_texts_survive_the_death_of_a_node_which_comes_back_in_sync(
    cluster: LocalCluster,
    own: Settings,
    texts: list[str],
    plain: list[str | None],
    role: Role,
) -> None:
    async with asyncio.timeout(LIMIT), serving(own), serving(own), Client(own) as client:
        found = await stricken(cluster, client, texts, Kill(role, at=0.1), Random(3))
        assert (await client.classify("sentiment", GOOD)).label == "positive"
    assert found.gave_up == ""
    assert [row.id for row in found.rows] == [str(number) for number in range(len(texts))]
    assert [row.label for row in found.rows] == plain
    assert found.pause < MAY_PAUSE
    assert await waiting_packs(over_one(own, cluster)) == 0


@any_role
async def test_a_job_survives_the_death_of_a_node(
    cluster: LocalCluster,
    own: Settings,
    texts: list[str],
    plain: list[str | None],
    role: Role,
) -> None:
    chunks: dict[int, list[str | None]] = {}
    async with asyncio.timeout(LIMIT), serving(own), serving(own), Jobs(own) as jobs:
        number = await node_of(cluster, only_lane(own), role, Random(3))
        await jobs.submit("sentiment", texts, job="j")
        pauses = Pauses()
        async for chunk in jobs.results("j"):
            pauses.note()
            assert chunk.number not in chunks
            chunks[chunk.number] = [result.label for result in chunk.reply.results]
            if len(chunks) == 100:
                cluster.kill(number)
        assert (await jobs.progress("j")).state == "collected"
    assert [label for number in sorted(chunks) for label in chunks[number]] == plain
    assert pauses.longest < MAY_PAUSE
    assert await waiting_packs(over_one(own, cluster)) == 0


@any_role
async def test_what_a_killed_node_had_handed_out_is_handed_out_by_another(
    cluster: LocalCluster, own: Settings, role: Role
) -> None:
    await make_lanes(over_one(own, cluster))
    number = await node_of(cluster, only_lane(own), role, Random(3))
    doomed, other = (having(own, broker_url=cluster.urls[(number + step) % 3]) for step in (0, 1))
    async with await connect(doomed, name="doomed") as connection, channel_to(other) as channel:
        arrivals: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        queue = await channel.get_queue(only_lane(own))
        await (await (await connection.channel()).get_queue(queue.name)).consume(arrivals.put)
        await channel.default_exchange.publish(aio_pika.Message(b"held"), queue.name)
        assert (await arrivals.get()).body == b"held"
        cluster.kill(number)
        async with asyncio.timeout(MAY_PAUSE):
            await queue.consume(arrivals.put)
            again = await arrivals.get()
        assert again.body == b"held"
        assert again.redelivered
        await again.ack()


async def test_a_job_of_more_chunks_than_a_quorum_queue_hands_out_by_default_is_collected_twice(
    own: Settings, texts: list[str]
) -> None:
    single = having(own, pack_items=2)
    async with serving(own), Jobs(single) as jobs:
        entry = await jobs.submit("sentiment", texts, job="j")
        assert (entry.chunks or 0) > 2_000
        for _ in range(3):  # each time everything is looked at and put back
            numbers = [chunk.number async for chunk in jobs.results("j", keep=True)]
            assert sorted(numbers) == list(range(entry.chunks or 0))
        await jobs.remove("j")


async def test_the_journal_is_read_whole_over_any_node_and_keeps_what_was_read(
    own: Settings, cluster: LocalCluster
) -> None:
    await make_lanes(own)
    async with PackPublisher(own, "test") as publisher:
        for number in range(30):
            queue = own.names.job_results(f"j{number}.12345678")
            entry = JobEntry(job=f"j{number}", state="submitted", model="m", queue=queue)
            await record(publisher, own.names.jobs, entry)
            for url in cluster.urls:
                async with await connect(having(own, broker_url=url), name="t") as connection:
                    entries = await read(connection, own.names, "quorum")
                assert list(entries) == [f"j{n}" for n in range(number + 1)]
    assert await depth(over_one(own, cluster), own.names.jobs) == 30


async def test_clients_spread_over_the_nodes(own: Settings, cluster: LocalCluster) -> None:
    ports = set()
    for _ in range(30):  # one in 10^8 runs finds one node only in so many tries
        async with Session(own, "test") as session:
            assert session._connection is not None
            assert session._connection.transport is not None
            ports.add(session._connection.transport.connection.url.port)  # type: ignore[attr-defined]
    assert ports == {URL(url).port for url in cluster.urls}
