"""A gateway that listens, for as long as somebody wants it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import http_exceptions, web

from lmaas.broker_config.errors import SettingsError
from lmaas.broker_config.settings import Settings
from lmaas.producer.gateway.app import create_app
from lmaas.producer.gateway.certificate import Certificate
from lmaas.producer.gateway.settings import GatewaySettings

#: What aiohttp raises of a request that is no HTTP, or whose body is not what its head says.
_MALFORMED: Final = (http_exceptions.HttpProcessingError, web.RequestPayloadError)


def _shorten(record: logging.LogRecord) -> bool:
    """Whoever reaches the port can send what is malformed: that is a line, and no traceback."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, _MALFORMED):
        record.levelno, record.levelname = logging.WARNING, logging.getLevelName(logging.WARNING)
        words = " ".join(str(error).split())
        record.msg, record.args = "a request is malformed: %s", (words[:200],)
        record.exc_info = None
    return True


#: What aiohttp logs of the connections.
_log: Final = logging.getLogger(f"{__name__}.connections")
_log.addFilter(_shorten)


@contextlib.asynccontextmanager
async def serving(
    settings: GatewaySettings, engine: Settings, operator: Settings | None = None
) -> AsyncIterator[str]:
    """Its URL; as `create_app`. At the end what has begun is answered, for a minute at most.

    Raises SettingsError when nobody can listen there or a TLS file is wrong, BrokerUnavailable or
    BrokerRefused when there is no broker.
    """
    certificate = Certificate(settings) if settings.tls_certificate else None
    app = create_app(settings, engine, operator)
    runner = web.AppRunner(
        app,
        access_log=None,
        logger=_log,
        handler_cancellation=True,
        auto_decompress=False,  # see `decompression`
        keepalive_timeout=settings.idle_timeout,
    )
    renewing = None
    try:
        await runner.setup()
        await _listen(runner, settings, certificate.context if certificate else None)
        host, port = runner.addresses[0][:2]
        host = f"[{host}]" if ":" in host else host
        if certificate:
            renewing = asyncio.create_task(certificate.renew(), name="certificate")
        yield f"{'https' if certificate else 'http'}://{host}:{port}"
    finally:
        if renewing:
            renewing.cancel()
        await runner.cleanup()


async def _listen(
    runner: web.AppRunner, settings: GatewaySettings, context: ssl.SSLContext | None
) -> None:
    try:
        await web.TCPSite(runner, settings.host, settings.port, ssl_context=context).start()
    except (OSError, OverflowError) as error:
        raise SettingsError(
            f"the gateway cannot listen at {settings.host}:{settings.port}: {error}; see the "
            "settings gateway.host and gateway.port (--port)"
        ) from error
