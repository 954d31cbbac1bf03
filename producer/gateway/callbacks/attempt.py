"""One try to send an event."""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import version
from typing import Final

import aiohttp

from lmaas.broker_config import tls
from lmaas.producer.gateway.callbacks.receivers import Receiver, Receivers
from lmaas.producer.gateway.callbacks.schedule import retry_after
from lmaas.producer.gateway.routes import JSON
from lmaas.producer.gateway.secret import Secret
from lmaas.producer.gateway.state.deliveries import Claimed

_AGENT: Final = f"lmaas/{version('lmaas')}"
#: Characters of an error that are kept.
_LONGEST: Final = 500


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of it."""

    #: Unix seconds.
    at: float
    seconds: float
    #: None: there was no answer.
    status: int | None
    #: In words; None: it was received.
    error: str | None
    #: Seconds that the receiver asked for.
    retry_after: float | None = None


async def attempt(
    http: aiohttp.ClientSession, receivers: Receivers, delivery: Claimed, timeout: float
) -> Attempt:
    """Sends it once, to an allowed address, without following redirects. Raises nothing."""
    began = time.time()
    start = time.monotonic()
    if delivery.sealed is not None:
        return Attempt(began, 0.0, None, str(delivery.sealed)[:_LONGEST])
    try:
        receiver = _receiver(receivers, delivery)
        status, after = await _post(http, receiver, delivery, timeout)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        words = _words(error, timeout)[:_LONGEST]
        return Attempt(began, time.monotonic() - start, None, words)
    return Attempt(began, time.monotonic() - start, status, _complaint(status), after)


def _receiver(receivers: Receivers, delivery: Claimed) -> Receiver:
    if delivery.endpoint is None:
        secret = Secret(delivery.secret) if delivery.secret else None
        return receivers.callback(delivery.owner, delivery.url, secret)
    receiver = receivers.endpoint(delivery.endpoint)
    if receiver is None:
        raise ValueError(f"the settings have no endpoint {delivery.endpoint!r} any more")
    return receiver


async def _post(
    http: aiohttp.ClientSession, receiver: Receiver, delivery: Claimed, timeout: float
) -> tuple[int, float | None]:
    """Status, and the seconds that the receiver asks for."""
    headers = receiver.scheme.sign(delivery.id, int(time.time()), delivery.body)
    async with http.post(
        receiver.url,
        data=delivery.body,
        headers={**headers, "Content-Type": JSON, "User-Agent": _AGENT},
        allow_redirects=False,
        timeout=aiohttp.ClientTimeout(total=timeout),
    ) as answer:
        return answer.status, retry_after(answer.headers.get("Retry-After"), time.time())


def _words(error: Exception, timeout: float) -> str:
    """Why there was no answer."""
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout:g} s"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        why = error.certificate_error
        if isinstance(why, ssl.SSLCertVerificationError):
            return f"the certificate of {error.host} {tls.flaw(why, error.host)[0]}"
    return str(error) or type(error).__name__


def _complaint(status: int) -> str | None:
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return None
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return f"answered {status}, a redirect, which is not followed"
    if status == HTTPStatus.GONE:
        return "answered 410: it wants no more events"
    return f"answered {status}"
