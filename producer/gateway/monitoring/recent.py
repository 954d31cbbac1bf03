"""The items of calls that failed last, at this gateway, since it began."""

from __future__ import annotations

import time
from collections import deque
from typing import Final

import msgspec
from aiohttp import web

from lmaas.broker_config.messages import Reply

#: Failures that are remembered, and characters of a message and of an id.
MOST: Final = 100
WORDS: Final = 500
NAME: Final = 100


class Failed(msgspec.Struct, frozen=True):
    """One item, without its content."""

    #: Unix seconds.
    at: float
    model: str
    id: str
    code: str
    message: str
    worker: str | None


class Failures(msgspec.Struct):
    """The newest first."""

    failures: list[Failed]


class Recent:
    """Observes a client."""

    def __init__(self) -> None:
        self._failed: deque[Failed] = deque(maxlen=MOST)

    def replied(self, reply: Reply) -> None:
        """A worker has answered a pack."""
        failed = [(one.id, one.error) for one in reply.results if one.error is not None]
        if reply.error is not None and not failed:
            failed.append(("", reply.error))
        for name, error in failed[-MOST:]:
            self._failed.append(
                Failed(
                    at=time.time(),
                    model=reply.model,
                    id=name[:NAME],
                    code=error.code,
                    message=error.message[:WORDS],
                    worker=reply.worker,
                )
            )

    @property
    def failures(self) -> list[Failed]:
        """The newest first."""
        return [*reversed(self._failed)]


RECENT: Final = web.AppKey("recent", Recent)
