"""Ports of 127.0.0.1 for programs that we start."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from typing import Final

#: Below the ports that systems give to outgoing connections, so that a port stays ours while the
#: node restarts.
_PORTS: Final = range(20_000, 32_000)


def free_ports(count: int) -> list[int]:
    """Different ports that nobody listens on, at this moment."""
    free = (port for port in iter(lambda: random.choice(_PORTS), None) if is_free(port))
    chosen: dict[int, None] = {}
    while len(chosen) < count:
        chosen[next(free)] = None
    return list(chosen)


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As RabbitMQ does: connections of the last node that still fade away are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


async def listens(port: int) -> bool:
    """Whether a program takes connections on a port of 127.0.0.1."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
