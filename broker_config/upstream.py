"""What LMaaS changes in the libraries below it, and why. Nowhere else is a library patched.

Importing LMaaS changes nothing in a process. `apply` does, once, when the first connection to a
broker is made; what it changes holds for all users of these libraries in the process. (What
`rpc_timeout` adds holds for our own connections only, and is no change to a library.)
"""

from __future__ import annotations

import asyncio
import functools
import logging
import struct
from collections.abc import Awaitable, Callable
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass
from typing import Final, TypeVar
from weakref import WeakKeyDictionary

import aiormq.abc
import aiormq.connection
from aiormq.tools import Countdown
from pamqp import commands
from pamqp.header import ContentHeader

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Change:
    """A change to a library."""

    distribution: str
    #: The versions that it was written for and tried with; pyproject.toml allows no others.
    versions: str
    #: What is wrong without it.
    reason: str
    make: Callable[[], None]


@functools.cache
def apply() -> None:
    """Make all changes; does nothing when called again."""
    for change in CHANGES:
        change.make()


# --- properties that nobody can decode -----------------------------------------------------------

#: Begins the content type of such a message, which nobody else's does: to whoever reads the body
#: it is a message in an unknown format, and is treated as that.
UNREADABLE: Final = "unreadable properties"

_FIXED: Final = struct.Struct(">HHQ")
_unmarshal = ContentHeader.unmarshal


def _tolerant(header: ContentHeader, data: bytes) -> None:
    """In the place of ContentHeader.unmarshal: never raises over the properties."""
    try:
        _unmarshal(header, data)
    except (ValueError, TypeError, OverflowError, OSError, RecursionError, struct.error) as error:
        header.class_id, header.weight, header.body_size = _FIXED.unpack_from(data)
        reason = f"{UNREADABLE}: {error.__cause__ or error}"
        header.properties = commands.Basic.Properties(content_type=reason[:100])


def _read_tolerantly() -> None:
    ContentHeader.unmarshal = _tolerant  # type: ignore[method-assign, assignment]


# --- the reason for an alarm ---------------------------------------------------------------------

_alarms: WeakKeyDictionary[object, str] = WeakKeyDictionary()


def alarm(connection: aiormq.abc.AbstractConnection) -> str:
    """The broker's reason for blocking: `low on memory`, `low on disk` or both."""
    return _alarms.get(connection, "memory or disk alarm")


class _Alarms(logging.Filter):
    """Takes the lines about alarms from aiormq's log and tells them in our own."""

    def __init__(self, logger: logging.Logger) -> None:
        """Lowers the logger's level, so that it hears of alarms whatever others want to hear."""
        super().__init__()
        self._level = logger.level
        logger.setLevel(min(logging.WARNING, logger.getEffectiveLevel()))

    def filter(self, record: logging.LogRecord) -> bool:
        told, arguments = str(record.msg), record.args
        if "blocked" not in told or not isinstance(arguments, tuple):
            return self._is_wanted(record.levelno)
        connection = arguments[0]
        if "was blocked by" in told:
            reason = _alarms[connection] = str(arguments[1])
            log.warning(
                "the broker blocks publishers: %s", reason, extra={"action": "broker_blocked"}
            )
        else:
            log.warning("the broker takes messages again", extra={"action": "broker_unblocked"})
        return False

    def _is_wanted(self, level: int) -> bool:
        """Whether the line would have come out before the level was lowered."""
        if self._level:
            return level >= self._level
        return logging.getLogger("aiormq").isEnabledFor(level)


def _listen_for_alarms() -> None:
    aiormq.connection.log.addFilter(_Alarms(aiormq.connection.log))


# --- what our own errors say ---------------------------------------------------------------------

#: Whether the code that runs belongs to a connection of ours. Tasks that it starts inherit it.
_is_ours: ContextVar[bool] = ContextVar("is_ours", default=False)

#: How such lines of aiormq begin.
_TOLD_BY_US: Final = (
    "error when creating transport",
    "Unexpected connection close from remote",
    "Cancelling cause reader exited abnormally",
)


def ours() -> Context:
    """The context for a task that makes a connection of ours."""
    context = copy_context()
    context.run(_is_ours.set, True)
    return context


def _is_news(record: logging.LogRecord) -> bool:
    return not (_is_ours.get() and str(record.msg).startswith(_TOLD_BY_US))


def _say_it_once() -> None:
    aiormq.connection.log.addFilter(_is_news)


# --- the reason for a refusal --------------------------------------------------------------------


def _expect_refusals() -> None:
    commands.Connection.Open.valid_responses = ["Connection.OpenOk", "Connection.Close"]


# --- cancellations that are lost -----------------------------------------------------------------

_counted = Countdown.__call__


async def _cancellable(countdown: Countdown, awaited: Awaitable[T]) -> T:
    """In the place of Countdown.__call__: who is cancelled gets no answer, though there is one."""
    try:
        limit = asyncio.timeout(countdown.get_timeout())
    except TimeoutError:
        return await _counted(countdown, awaited)  # ends it, and raises
    async with limit:
        return await awaited


def _end_when_cancelled() -> None:
    Countdown.__call__ = _cancellable  # type: ignore[method-assign, assignment]


CHANGES: Final = (
    Change(
        distribution="pamqp",
        versions=">=4,<5",
        reason=(
            "AMQP does not say that strings are UTF-8, the broker passes on whatever bytes they "
            "have, and pamqp raises: over a property or a header's name that is no UTF-8, a time "
            "after the year 9999, a table in a table in a table. aiormq then closes the "
            "connection, the broker delivers the message again, and so one message of a stranger "
            "would keep every consumer of its queue away for ever. With this change it is a "
            "message without properties."
        ),
        make=_read_tolerantly,
    ),
    Change(
        distribution="aiormq",
        versions=">=7.2.4,<8",
        reason=(
            "The broker says why it blocks publishers (Connection.Blocked), and aiormq hands that "
            "to its log only."
        ),
        make=_listen_for_alarms,
    ),
    Change(
        distribution="aiormq",
        versions=">=7.2.4,<8",
        reason=(
            "aiormq writes a line for each try to connect and for each loss, which Python prints "
            "to standard error where a script has set up no logging; our errors and our log say "
            "the same once. Lines about connections that are not ours stay."
        ),
        make=_say_it_once,
    ),
    Change(
        distribution="pamqp",
        versions=">=4,<5",
        reason=(
            "The broker says at the opening of a connection which limit is reached, or what is "
            "wrong with the virtual host. aiormq expects nothing but Connection.OpenOk there, as "
            "pamqp has it, and drops code and sentence of the Connection.Close; it raises "
            "ConnectionClosed with both when that is among the expected answers."
        ),
        make=_expect_refusals,
    ),
    Change(
        distribution="aiormq",
        versions=">=7.2.4,<8",
        reason=(
            "aiormq ends what waits for an answer by a cancellation when the connection is lost, "
            "and Python 3.11's `asyncio.wait_for`, with which it waits, loses a cancellation in "
            "the turn of the event loop in which that ends for which it waits. What is asked just "
            "then waited for its whole time limit, and the connection came back after that. With "
            "this change it waits with `asyncio.timeout`, as later versions of Python do."
        ),
        make=_end_when_cancelled,
    ),
)
