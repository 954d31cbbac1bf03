"""The sockets of connections. Who no longer waits for one to be closed leaves none behind.

Under TLS, to close is to say good-bye, and to wait up to 30 s for the other side to do the same.
aiormq ends that wait when the connection was lost, and then the socket would stay open: for as
long, or until an event loop that ends meanwhile is collected as garbage.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiormq.connection import TransportFactory
from aiormq.exceptions import AMQPConnectionError
from yarl import URL


class _Writer(asyncio.StreamWriter):
    async def wait_closed(self) -> None:
        try:
            await super().wait_closed()
        except asyncio.CancelledError:
            self.transport.abort()
            raise


class Sockets(TransportFactory):
    """Makes those of aio-pika's connections, with TLS where the URL begins with amqps."""

    async def create(
        self, url: URL, **options: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Raises AMQPConnectionError, as aiormq's own factories do."""
        provider = options.pop("ssl_context_provider")
        host: Any = url.host
        port: Any = url.port
        context = await provider.get_context() if url.scheme == "amqps" else None
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _ = await loop.create_connection(
                lambda: protocol, host, port, ssl=context, **options
            )
        except OSError as error:
            raise AMQPConnectionError(*error.args) from error
        return reader, _Writer(transport, protocol, reader, loop)
