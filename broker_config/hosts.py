"""The broker's hosts: a connection to the first that answers, or what is wrong."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import ssl
from collections.abc import Callable
from typing import Any, Final

import aio_pika
from aio_pika.abc import AbstractConnection
from aiormq.exceptions import (
    AMQPError,
    AuthenticationError,
    ConnectionClosed,
    ProbableAuthenticationError,
)
from yarl import URL

from lmaas.broker_config import credentials, rpc_timeout, tls, upstream
from lmaas.broker_config.errors import (
    BrokerRefused,
    BrokerUnavailable,
    LimitReached,
    PasswordUnavailable,
    SettingsError,
)
from lmaas.broker_config.limits import broker_sentence, limit_reached
from lmaas.broker_config.repeats import Repeats
from lmaas.broker_config.settings import Settings, hosts, masked

log = logging.getLogger(__name__)

#: Of all connections of the process: their broker is away for the same reason.
said: Final = Repeats()

#: Seconds between tries: growing from the first to the last, with jitter.
FIRST_PAUSE: Final = 0.1
LAST_PAUSE: Final = 2.0
#: By this factor for what the broker refuses: less is more for who is busy.
GROWTH: Final = 2.0
#: While the broker is away: nobody comes later than it by more than a twentieth of its absence.
GROWTH_AWAY: Final = 1.05
#: Seconds for one try: TCP, TLS and the AMQP handshake.
HANDSHAKE_TIMEOUT: Final = 10.0
#: Seconds that a host has for it before the next one is tried as well.
HEAD_START: Final = 1.0
#: The action in the log of who waits for a broker that was not there at the first try.
_AWAITED: Final = "broker_awaited"

#: AMQP codes of a broker that closes a connection because it is on its way down or up:
#: CONNECTION_FORCED and INTERNAL_ERROR.
NOT_NOW: Final = (320, 541)
#: What may pass, and says itself what it is.
_PASSING: Final = (LimitReached, PasswordUnavailable)
_GONE: Final = (AMQPError, OSError, asyncio.InvalidStateError, RuntimeError)


def is_gone(error: BaseException) -> bool:
    """Whether aio-pika raised this because a channel or connection went away under a call."""
    if isinstance(error, asyncio.CancelledError):  # its own task was cancelled, and not ours
        task = asyncio.current_task()
        return task is not None and not task.cancelling()
    return isinstance(error, _GONE) or type(error) is Exception


async def connect(
    settings: Settings,
    *,
    name: str,
    on_failure: Callable[[BaseException], None] = lambda error: None,
) -> AbstractConnection:
    """A connection to the first of the broker's hosts that answers; they are tried in any order.

    Waits up to `settings.connect_timeout` seconds for a broker that is not up yet or at a limit of
    connections; `on_failure` hears why each try failed. Raises BrokerUnavailable after that,
    LimitReached when it was the limit, PasswordUnavailable when there was no password,
    BrokerRefused at once when no host answers and one says no. A token is renewed while the
    connection lasts.
    """
    upstream.apply()
    context = _context(settings)
    pauses = Pauses(GROWTH_AWAY)
    password: credentials.Password | None = None
    last: BaseException | None = None
    try:
        async with asyncio.timeout(settings.connect_timeout):
            while True:
                try:
                    password = await credentials.current(settings, password)
                    urls = [_identified(url, settings, name, password) for url in _hosts(settings)]
                    connection = await _first_to_answer(urls, context)
                    credentials.keep(connection, settings, password)
                    return connection
                except BaseException as error:
                    if not (is_gone(error) or isinstance(error, _PASSING)):
                        raise
                    last = error
                on_failure(last)
                if pauses.is_first:
                    _tell_wait(settings, last)
                await asyncio.sleep(pauses.next())
    except TimeoutError as error:
        if isinstance(last, _PASSING):
            raise last from error
        reason = f" ({words(last)})" if last else ""
        raise BrokerUnavailable(
            f"no broker at {settings.broker} within {settings.connect_timeout:g} s{reason}; "
            "is it running, and is LMAAS_BROKER_URL right? (`lmaas up` runs a private one)"
        ) from error


def silence() -> None:
    """For a process beside or after another one that says the same: that there is no broker yet."""
    log.addFilter(_is_no_wait)


def _is_no_wait(record: logging.LogRecord) -> bool:
    return getattr(record, "action", None) != _AWAITED


def _tell_wait(settings: Settings, error: BaseException) -> None:
    limit = isinstance(error, LimitReached)
    what = error if isinstance(error, _PASSING) else f"no broker at {settings.broker} yet"
    told = f"{what}; trying for {settings.connect_timeout:g} s"
    if said.is_due(told):
        log.warning("%s", told, extra={"action": "limit_reached" if limit else _AWAITED})


async def _first_to_answer(urls: list[URL], context: ssl.SSLContext | None) -> AbstractConnection:
    """Tries one after the other, and those that are silent beside each other.

    Raises what went wrong with the last one; rather a limit, and rather still a refusal.
    """
    trying: dict[asyncio.Task[AbstractConnection], URL] = {}
    failure: BaseException | None = None
    try:
        while urls or trying:
            if urls:
                connecting = aio_pika.connect(
                    urls[0],
                    timeout=HANDSHAKE_TIMEOUT,
                    ssl_context=context,
                    connection_class=rpc_timeout.Connection,
                )
                # A task that only `wait` stands for: aiormq may swallow a cancellation of its
                # caller, who then would go on for ever.
                trying[asyncio.create_task(connecting, context=upstream.ours())] = urls.pop(0)
            done, _ = await asyncio.wait(
                trying,
                timeout=HEAD_START if urls else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                error = _error(task)
                if error is None:
                    del trying[task]
                    return task.result()
                told = await _explained(error, trying.pop(task))
                if _weight(told) >= _weight(failure):
                    failure = told
        assert failure is not None
        raise failure
    finally:
        for task in trying:
            task.add_done_callback(_close_unwanted)
            task.cancel()


def _error(task: asyncio.Task[Any]) -> BaseException | None:
    error = asyncio.CancelledError() if task.cancelled() else task.exception()
    if isinstance(error, StopAsyncIteration):  # aiormq's word for it
        return ConnectionResetError("it accepts connections and closes them at once")
    return error


def _close_unwanted(trying: asyncio.Task[AbstractConnection]) -> None:
    if not trying.cancelled() and trying.exception() is None:
        closing = asyncio.create_task(trying.result().close())
        _closing.add(closing)
        closing.add_done_callback(_closing.discard)


#: Kept here, because the event loop holds its tasks weakly.
_closing: set[asyncio.Task[None]] = set()


class Pauses:
    """Seconds to wait before the next try."""

    def __init__(self, growth: float = GROWTH) -> None:
        self._next = FIRST_PAUSE
        self._growth = growth

    @property
    def is_first(self) -> bool:
        return self._next == FIRST_PAUSE

    def next(self) -> float:
        pause = self._next * random.uniform(0.5, 1.0)
        self._next = min(self._next * self._growth, LAST_PAUSE)
        return pause


def check(settings: Settings) -> None:
    """Raises SettingsError for what `connect` would raise it for, without a connection."""
    _context(settings)


def _context(settings: Settings) -> ssl.SSLContext | None:
    urls = _hosts(settings)
    credentials.check(settings, urls)
    return tls.context_of(settings, urls)


def _hosts(settings: Settings) -> list[URL]:
    """Where to connect to, in a random order: so clients spread over a cluster.

    Raises SettingsError when broker_url is wrong.
    """
    urls = [_url(part) for part in hosts(settings.broker_url)]
    random.shuffle(urls)
    return urls


def _url(text: str) -> URL:
    try:
        url = URL(text)
        port_is_valid = url.port != 0
    except ValueError:  # its words may have a piece of the password
        raise SettingsError(_complaint(text)) from None
    if url.scheme not in {"amqp", "amqps"} or not url.host or not port_is_valid:
        raise SettingsError(_complaint(text))
    # A `#`, `?` or `/` in a password ends the host's part early: its `@` comes after that.
    if re.search(r"[/?#].*@", text.partition("://")[2]) or url.raw_fragment or "," in url.host:
        raise SettingsError(_complaint(text))
    return url


def _identified(
    url: URL, settings: Settings, name: str, password: credentials.Password | None
) -> URL:
    """With what aiormq reads in it."""
    if password:
        url = url.with_password(password.value)
    auth = "external" if settings.broker_auth == "certificate" else "plain"
    return url.update_query(heartbeat=str(settings.heartbeat), name=name, auth=auth)


def _complaint(text: str) -> str:
    return (
        f"broker_url {masked(text)!r} should look like amqp://user:password@host:5672/vhost, "
        "several of them separated by commas; in user, password and vhost write `/` as %2F, "
        "`@` as %40, `:` as %3A, `?` as %3F, `#` as %23, `%` as %25"
    )


def _weight(failure: BaseException | None) -> int:
    """Which of the hosts' failures is told: what waiting will not mend, then a limit."""
    return 2 if isinstance(failure, BrokerRefused) else int(isinstance(failure, LimitReached))


async def _explained(error: BaseException, url: URL) -> BaseException:
    """As `_told`; of a host that ended a plain connection at once also whether it speaks TLS."""
    told = _told(error, url)
    was_cut = isinstance(error.__cause__, ConnectionResetError | asyncio.IncompleteReadError)
    if told is error and was_cut and url.scheme == "amqp" and await tls.answers(url, HEAD_START):
        told = BrokerRefused(
            f"{masked(str(url.with_query(None)))}: that port speaks TLS: write amqps:// in "
            "broker_url (tls_ca names the authority, where the system does not know it)"
        )
        told.__cause__ = error
    return told


def _told(error: BaseException, url: URL) -> BaseException:
    """A limit or a refusal by the host, in our words, or the error itself."""
    place = masked(str(url.with_query(None)))
    told = limit_reached(error, place) or _refusal(error, url, place)
    if told is None:
        return error
    told.__cause__ = error
    return told


def _refusal(error: BaseException, url: URL, place: str) -> BrokerRefused | None:
    """What waiting will not mend."""
    if isinstance(error, ProbableAuthenticationError | AuthenticationError):
        return BrokerRefused(f"{place}: {_unknown(error, url)}")
    if isinstance(error, ConnectionClosed):
        if error.args and error.args[0] in NOT_NOW:
            return None
        return BrokerRefused(f"{place}: {_said_no(broker_sentence(error), url)}")
    cause = error if isinstance(error, ssl.SSLError) else error.__cause__
    if isinstance(cause, ssl.SSLError):
        return BrokerRefused(f"{place}: TLS failed: {tls.said(cause, url)}")
    return None


def _unknown(error: BaseException, url: URL) -> str:
    if url.query.get("auth") == "plain":
        return credentials.expired(url.password) or "the broker refused user or password"
    if type(error) is AuthenticationError:  # aiormq's, of what the broker offers
        return (
            "the broker does not take certificates for passwords: enable its plugin "
            "rabbitmq_auth_mechanism_ssl, with `auth_mechanisms.1 = EXTERNAL` in rabbitmq.conf"
        )
    return (
        "the broker knows no user by the name in tls_certificate; `rabbitmqctl add_user` makes "
        "one (see `ssl_cert_login_from` in rabbitmq.conf for which name it reads)"
    )


def _said_no(sentence: str, url: URL) -> str:
    vhost = url.path.removeprefix("/") or "/"
    if sentence.startswith("vhost") and sentence.endswith("not found"):
        return (
            f"no virtual host {vhost!r} there; `rabbitmqctl add_vhost` makes one, or mend "
            "LMAAS_BROKER_URL"
        )
    if sentence.startswith("access to vhost") and ":" not in sentence:
        named = re.search("refused for user '(.*)'", sentence)
        user = named[1] if named else url.user or "guest"
        return (
            f"user {user!r} may not use virtual host {vhost!r}; "
            "`rabbitmqctl set_permissions -p VHOST USER` allows it"
        )
    return f"the broker refused: {sentence}"


def words(error: BaseException | None) -> str:
    """An error for people."""
    if isinstance(error, ConnectionClosed) and len(error.args) > 1:
        return str(error.args[1])
    return str(error) or type(error).__name__
