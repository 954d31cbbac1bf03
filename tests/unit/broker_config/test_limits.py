"""What the broker says of its limits, on 3.10.8 and 4.0.5."""

from __future__ import annotations

import pytest
from aiormq.exceptions import (
    AMQPError,
    ChannelPreconditionFailed,
    ConnectionClosed,
    ConnectionNotAllowed,
)

from lmaas.broker_config.limits import limit_reached


@pytest.mark.parametrize(
    "error",
    [
        ConnectionClosed(
            530,
            "NOT_ALLOWED - access to vhost 'v' refused for user 'u': connection limit (1) is "
            "reached",
        ),
        ConnectionClosed(
            530,
            "NOT_ALLOWED - connection refused for user 'u': user connection limit (1) is reached",
        ),
        ConnectionClosed(
            530, "NOT_ALLOWED - connection refused: node connection limit (1) is reached"
        ),
        ConnectionNotAllowed(
            "NOT_ALLOWED - number of channels opened for user 'u' has reached the maximum allowed "
            "user limit of (1)"
        ),
        ConnectionNotAllowed(
            "NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max (2)"
        ),
        ChannelPreconditionFailed(
            "PRECONDITION_FAILED - cannot declare queue 'q': queue limit in vhost 'v' (0) is "
            "reached"
        ),
    ],
)
def test_a_limit_is_told_in_the_broker_s_words(error: AMQPError) -> None:
    told = limit_reached(error, "amqp://h/")
    assert told
    sentence = str(error.args[-1]).partition(" - ")[2]
    assert str(told).startswith(f"amqp://h/ is at a limit: {sentence}; end what uses it up")


@pytest.mark.parametrize(
    "error",
    [
        ConnectionClosed(530, "NOT_ALLOWED - vhost limit not found"),
        ConnectionClosed(530, "NOT_ALLOWED - access to vhost 'v' refused for user 'u'"),
        ChannelPreconditionFailed(
            "PRECONDITION_FAILED - inequivalent arg 'x-delivery-limit' for queue 'q' in vhost '/': "
            "received '1' but current is '2'"
        ),
        OSError("a limit is reached"),
        ConnectionError(),
    ],
)
def test_what_is_no_limit_is_not_told_as_one(error: BaseException) -> None:
    assert limit_reached(error, "amqp://h/") is None
