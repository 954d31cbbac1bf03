"""Limits that were set on the broker: of connections, channels, queues and exchanges.

The broker has no code of its own for them: 530 stands for an unknown virtual host too, and 406 for
a queue with other arguments. Its sentence tells them apart, on 3.10 as on 4.x.
"""

from __future__ import annotations

import re
from typing import Final

from aiormq.exceptions import AMQPError

from lmaas.broker_config.errors import LimitReached

#: As in "queue limit in vhost 'v' (9) is reached", "number of channels opened (2) has reached the
#: negotiated channel_max (2)".
_REACHED: Final = re.compile(r"\blimit\b.* reached\b|\bhas reached the\b")
_ADVICE: Final = (
    "end what uses it up, or raise it there (`rabbitmqctl set_vhost_limits`, `set_user_limits`; "
    "connection_max, channel_max in rabbitmq.conf)"
)


def limit_reached(error: BaseException, place: str) -> LimitReached | None:
    """The error to raise when the broker at `place` said that a limit is reached, else None."""
    if isinstance(error, LimitReached):
        return error
    sentence = broker_sentence(error)
    if not (isinstance(error, AMQPError) and _REACHED.search(sentence)):
        return None
    return LimitReached(f"{place} is at a limit: {sentence}; {_ADVICE}")


def broker_sentence(error: BaseException) -> str:
    """The broker's own sentence, without its AMQP code."""
    text = str(error.args[-1]) if error.args else ""
    return re.sub(r"^[A-Z_]+ - ", "", text).rstrip(". ")
