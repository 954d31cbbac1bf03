"""What the broker's policies do to messages, behind the back of those who declared the queues.

An administrator can give queues a `message-ttl`, `max-length` or `expires`, and exchanges an
`alternate-exchange`. AMQP has no question for that, so it is tried out. A policy applies to names:
in the place of each queue a stand-in is tried, whose name is the queue's and a little more, so that
nobody else ever gets the messages of the trial. What takes more time or messages than a trial has
is not found by it; `rabbitmqctl list_policies` and `list_operator_policies` show everything.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable
from typing import Any, Final

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import AMQPError, ChannelNotFoundEntity, PublishError

from lmaas.broker_config.declaring import Difference
from lmaas.broker_config.topology import QueueType

#: Seconds of a trial, messages that each stand-in gets, and bytes of each.
SECONDS: Final = 2.0
MESSAGES: Final = 20
_BODY: Final = bytes(1024)
#: `type` property of these messages.
TRIAL: Final = "lmaas.trial.v1"
#: A stand-in that is left over, as when its maker was killed, is deleted by the broker after this.
_EXPIRES_MS: Final = 60_000
_ADVICE: Final = "see `rabbitmqctl list_policies` and `list_operator_policies`"


async def diverts(channel: AbstractChannel, exchange: str) -> bool:
    """Whether somebody gets what no queue of the exchange takes, so that nobody is told of it.

    The channel must be one that raises over returned messages. Where it is so, one message goes to
    the alternate exchange, and expires there at once.
    """
    nowhere = f"trial-{uuid.uuid4().hex}"
    target = await channel.get_exchange(exchange, ensure=False)
    try:
        await target.publish(_message(expiration=0), nowhere, mandatory=True)
    except PublishError:
        return False
    return True


def diversion(exchange: str) -> Difference:
    """The words for an exchange that `diverts`."""
    problem = (
        "a policy of the broker (alternate-exchange) diverts what no queue takes, so that it is "
        f"lost without a word; {_ADVICE}"
    )
    return Difference("exchange", exchange, problem)


async def removals(
    connection: AbstractConnection,
    queues: Iterable[str],
    queue_type: QueueType = "classic",
    seconds: float = SECONDS,
) -> list[Difference]:
    """The queues whose messages, or which themselves, would not last for so many seconds.

    Raises what aio-pika raises, as when stand-ins may not be declared.
    """
    names = list(queues)
    suffix = f".trial-{uuid.uuid4().hex[:8]}"
    async with connection.channel(on_return_raises=True) as channel:
        trials = [_stand_in(channel, name + suffix, queue_type) for name in names]
        await asyncio.gather(*trials)
        await asyncio.sleep(seconds)
        left = {name: await _left(connection, name + suffix) for name in names}
        for name in names:
            await channel.queue_delete(name + suffix)
    return [
        Difference("queue", name, _problem(count, seconds))
        for name, count in left.items()
        if count != MESSAGES
    ]


def _problem(left: int | None, seconds: float) -> str:
    if left is None:
        what = f"(expires) deletes the queue within {seconds:g} s"
    else:
        what = (
            f"(message-ttl, max-length) removes messages: of {MESSAGES}, {left} were left after "
            f"{seconds:g} s"
        )
    return f"a policy of the broker {what}; {_ADVICE}"


async def _stand_in(channel: AbstractChannel, name: str, queue_type: QueueType) -> None:
    lasting = queue_type == "quorum"  # which is never exclusive
    arguments: dict[str, Any] = {"x-queue-type": queue_type, "x-expires": _EXPIRES_MS}
    await channel.declare_queue(name, durable=lasting, exclusive=not lasting, arguments=arguments)
    publishing = [channel.default_exchange.publish(_message(), name) for _ in range(MESSAGES)]
    # The broker may refuse some (overflow: reject-publish): they are missing in the end.
    for outcome in await asyncio.gather(*publishing, return_exceptions=True):
        if isinstance(outcome, BaseException) and not isinstance(outcome, AMQPError):
            raise outcome


async def _left(connection: AbstractConnection, queue: str) -> int | None:
    """Messages in a queue; None when it is gone."""
    try:
        async with connection.channel() as channel:
            return (await channel.get_queue(queue)).declaration_result.message_count
    except ChannelNotFoundEntity:
        return None


def _message(**properties: float) -> aio_pika.Message:
    return aio_pika.Message(_BODY, type=TRIAL, **properties)  # type: ignore[arg-type]
