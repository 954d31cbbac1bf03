"""Outages one by one: what is noticed, how fast all comes back, and what is said if it does not."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aio_pika
import pytest
from yarl import URL

from lmaas.broker_config.errors import (
    BrokerRefused,
    BrokerUnavailable,
    JobError,
    LmaasError,
    MessageError,
)
from lmaas.broker_config.headers import Headers
from lmaas.broker_config.hosts import connect
from lmaas.broker_config.local_node import LocalNode
from lmaas.broker_config.messages import Item, Request
from lmaas.broker_config.publisher import Publisher
from lmaas.broker_config.scheduling import LANES
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import MOST_HELD, QueueType
from lmaas.producer.batch import Jobs
from lmaas.producer.client import Client
from lmaas.producer.publishing import PackPublisher
from lmaas.workers.worker import Worker
from tests.integration.lanes import (
    LIMIT,
    channel_to,
    consumers,
    depth,
    having,
    make_lanes,
    serving,
    until,
    waiting_packs,
)
from tests.integration.proxy import Proxy
from tests.integration.sender import sending
from tests.integration.stage import Stage
from tests.integration.test_reconnect import classified
from tests.integration.worker_process import StartWorker

GOOD = "a wonderful, moving film"
#: Seconds in which consumers are back once the broker is, on a busy machine, too.
BACK = 30.0
#: Seconds without a frame after which aiormq gives a connection up, at a heartbeat of 1 s, and a
#: little for it to look.
NOTICED = (1 + 1) * 3 + 3.0


@pytest.fixture
async def plain(client: Client, worker: Worker, texts: list[str]) -> list[str | None]:
    """The labels without any accident."""
    return [result.label async for result in client.classify_many("sentiment", texts)]


@pytest.fixture
def own(settings: Settings, node: LocalNode) -> Settings:
    """On the broker of the test's own."""
    return having(settings, broker_url=node.url)


# ----------------------------------------------------------- lines that go dead


@pytest.fixture
def through(settings: Settings, proxy: Proxy) -> Settings:
    """Over a line that can go dead, with heartbeats that tell it soon."""
    return having(settings, broker_url=proxy.url, heartbeat=1, pack_items=5, window=50)


async def go_dead(proxy: Proxy) -> None:
    """Packets of the connections there are vanish; new connections work."""
    links = proxy.count
    proxy.stall()
    proxy.resume()
    began = time.monotonic()

    async def is_back() -> bool:
        return proxy.count >= links + 2

    await until(is_back)
    assert time.monotonic() - began < NOTICED


@pytest.mark.chaos
async def test_a_client_whose_line_goes_dead_notices_and_loses_and_doubles_nothing(
    worker: Worker, through: Settings, proxy: Proxy, texts: list[str], plain: list[str | None]
) -> None:
    async with Client(through) as client:
        found = await classified(client, texts, 300, lambda: go_dead(proxy))
    assert found == plain


@pytest.mark.chaos
async def test_a_worker_whose_line_goes_dead_notices_and_loses_nothing(
    settings: Settings, through: Settings, proxy: Proxy, texts: list[str], plain: list[str | None]
) -> None:
    small = having(settings, pack_items=5, window=50)
    async with serving(through), Client(small) as client:
        found = await classified(client, texts, 300, lambda: go_dead(proxy))
    assert found == plain
    assert await waiting_packs(settings) == 0


async def test_a_worker_whose_line_is_cut_while_it_drains_takes_nothing_more(
    settings: Settings, through: Settings, proxy: Proxy
) -> None:
    await make_lanes(settings)
    lanes = [settings.names.work_queue("sentiment", lane) for lane in LANES]
    stage = Stage()
    stage.hold()

    async def nobody_takes() -> bool:
        return not any([await consumers(settings, lane) for lane in lanes])

    async def is_back() -> bool:
        watch = stage.worker.watch
        return proxy.count >= links + 2 and watch is not None and watch.problem is None

    async with sending(settings) as sender:
        async with stage.serving(through):
            await sender.send("begun")
            await stage.began()
            stage.worker.stop()
            await until(nobody_takes)
            links = proxy.count
            proxy.cut()
            await until(is_back)
            await sender.send("next")
            assert await nobody_takes()
        assert stage.packs == ["begun"]
        assert list(await sender.replies(1)) == ["begun"]
    # Its ack was lost with the line: whoever comes next answers it again.
    assert await waiting_packs(settings) == 2


async def test_a_slow_line_is_no_outage(
    worker: Worker, through: Settings, proxy: Proxy, texts: list[str], plain: list[str | None]
) -> None:
    proxy.slow(0.05)
    async with Client(through) as client:
        links = proxy.count
        results = client.classify_many("sentiment", texts[:1000])
        assert [result.label async for result in results] == plain[:1000]
    assert proxy.count == links


# ------------------------------------------------------------------------ hosts


@pytest.fixture
async def silent() -> AsyncIterator[str]:
    """A host that takes connections and says nothing."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    yield f"amqp://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    server.close()


async def test_a_dead_host_costs_nothing_and_a_silent_one_a_head_start(
    settings: Settings, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever waits for more than what is allowed waits for longer than the test does.
    monkeypatch.setattr("lmaas.broker_config.hosts.HANDSHAKE_TIMEOUT", 2 * LIMIT)
    dead = "amqp://127.0.0.1:1/"
    for first, head_start in ((dead, 2 * LIMIT), (silent, 0.1)):
        monkeypatch.setattr("lmaas.broker_config.hosts.HEAD_START", head_start)
        several = having(settings, broker_url=f"{first},{settings.broker_url}")
        for _ in range(6):  # the order is random
            async with asyncio.timeout(LIMIT), await connect(several, name="test") as connection:
                assert connection.transport is not None


async def test_a_host_that_refuses_is_told_only_when_no_other_answers(settings: Settings) -> None:
    wrong = str(URL(settings.broker_url).with_password("wrong"))
    for _ in range(4):
        async with await connect(
            having(settings, broker_url=f"{wrong},{settings.broker_url}"), name="t"
        ):
            pass
    for _ in range(4):
        with pytest.raises(BrokerRefused, match="user or password"):
            await connect(having(settings, broker_url=f"{wrong},amqp://127.0.0.1:1/"), name="t")


# ----------------------------------------------------------------------- alarms


@contextlib.asynccontextmanager
async def short_of_memory(node: LocalNode) -> AsyncIterator[None]:
    await node.ctl("set_vm_memory_high_watermark", "0.00001")
    try:
        yield
    finally:
        await node.ctl("set_vm_memory_high_watermark", "0.4")


async def test_who_publishes_into_an_alarm_is_told_which_and_goes_on_after_it(
    own: Settings, node: LocalNode
) -> None:
    hasty = having(own, publish_timeout=1)
    async with serving(own), Client(own) as patient, Client(hasty) as client:
        assert (await patient.classify("sentiment", GOOD)).label == "positive"
        async with short_of_memory(node):
            for _ in range(2):  # the first is written before the broker says that it blocks
                with pytest.raises(BrokerUnavailable, match=r"blocks publishers \(low on memory\)"):
                    await client.classify("sentiment", GOOD)
            waiting = asyncio.create_task(
                client._publisher.publish(
                    "", client._replies.queue_name, aio_pika.Message(b""), timeout=LIMIT
                )
            )
        await waiting
        assert (await patient.classify("sentiment", GOOD)).label == "positive"
    assert await waiting_packs(own) == 0


async def test_a_worker_keeps_what_it_cannot_answer_until_the_alarm_is_over(
    own: Settings, node: LocalNode
) -> None:
    await make_lanes(own)
    stage = Stage()
    names = [f"p{number}" for number in range(30)]
    async with sending(own) as sender:
        for name in names:
            await sender.send(name)
        async with short_of_memory(node), stage.serving(having(own, publish_timeout=0.5)):
            await stage.began(1)
            over = time.monotonic() + 3  # six times what a publish may take

            async def it_is_over() -> bool:
                return time.monotonic() > over

            await until(it_is_over)
            run = list(stage.packs)
            assert len(run) == len(set(run)), "handed back and run again"
            await node.ctl("set_vm_memory_high_watermark", "0.4")
            replies = await sender.replies(len(names))
        assert sorted(replies) == sorted(names)
        assert sorted(stage.packs) == sorted(names)
    assert await waiting_packs(own) == 0


# --------------------------------------------------------- limits of the broker


@pytest.fixture(scope="module")
def strict_node(rabbitmq: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNode]:
    """A broker that takes small messages only, and no pack that is held for long."""
    folder = tmp_path_factory.mktemp("strict")
    (folder / "advanced.config").write_text(
        "[{rabbit, [{consumer_timeout, 1000}, {channel_tick_interval, 300},"
        " {max_message_size, 100000}]}].\n"
    )
    node = LocalNode(folder)
    asyncio.run(node.start())
    yield node
    asyncio.run(node.stop())


@pytest.fixture
def strict(settings: Settings, strict_node: LocalNode) -> Settings:
    return having(settings, broker_url=strict_node.url)


async def version(settings: Settings) -> tuple[int, ...]:
    """Of the broker: (4, 3)."""
    async with await connect(settings, name="version") as connection:
        assert connection.transport is not None
        told = connection.transport.connection.server_properties["version"]
    return tuple(map(int, str(told).split(".")[:2]))


@pytest.mark.chaos
@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
async def test_a_pack_that_is_held_too_long_is_answered_once_and_the_worker_comes_back(
    strict: Settings, queue_type: QueueType, caplog: pytest.LogCaptureFixture
) -> None:
    """RabbitMQ closes the channel over it, since 4.3 it cancels the consumer."""
    cancels = await version(strict) >= (4, 3)
    if cancels and queue_type == "classic":
        pytest.skip("RabbitMQ has no consumer_timeout for classic queues since 4.3")
    strict = having(strict, prefix=f"{strict.prefix}-{queue_type}", queue_type=queue_type)
    await make_lanes(strict)
    stage = Stage()
    stage.hold()
    async with sending(strict) as sender, stage.serving(strict), Client(strict) as client:
        call = asyncio.create_task(client.classify("sentiment", GOOD))
        await stage.began(1)

        async def is_closed() -> bool:
            return "connection back" in caplog.text

        await until(is_closed)
        assert cancels or "PRECONDITION_FAILED" in caplog.text
        stage.release()
        assert (await call).label == "positive"
        await sender.send("next")
        assert list(await sender.replies(1)) == ["next"]
    assert await waiting_packs(strict) == 0


async def test_a_message_that_the_broker_would_not_take_is_not_sent(strict: Settings) -> None:
    async with Publisher(having(strict, max_message_bytes=100_000), "test") as publisher:
        with pytest.raises(
            MessageError, match=r"100,001 bytes, and the broker takes 100,000: make"
        ):
            await publisher.publish("", "any", aio_pika.Message(bytes(100_001)))
        before = await publisher.channel()
        assert await publisher.channel() is before
    async with Publisher(strict, "test") as publisher:
        # 128 MiB before RabbitMQ 4.0, 16 MiB since.
        with pytest.raises(MessageError, match=r"the broker takes (134,217,728|16,777,216):"):
            await publisher.publish("", "any", aio_pika.Message(bytes(134_217_729)))


async def test_a_message_over_which_the_channel_is_closed_fails_alone_and_says_why(
    strict: Settings,
) -> None:
    async with channel_to(strict) as channel, Publisher(strict, "test") as publisher:
        queue = await channel.declare_queue(exclusive=True)

        async def publish(body: bytes) -> str | None:
            try:
                await publisher.publish("", queue.name, aio_pika.Message(body))
            except LmaasError as error:
                return f"{type(error).__name__}: {error}"
            return None

        began = time.monotonic()
        bodies = [b"x" * (100_001 if number == 20 else 100) for number in range(40)]
        outcomes = await asyncio.gather(*map(publish, bodies))
        assert time.monotonic() - began < strict.publish_timeout
        assert [place for place, outcome in enumerate(outcomes) if outcome] == [20]
        told = outcomes[20] or ""
        assert told.startswith("MessageError")
        assert "closed the channel 3 times" in told
        assert "larger than configured max size 100000" in told


async def test_a_message_over_which_the_connection_is_closed_fails_alone_and_says_why(
    settings: Settings,
) -> None:
    async with channel_to(settings) as channel, Publisher(settings, "test") as publisher:
        queue = await channel.declare_queue(exclusive=True)

        async def publish(size: int) -> str | None:
            message = aio_pika.Message(b"", headers={"giant": "x" * size})
            try:
                await publisher.publish("", queue.name, message)
            except LmaasError as error:
                return f"{type(error).__name__}: {error}"
            return None

        outcomes = await asyncio.gather(
            *(publish(140_000 if number in {7, 20} else 100) for number in range(40))
        )
        assert [place for place, outcome in enumerate(outcomes) if outcome] == [7, 20]
        for place in (7, 20):
            told = outcomes[place] or ""
            assert told.startswith("MessageError")
            assert "closed the connection 3 times" in told
            assert "frame_too_large" in told
        assert await publish(100) is None


async def test_a_pack_of_more_items_than_workers_accept_is_not_published(
    settings: Settings, lanes: None
) -> None:
    few = having(settings, max_pack_items=3)
    items = [Item(id=str(number), text=GOOD) for number in range(4)]
    async with PackPublisher(few, "test") as publisher:
        with pytest.raises(MessageError, match=r"a pack of 4 items; workers accept 3"):
            await publisher.publish_pack(
                Request(model="sentiment", items=items),
                reply_to="nobody", correlation_id="c", headers=Headers(),
            )  # fmt: skip
    assert await waiting_packs(settings) == 0


# ------------------------------------------------ brokers that come late or again


async def test_who_starts_before_the_broker_waits_for_it(
    own: Settings, node: LocalNode, start_worker: StartWorker
) -> None:
    await node.stop()
    late = await start_worker(
        "--processes", "1", until=None, LMAAS_BROKER_URL=own.broker_url, LMAAS_CONNECT_TIMEOUT="60"
    )
    hasty = await start_worker(
        "--processes", "1", until=None,
        LMAAS_BROKER_URL=own.broker_url, LMAAS_CONNECT_TIMEOUT="0.5",
    )  # fmt: skip
    client = Client(having(own, connect_timeout=60))
    entering = asyncio.create_task(client.__aenter__())
    await late.says("no broker")
    assert await hasty.ended() == 1
    told = "".join(hasty.lines)
    assert "error: no broker at" in told
    assert "Traceback" not in told
    await node.start()
    await late.says("ready")
    await entering
    assert (await client.classify("sentiment", GOOD)).label == "positive"
    await client.__aexit__(None, None, None)


async def test_consumers_are_back_soon_after_the_broker(own: Settings, node: LocalNode) -> None:
    lane = own.names.work_queue("sentiment", "instant")

    async def consumed() -> bool:
        return await consumers(own, lane) == 1

    async with serving(own), Client(own) as client:
        node.kill()
        await node.start()
        began = time.monotonic()
        await until(consumed)
        assert time.monotonic() - began < BACK
        assert (await client.classify("sentiment", GOOD)).label == "positive"


async def test_a_job_that_waits_in_the_broker_survives_its_restart(
    own: Settings, node: LocalNode, texts: list[str]
) -> None:
    small = having(own, pack_items=5)
    await make_lanes(own)
    async with Jobs(small) as jobs:
        entry = await jobs.submit("sentiment", texts, job="j")
        await node.restart()
        async with serving(own):
            chunks = [chunk async for chunk in jobs.results("j")]
    assert sorted(chunk.number for chunk in chunks) == list(range(entry.chunks or 0))
    assert sum(len(chunk.reply.results) for chunk in chunks) == len(texts)


async def test_a_job_of_more_chunks_than_a_collector_can_hold_is_refused(
    settings: Settings, lanes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MOST_HELD, "quorum", 8)
    quorum = having(settings, prefix=f"{settings.prefix}-q", queue_type="quorum", pack_items=1)
    await make_lanes(quorum)
    async with serving(quorum), Jobs(quorum) as jobs:
        await jobs.submit("sentiment", [GOOD] * 7, job="fits")
        assert len([chunk async for chunk in jobs.results("fits")]) == 7
        with pytest.raises(JobError, match="at most 7 chunks"):
            await jobs.submit("sentiment", [GOOD] * 8, job="large")
        assert (await jobs.progress("large")).state == "cancelled"


async def test_credentials_that_were_changed_end_worker_and_calls_with_the_reason(
    rabbitmq: Path, settings: Settings, tmp_path: Path, start_worker: StartWorker
) -> None:
    async with LocalNode(tmp_path / "changed") as node:
        own = having(settings, broker_url=node.url, connect_timeout=5)
        worker = await start_worker(
            "--processes", "1",
            LMAAS_BROKER_URL=node.url, LMAAS_CONNECT_TIMEOUT="5",
        )  # fmt: skip
        async with Client(own) as client:
            assert (await client.classify("sentiment", GOOD)).label == "positive"
            await node.ctl("change_password", "lmaas", "another")
            await node.ctl("close_all_connections", "the password has changed")
            with pytest.raises(BrokerRefused, match="refused user or password"):
                await client.classify("sentiment", GOOD)
            assert await worker.ended() == 1
    told = "".join(worker.lines)
    assert "the broker refused user or password" in told
    assert "Traceback" not in told


# --------------------------------------------------------------- workers that die


async def test_what_a_killed_worker_held_is_with_another_at_once(
    settings: Settings, start_worker: StartWorker
) -> None:
    await make_lanes(settings)
    victim = await start_worker()
    stage = Stage()
    async with sending(settings) as sender:
        victim.send(signal.SIGSTOP)  # it holds what it is given
        await sender.send("held")

        async def is_held() -> bool:
            return await waiting_packs(settings) == 0

        await until(is_held)
        async with stage.serving(settings):
            assert stage.packs == []
            victim.send(signal.SIGKILL)
            began = time.monotonic()
            await stage.began(1)
            assert time.monotonic() - began < BACK
            assert list(await sender.replies(1)) == ["held"]


# ------------------------------------------------------------- queues that vanish


async def test_lanes_that_are_deleted_are_made_and_consumed_again_soon(
    settings: Settings, worker: Worker, client: Client
) -> None:
    assert (await client.classify("sentiment", GOOD)).label == "positive"
    lane = settings.names.work_queue("sentiment", "instant")
    async with channel_to(settings) as channel:
        await channel.queue_delete(lane)
    began = time.monotonic()

    async def consumed() -> bool:
        return await consumers(settings, lane) == 1

    await until(consumed)
    assert time.monotonic() - began < BACK
    assert (await client.classify("sentiment", GOOD)).label == "positive"
    assert await depth(settings, lane) == 0
