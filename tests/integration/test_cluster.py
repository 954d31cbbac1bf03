"""A cluster whose nodes are killed: quorum queues lose nothing, clients go to another node."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from yarl import URL

from broker_config.connection import Session
from broker_config.hosts import connect
from broker_config.local_cluster import LocalCluster
from broker_config.local_node import LocalNode
from broker_config.settings import Settings
from producer.batch import Jobs
from producer.client import Client
from producer.journal import JobEntry, read, record
from producer.publishing import PackPublisher
from tests.integration.conftest import depth, having, serving, until, waiting_packs
from workers.worker import Worker

GOOD = "a wonderful, moving film"
#: Seconds for a test; and the longest pause between two answers that a dead node may cause.
LIMIT = 90
PAUSE = 15


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
    """On quorum queues, in small packs, of which many are on their way."""
    return having(
        settings, broker_url=cluster.url, queue_type="quorum", pack_items=5, window=50,
        connect_timeout=30,
    )  # fmt: skip


def over_one(own: Settings, cluster: LocalCluster) -> Settings:
    """Over a node that runs, for what knows of one host only."""
    return having(own, broker_url=next(node.url for node in cluster.nodes if node.pid))


@pytest.fixture
async def plain(client: Client, worker: Worker, texts: list[str]) -> list[str | None]:
    """The labels as a broker of one node gives them, without any accident."""
    return [result.label async for result in client.classify_many("sentiment", texts)]


async def status(node: LocalNode, queue: str) -> dict[str, list[str]]:
    """Names of a quorum queue's members, of those that run, and of the leader."""
    rows = await node.ctl("list_queues", "name", "members", "online", "leader")
    (row,) = [row.split("\t") for row in rows.splitlines() if row.startswith(f"{queue}\t")]
    return {
        kind: sorted(names.strip("[]").replace(" ", "").split(","))
        for kind, names in zip(("members", "online", "leader"), row[1:], strict=True)
    }


async def kill_a_follower(cluster: LocalCluster, queue: str) -> int:
    """A node that does not lead the queue; its number."""
    leader = (await status(cluster.nodes[0], queue))["leader"]
    number = next(n for n in (2, 1, 0) if leader != [f"r{n + 1}@localhost"])
    cluster.kill(number)
    return number


async def kill_the_leader(cluster: LocalCluster, queue: str) -> int:
    (leader,) = (await status(cluster.nodes[0], queue))["leader"]
    number = int(leader.removeprefix("r").partition("@")[0]) - 1
    cluster.kill(number)
    return number


async def in_sync(node: LocalNode, queue: str) -> bool:
    """Whether the logs of all three members end alike."""
    members = f'rabbit_quorum_queue:status(<<"/">>, <<"{queue}">>)'
    ends = f'[proplists:get_value(<<"Log Index">>, Member) || Member <- {members}]'
    counts = await node.ctl("eval", f"{{length({ends}), length(lists:usort({ends}))}}.")
    return counts.strip() == "{3,1}"


class Pauses:
    """Notes the longest time between two results."""

    def __init__(self) -> None:
        self.last = time.monotonic()
        self.longest = 0.0

    def note(self) -> None:
        now = time.monotonic()
        self.longest = max(self.longest, now - self.last)
        self.last = now


both_nodes = pytest.mark.parametrize("kill", [kill_a_follower, kill_the_leader])


@both_nodes
async def test_many_texts_survive_the_death_of_a_node_which_comes_back_in_sync(
    cluster: LocalCluster,
    own: Settings,
    texts: list[str],
    plain: list[str | None],
    kill: Callable[[LocalCluster, str], Awaitable[int]],
) -> None:
    labels: list[str | None] = []
    queue = own.names.work_queue("sentiment", "instant")
    async with asyncio.timeout(LIMIT), serving(own), serving(own), Client(own) as client:
        killing: asyncio.Task[int] | None = None
        pauses = Pauses()
        async for result in client.classify_many("sentiment", texts):
            pauses.note()
            assert result.id == str(len(labels)), "lost, doubled or out of order"
            assert result.error is None
            labels.append(result.label)
            if len(labels) == 500:
                killing = asyncio.create_task(kill(cluster, queue))
        assert killing is not None
        killed = await killing
        assert (await client.classify("sentiment", GOOD)).label == "positive"
    assert labels == plain
    assert pauses.longest < PAUSE
    assert await waiting_packs(over_one(own, cluster)) == 0
    await cluster.start(killed)
    await until(lambda: in_sync(cluster.nodes[killed], queue))


@both_nodes
async def test_a_job_survives_the_death_of_a_node(
    cluster: LocalCluster,
    own: Settings,
    texts: list[str],
    plain: list[str | None],
    kill: Callable[[LocalCluster, str], Awaitable[int]],
) -> None:
    chunks: dict[int, list[str | None]] = {}
    queue = own.names.work_queue("sentiment", "instant")
    async with asyncio.timeout(LIMIT), serving(own), serving(own), Jobs(own) as jobs:
        await jobs.submit("sentiment", texts, job="j")
        killing: asyncio.Task[int] | None = None
        pauses = Pauses()
        async for chunk in jobs.results("j"):
            pauses.note()
            assert chunk.number not in chunks
            chunks[chunk.number] = [result.label for result in chunk.reply.results]
            if len(chunks) == 100:
                killing = asyncio.create_task(kill(cluster, queue))
        assert killing is not None
        await killing
        assert (await jobs.progress("j")).state == "collected"
    assert [label for number in sorted(chunks) for label in chunks[number]] == plain
    assert pauses.longest < PAUSE
    assert await waiting_packs(over_one(own, cluster)) == 0


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
    async with PackPublisher(own, "test") as publisher:
        for number in range(30):
            entry = JobEntry(job=f"j{number}", state="submitted", model="m", queue="q")
            await record(publisher, own.names.jobs, entry)
            for url in cluster.urls:
                async with await connect(having(own, broker_url=url), name="t") as connection:
                    entries = await read(connection, own.names.jobs, "quorum")
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
