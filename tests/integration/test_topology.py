"""Topology on a real broker."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import get_args

import aio_pika
import pytest
from aio_pika.abc import AbstractConnection
from pamqp.commands import Basic

from lmaas.broker_config.declaring import declare, difference
from lmaas.broker_config.definitions import definitions
from lmaas.broker_config.errors import TopologyMismatch
from lmaas.broker_config.local_node import LocalNode
from lmaas.broker_config.scheduling import LANES
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import (
    Names,
    QueueType,
    Topology,
    client_results,
    job_results,
    journal,
    routing_key,
    topology,
)
from tests.integration.lanes import LIMIT

both_types = pytest.mark.parametrize("queue_type", get_args(QueueType))


@pytest.fixture
async def connection(broker_url: str) -> AsyncIterator[AbstractConnection]:
    async with await aio_pika.connect(broker_url) as connection:
        yield connection


@both_types
async def test_declare_is_idempotent_and_leaves_no_difference(
    connection: AbstractConnection, settings: Settings, queue_type: QueueType
) -> None:
    wanted = topology(settings.names, queue_type, ["sentiment", "digits"])
    async with connection.channel() as channel:
        await declare(channel, wanted)
        await declare(channel, wanted)
    assert await difference(connection, wanted) == []


@both_types
async def test_difference_names_what_is_missing_and_makes_nothing(
    connection: AbstractConnection, settings: Settings, queue_type: QueueType
) -> None:
    wanted = topology(settings.names, queue_type, ["sentiment"])
    every_name = [("exchange", exchange.name) for exchange in wanted.exchanges]
    every_name += [("queue", queue.name) for queue in wanted.queues]
    for _ in range(2):  # a difference that declared what it looked for would find less then
        found = await difference(connection, wanted)
        assert [(one.kind, one.name) for one in found] == every_name
        assert {one.problem for one in found} == {"missing"}


async def test_difference_says_what_a_queue_has_otherwise(
    connection: AbstractConnection, settings: Settings
) -> None:
    wanted = topology(settings.names, "classic", ["sentiment"])
    odd = settings.names.work_queue("sentiment", "short")
    async with connection.channel() as channel:
        await channel.declare_queue(odd, durable=True, arguments={"x-queue-type": "classic"})
        others = tuple(queue for queue in wanted.queues if queue.name != odd)
        await declare(channel, Topology(wanted.exchanges, others, ()))
    (found,) = await difference(connection, wanted)
    assert (found.kind, found.name) == ("queue", odd)
    assert "inequivalent arg" in found.problem
    assert "\n" not in found.problem


async def test_declare_over_something_else_raises_and_changes_nothing(
    connection: AbstractConnection, settings: Settings
) -> None:
    names = settings.names
    async with connection.channel() as channel:
        await declare(channel, topology(names, "classic"))
    channel = await connection.channel()
    with pytest.raises(TopologyMismatch, match="lmaas broker doctor"):
        await declare(channel, topology(names, "quorum"))
    assert await difference(connection, topology(names, "classic")) == []


async def test_an_exchange_of_another_type_is_a_difference(
    connection: AbstractConnection, settings: Settings
) -> None:
    wanted = topology(settings.names, "classic")
    async with connection.channel() as channel:
        await channel.declare_exchange(settings.names.work, "topic", durable=True)
    found = {one.name: one.problem for one in await difference(connection, wanted)}
    assert "inequivalent arg 'type'" in found[settings.names.work]


@both_types
async def test_every_lane_takes_its_own_messages(
    connection: AbstractConnection, settings: Settings, queue_type: QueueType
) -> None:
    names = settings.names
    async with connection.channel(publisher_confirms=True) as channel:
        await declare(channel, topology(names, queue_type, ["sentiment", "digits"]))
        work = await channel.get_exchange(names.work)
        for lane in LANES:
            message = aio_pika.Message(lane.encode(), delivery_mode=2)
            await work.publish(message, routing_key("sentiment", lane))
        for lane in LANES:
            queue = await channel.get_queue(names.work_queue("sentiment", lane))
            message = await queue.get(no_ack=True, timeout=LIMIT)
            assert message.body == lane.encode()
            other = await channel.get_queue(names.work_queue("digits", lane))
            assert await other.get(no_ack=True, fail=False) is None


async def test_a_refused_message_is_dead_lettered_and_keeps_its_routing_key(
    connection: AbstractConnection, settings: Settings
) -> None:
    names = settings.names
    async with connection.channel() as channel:
        await declare(channel, topology(names, "classic", ["sentiment"]))
        work = await channel.get_exchange(names.work)
        await work.publish(aio_pika.Message(b"bad"), routing_key("sentiment", "short"))
        lane = await channel.get_queue(names.work_queue("sentiment", "short"))
        await (await lane.get(timeout=LIMIT)).reject(requeue=False)
        dead_lettered = await channel.get_queue(names.dead)
        async with dead_lettered.iterator(timeout=LIMIT) as messages:
            message = await anext(messages)
            await message.ack()
        assert (message.body, message.routing_key) == (b"bad", "sentiment.short")


async def test_a_retry_returns_to_its_lane_after_the_delay(
    connection: AbstractConnection, settings: Settings
) -> None:
    names = settings.names
    async with connection.channel() as channel:
        await declare(channel, topology(names, "classic", ["sentiment"], ["50ms"]))
        retry = await channel.get_exchange(names.retry("sentiment", "50ms"))
        await retry.publish(aio_pika.Message(b"again"), routing_key("sentiment", "long"))
        lane = await channel.get_queue(names.work_queue("sentiment", "long"))
        async with lane.iterator(timeout=LIMIT) as messages:
            message = await anext(messages)
            await message.ack()
        assert message.body == b"again"


async def test_results_queues_of_clients_and_jobs(
    connection: AbstractConnection, settings: Settings
) -> None:
    names = settings.names
    async with connection.channel() as channel:
        await declare(channel, topology(names, "quorum"))
        await declare(channel, journal(names, "quorum"))
        results = await channel.get_exchange(names.results)
        for wanted in (client_results(names, "c1"), job_results(names, "j1")):
            await declare(channel, wanted)
            await declare(channel, wanted)
            assert await difference(connection, wanted) == []
            (queue,) = wanted.queues
            # As a worker reaches every reply_to.
            address = names.address(queue.name)
            assert address is not None
            await results.publish(aio_pika.Message(b"r"), address[1])
            message = await (await channel.get_queue(queue.name)).get(no_ack=True, timeout=LIMIT)
            assert message.body == b"r"


async def test_a_difference_with_the_other_queue_type_is_seen(
    connection: AbstractConnection, settings: Settings
) -> None:
    async with connection.channel() as channel:
        await declare(channel, topology(settings.names, "quorum"))
    found = await difference(connection, topology(settings.names, "classic"))
    assert {one.name for one in found} == {
        queue.name for queue in topology(settings.names, "classic").queues
    }
    assert all("inequivalent arg" in one.problem for one in found)


async def test_the_shipped_configuration_and_definitions_on_a_server(
    rabbitmq: Path, tmp_path: Path
) -> None:
    shipped = Path(definitions.__code__.co_filename).parent
    wanted = topology(Names(), "classic", ["sentiment"])
    async with LocalNode(tmp_path) as node:
        shutil.copy(shipped / "rabbitmq.conf", tmp_path / "conf.d" / "20-lmaas.conf")
        # Imported at the second start: at the first, the server would make no user.
        (tmp_path / "conf.d" / "30-import.conf").write_text(
            f"load_definitions = {shipped / 'definitions.json'}\n"
        )
        await node.restart()
        async with await aio_pika.connect(node.url) as connection:
            assert await difference(connection, wanted) == []
            async with connection.channel() as channel:
                work = await channel.get_exchange(wanted.exchanges[0].name)
                key = routing_key("sentiment", "short")
                confirmed = await work.publish(aio_pika.Message(b"x"), key, mandatory=True)
                assert isinstance(confirmed, Basic.Ack)  # so the bindings are there
