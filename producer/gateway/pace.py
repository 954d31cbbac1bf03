"""A body that comes too slowly is given up: whoever sends a byte a minute holds nothing."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Final

from aiohttp import StreamReader

from lmaas.producer.gateway.failures import HttpError

#: Bytes that have to come for each second.
LEAST: Final = 1024


def watch(body: StreamReader, period: float) -> None:
    """Whoever reads the body gets HttpError 408 when within `period` seconds too little has come.

    It is not the sender's fault when nobody has read what was there. The watch ends with the body,
    and after the answer, when aiohttp closes what has not been read.
    """
    loop = asyncio.get_running_loop()

    def look(before: int, slow: bool) -> None:
        if body.is_eof() or body.exception() is not None:
            return
        now = body.total_bytes
        # Somebody waits for more, at both ends of the period.
        waits = body._waiter is not None
        if slow and waits and now - before < LEAST * period:
            body.set_exception(
                HttpError(
                    HTTPStatus.REQUEST_TIMEOUT,
                    "too_slow",
                    f"{now - before:,} bytes of the body came in {period:g} s; at least {LEAST:,} "
                    "a second have to (setting gateway.body_timeout)",
                )
            )
            return
        loop.call_later(period, look, now, waits)

    loop.call_later(period, look, 0, True)
