"""By how much the event loop is late: something blocks it when that is more than a moment."""

from __future__ import annotations

import asyncio
from typing import Final

from prometheus_client import Gauge, Histogram

from lmaas.broker_config.metrics import SECONDS

#: Seconds between two looks.
INTERVAL: Final = 0.5

_newest: Final = Gauge("lmaas_loop_lag_newest_seconds", "By how much the event loop is late.")
_all: Final = Histogram(
    "lmaas_loop_lag_seconds", "By how much the event loop was late.", buckets=SECONDS
)


async def follow_loop_lag() -> None:
    """Measures for ever by how much a timer of the event loop is late."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + INTERVAL
        await asyncio.sleep(INTERVAL)
        late = max(loop.time() - due, 0.0)
        _newest.set(late)
        _all.observe(late)
