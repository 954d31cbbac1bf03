"""Makes what a topology names on a broker, and says what a broker has otherwise."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed
from aiormq.exceptions import ChannelAccessRefused, ConnectionCommandInvalid

from lmaas.broker_config.errors import BrokerSilent, TopologyMismatch
from lmaas.broker_config.limits import broker_sentence, limit_reached
from lmaas.broker_config.topology import Binding, Exchange, Queue, Topology


async def declare(channel: AbstractChannel, wanted: Topology) -> None:
    """Make it so; what is there already stays as it is.

    Raises TopologyMismatch when the broker has something otherwise or lacks a plugin, LimitReached
    when it may not have another queue; the channel is then closed.
    """
    try:
        for exchange in wanted.exchanges:
            await channel.declare_exchange(exchange.name, exchange.type, durable=True)
        for queue in wanted.queues:
            await channel.declare_queue(queue.name, durable=True, arguments=queue.arguments)
        for binding in wanted.bindings:
            await _bind(channel, binding)
    except (ChannelPreconditionFailed, ConnectionCommandInvalid) as error:
        if told := limit_reached(error, "the broker"):
            raise told from error
        # "unknown exchange type" until 4.2, "invalid exchange type" since 4.3. 3.10 closes the
        # connection over it (503), 4.x the channel (406).
        if "exchange type 'x-random'" in str(error):
            raise TopologyMismatch(
                f"the broker lacks a plugin ({broker_sentence(error)}), which the balance 'random' "
                "needs: `rabbitmq-plugins enable rabbitmq_random_exchange` there, or set another "
                "LMAAS_BALANCE"
            ) from error
        raise TopologyMismatch(
            f"{broker_sentence(error)}. See what differs with `lmaas broker doctor`; then set "
            "LMAAS_QUEUE_TYPE as it was, delete the queue when it is empty, or use another "
            "LMAAS_PREFIX"
        ) from error


async def ensure(connection: AbstractConnection, wanted: Topology) -> None:
    """As `declare`, over channels of its own. For who may not declare it has to be there already.

    Raises TopologyMismatch and LimitReached, too when something is not there.
    """
    try:
        async with connection.channel() as channel:
            await declare(channel, wanted)
    except ChannelAccessRefused as refusal:
        if lacking := [one.name for one in await missing(connection, wanted)]:
            raise TopologyMismatch(
                f"the broker lacks {', '.join(lacking[:3])}{', …' if lacking[3:] else ''}, and "
                f"this user may not make it ({broker_sentence(refusal)}); who may does it with "
                "`lmaas broker declare`, and --model NAME for each model that is served"
            ) from refusal


async def missing(connection: AbstractConnection, wanted: Topology) -> list[Exchange | Queue]:
    """What is not there. What a user may not even see (from RabbitMQ 4.3 on) counts as there."""
    found: list[Exchange | Queue] = []
    left: deque[Exchange | Queue] = deque([*wanted.exchanges, *wanted.queues])
    while left:
        try:
            async with connection.channel() as channel:
                while left:
                    await _find(channel, left[0])
                    left.popleft()
        except ChannelNotFoundEntity:
            found.append(left.popleft())
        except ChannelAccessRefused:
            left.popleft()
    return found


async def _find(channel: AbstractChannel, one: Exchange | Queue) -> None:
    if isinstance(one, Exchange):
        await channel.get_exchange(one.name)
    else:
        await channel.get_queue(one.name)


async def _bind(channel: AbstractChannel, binding: Binding) -> None:
    if binding.kind == "queue":
        queue = await channel.get_queue(binding.destination, ensure=False)
        await queue.bind(binding.source, binding.key)
    else:
        exchange = await channel.get_exchange(binding.destination, ensure=False)
        await exchange.bind(binding.source, binding.key)


#: What is asked of a broker over a channel, which it closes to say no.
_Question = Callable[[AbstractChannel], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that a broker has otherwise."""

    kind: Literal["exchange", "queue"]
    name: str
    #: "missing", or the broker's own words about the first argument that differs.
    problem: str


async def difference(connection: AbstractConnection, wanted: Topology) -> list[Difference]:
    """What the broker lacks or has otherwise. Changes nothing that is there.

    Each question has a channel of its own, because the broker closes the channel to say no.
    """
    found = []
    for exchange in wanted.exchanges:
        problem = await _exchange_problem(connection, exchange)
        if problem:
            found.append(Difference("exchange", exchange.name, problem))
    for queue in wanted.queues:
        problem = await _queue_problem(connection, queue)
        if problem:
            found.append(Difference("queue", queue.name, problem))
    return found


async def hanging(connection: AbstractConnection, wanted: Topology) -> str | None:
    """What is said of the first queue that does not answer; None when all do, or are missing."""
    for queue in wanted.queues:
        try:
            async with connection.channel() as channel:
                await channel.get_queue(queue.name)
        except ChannelNotFoundEntity:
            pass
        except BrokerSilent as error:
            return str(error)
    return None


async def _exchange_problem(connection: AbstractConnection, exchange: Exchange) -> str | None:
    return await _problem(
        connection,
        lambda channel: channel.get_exchange(exchange.name),
        lambda channel: channel.declare_exchange(exchange.name, exchange.type, durable=True),
    )


async def _queue_problem(connection: AbstractConnection, queue: Queue) -> str | None:
    return await _problem(
        connection,
        lambda channel: channel.get_queue(queue.name),
        lambda channel: channel.declare_queue(queue.name, durable=True, arguments=queue.arguments),
    )


async def _problem(connection: AbstractConnection, *questions: _Question) -> str | None:
    """The first that is answered with no; each has a channel of its own."""
    try:
        for question in questions:
            async with connection.channel() as channel:
                await question(channel)
    except ChannelNotFoundEntity:
        return "missing"
    except ChannelPreconditionFailed as error:
        return broker_sentence(error)
    except BrokerSilent as error:
        return str(error)
    return None
