"""What a user of the broker may try, and what none of a role may do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final
from unittest.mock import AsyncMock

import aio_pika
from aio_pika.abc import AbstractChannel

from lmaas.broker_config.topology import Names

#: Gets a channel, and how the names of its user begin: `{own}` in a name stands for that.
Action = Callable[[AbstractChannel, str], Awaitable[object]]


def gets(queue: str) -> Action:
    async def action(channel: AbstractChannel, _: str) -> None:
        await (await channel.get_queue(queue, ensure=False)).get(fail=False)

    return action


def consumes(queue: str) -> Action:
    async def action(channel: AbstractChannel, _: str) -> None:
        await (await channel.get_queue(queue, ensure=False)).consume(AsyncMock())

    return action


def purges(queue: str) -> Action:
    async def action(channel: AbstractChannel, _: str) -> None:
        await (await channel.get_queue(queue, ensure=False)).purge()

    return action


def deletes(queue: str) -> Action:
    return lambda channel, _: channel.queue_delete(queue)


def makes(queue: str, **arguments: Any) -> Action:
    return lambda channel, own: channel.declare_queue(
        queue.format(own=own), durable=True, arguments=arguments
    )


def makes_exchange(name: str, **arguments: Any) -> Action:
    return lambda channel, own: channel.declare_exchange(
        name.format(own=own), durable=True, arguments=arguments
    )


def publishes(exchange: str, key: str, **properties: Any) -> Action:
    async def action(channel: AbstractChannel, _: str) -> None:
        target = await channel.get_exchange(exchange, ensure=False)
        await target.publish(aio_pika.Message(b"x", **properties), key)

    return action


def binds(queue: str, exchange: str, key: str = "") -> Action:
    """A queue that is there; or one of its own, with `{own}` or without a name."""

    async def action(channel: AbstractChannel, own: str) -> None:
        is_there = ".work." in queue
        name = queue.format(own=own)
        found = (
            await channel.get_queue(name, ensure=False)
            if is_there
            else await channel.declare_queue(name, exclusive=True)
        )
        await found.bind(exchange, key)

    return action


MINE: Final = "{own}.client.tap"


def of_nobody(others: Names, delay: str) -> dict[str, Action]:
    """Of no user but the operator; `others` are the names of some other user.

    There is a retry queue with this `delay`.
    """
    lane, retry = others.work_queue("sentiment", "short"), others.retry("sentiment", delay)
    return {
        "take from a lane": gets(lane),
        "take from a retry queue": gets(retry),
        "empty a lane": purges(lane),
        "delete a lane": deletes(lane),
        "make a lane": makes(others.work_queue("another", "short")),
        "make a lane that is there": makes(lane),
        "take another's results": gets(others.client_results("c")),
        "take a job's results": consumes(others.job_results("j.1")),
        "read another's journal": gets(others.jobs),
        "delete another's results": deletes(others.client_results("c")),
        "make a queue of another": makes(others.client_results("d")),
        "write into another's journal": publishes(others.own, others.jobs),
        "write into any queue": publishes("", others.client_results("c")),
        "write into a lane by its name": publishes("", lane),
        "write into RabbitMQ's own exchanges": publishes("amq.topic", "x"),
        "delete the work exchange": lambda channel, _: channel.exchange_delete(others.work),
        "make an exchange": makes_exchange(f"{others.root}.another"),
    }


def of_callers(others: Names, delay: str) -> dict[str, Action]:
    """Of those who ask."""
    lane, copies = others.work_queue("sentiment", "short"), others.copies("sentiment")
    retry = others.retry("sentiment", delay)
    return {
        "take dead letters": consumes(others.dead),
        "write dead letters": publishes(others.dead, "sentiment.short"),
        "answer another": publishes(others.results, f"{others.user}.client.c"),
        "put a copy into a lane": publishes(copies, "sentiment.short"),
        "put a copy into a retry queue": publishes(retry, "sentiment.short"),
        "have the results of another": binds(MINE, others.results, f"{others.user}.client.c"),
        "have the results of all": binds(MINE, others.results, "#"),
        "have the results of all clients": binds(MINE, others.results, "*.client.*"),
        "have what others ask": binds(MINE, others.work, "sentiment.short"),
        "have the copies": binds(MINE, copies, "sentiment.short"),
        "have the dead letters": binds(MINE, others.dead),
        "hear what workers hear": binds(MINE, others.cards, "sentiment"),
        "have a lane answered": binds(lane, others.results, "#"),
        "have another's journal": binds(MINE, others.own, others.jobs),
        "dead-letter into answers": makes(
            "{own}.client.d", **{"x-dead-letter-exchange": others.results}
        ),
        "dead-letter into lanes": makes("{own}.client.e", **{"x-dead-letter-exchange": copies}),
        "divert into answers": makes_exchange("{own}.e", **{"alternate-exchange": others.results}),
        "make a queue without a name": makes(""),
    }


def of_workers(others: Names) -> dict[str, Action]:
    """Of workers, whatever they serve."""
    return {
        "ask as a client": publishes(others.work, "sentiment.short"),
        "take dead letters": gets(others.dead),
        "have all results": binds("", others.results, "#"),
        "have what clients ask": binds("", others.work, "sentiment.short"),
        "make a lane that it serves": makes(others.work_queue("digits", "short")),
    }


def of_workers_of_others(others: Names, delay: str) -> dict[str, Action]:
    """Of workers of other models than `sentiment`."""
    lane, copies = others.work_queue("sentiment", "short"), others.copies("sentiment")
    retry = others.retry("sentiment", delay)
    return {
        "write into a lane that it does not serve": publishes(copies, "sentiment.short"),
        "the same later": publishes(retry, "sentiment.short"),
        "take from a lane that it does not serve": consumes(lane),
    }


def of_monitors(others: Names) -> dict[str, Action]:
    """Of those who only look."""
    return {
        "ask for work": publishes(others.work, "sentiment.short"),
    }


def of_operators(others: Names, delay: str) -> dict[str, Action]:
    """Of operators."""
    names = ("take another's results", "take a job's results", "read another's journal",
             "delete another's results", "make a queue of another")  # fmt: skip
    return {name: of_nobody(others, delay)[name] for name in names}
