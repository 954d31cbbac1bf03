"""The broker's hosts: a connection to the first that answers, or what is wrong."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from typing import Any, Final

import aio_pika
from aio_pika.abc import AbstractConnection
from aiormq.exceptions import (
    AMQPError,
    AuthenticationError,
    ConnectionClosed,
    InvalidFrameError,
    ProbableAuthenticationError,
)
from yarl import URL

from lmaas.broker_config import rpc_timeout, upstream
from lmaas.broker_config.errors import BrokerRefused, BrokerUnavailable, SettingsError
from lmaas.broker_config.settings import Settings, masked

log = logging.getLogger(__name__)

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

#: AMQP codes of a broker that closes a connection because it is on its way down or up:
#: CONNECTION_FORCED and INTERNAL_ERROR.
NOT_NOW: Final = (320, 541)
_GONE: Final = (AMQPError, OSError, asyncio.InvalidStateError, RuntimeError)


def is_gone(error: BaseException) -> bool:
    """Whether aio-pika raised this because a channel or connection went away under a call."""
    if isinstance(error, asyncio.CancelledError):  # its own task was cancelled, and not ours
        task = asyncio.current_task()
        return task is not None and not task.cancelling()
    return isinstance(error, _GONE) or type(error) is Exception


async def connect(settings: Settings, *, name: str) -> AbstractConnection:
    """A connection to the first of the broker's hosts that answers; they are tried in any order.

    Waits up to `settings.connect_timeout` seconds for a broker that is not up yet. Raises
    BrokerUnavailable after that, BrokerRefused at once when no host answers and one says no.
    """
    upstream.apply()
    context = _tls(settings) if _hosts(settings, name)[0].scheme == "amqps" else None
    pauses = Pauses(GROWTH_AWAY)
    last: BaseException | None = None
    try:
        async with asyncio.timeout(settings.connect_timeout):
            while True:
                try:
                    return await _first_to_answer(_hosts(settings, name), context)
                except BaseException as error:
                    if not is_gone(error):
                        raise
                    last = error
                if pauses.is_first:
                    log.warning(
                        "no broker at %s yet; trying for %g s",
                        settings.broker,
                        settings.connect_timeout,
                        extra={"action": "broker_awaited"},
                    )
                await asyncio.sleep(pauses.next())
    except TimeoutError as error:
        reason = f" ({words(last)})" if last else ""
        raise BrokerUnavailable(
            f"no broker at {settings.broker} within {settings.connect_timeout:g} s{reason}; "
            "is it running, and is LMAAS_BROKER_URL right? (`lmaas up` runs a private one)"
        ) from error


async def _first_to_answer(urls: list[URL], context: ssl.SSLContext | None) -> AbstractConnection:
    """Tries one after the other, and those that are silent beside each other.

    Raises what went wrong with the last one, or a refusal.
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
                trying[asyncio.create_task(connecting)] = urls.pop(0)
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
                refused = _refusal(error, trying.pop(task))
                if refused:
                    refused.__cause__ = error
                if refused or not isinstance(failure, BrokerRefused):
                    failure = refused or error
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


def _hosts(settings: Settings, name: str) -> list[URL]:
    """Where to connect to, in a random order: so clients spread over a cluster.

    Raises SettingsError when broker_url is wrong.
    """
    urls = [_url(part, settings, name) for part in settings.broker_url.split(",")]
    random.shuffle(urls)
    return urls


def _url(text: str, settings: Settings, name: str) -> URL:
    try:
        url = URL(text.strip())
    except ValueError as error:
        raise SettingsError(f"broker_url is not a URL: {error}") from error
    if url.scheme not in {"amqp", "amqps"} or not url.host:
        raise SettingsError(
            f"broker_url {masked(text)!r} should look like amqp://user:password@host:5672/vhost"
        )
    return url.update_query(heartbeat=str(settings.heartbeat), name=name)


def _tls(settings: Settings) -> ssl.SSLContext:
    """For amqps. Raises SettingsError when a file cannot be used."""
    try:
        context = ssl.create_default_context(cafile=settings.tls_ca)
        if settings.tls_certificate:
            context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"TLS files (tls_ca, tls_certificate, tls_key) cannot be used: {error}"
        ) from error
    return context


def _refusal(error: BaseException, url: URL) -> BrokerRefused | None:
    """What waiting will not mend."""
    place = masked(str(url.with_query(None)))
    if isinstance(error, ProbableAuthenticationError | AuthenticationError):
        return BrokerRefused(f"{place}: the broker refused user or password")
    if isinstance(error, InvalidFrameError) and "OpenOk" in str(error):
        # aiormq has no better word for a broker that closes when asked for a virtual host.
        return BrokerRefused(
            f"{place}: no virtual host {url.path.removeprefix('/') or '/'!r} for this user"
        )
    if isinstance(error, ConnectionClosed):
        if error.args and error.args[0] in NOT_NOW:
            return None
        return BrokerRefused(f"{place}: the broker refused: {words(error)}")
    cause = error if isinstance(error, ssl.SSLError) else error.__cause__
    if isinstance(cause, ssl.SSLError):
        return BrokerRefused(f"{place}: TLS failed: {cause}; see tls_ca, tls_certificate")
    return None


def words(error: BaseException | None) -> str:
    """An error for people."""
    if isinstance(error, ConnectionClosed) and len(error.args) > 1:
        return str(error.args[1])
    return str(error) or type(error).__name__
