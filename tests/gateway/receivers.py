"""Receivers of callbacks: servers of this machine that remember what came."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web
from multidict import CIMultiDictProxy


@dataclass(frozen=True)
class Came:
    """One request."""

    at: float
    path: str
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


Answering = Callable[[Came], Awaitable[web.Response] | web.Response]


@dataclass
class Receiver:
    """What came, and what is answered."""

    port: int
    answer: Answering
    came: list[Came] = field(default_factory=list)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    async def add(self, request: web.BaseRequest) -> web.Response:
        one = Came(time.time(), request.path, request.headers, await request.read())
        async with self._changed:
            self.came.append(one)
            self._changed.notify_all()
        answer = self.answer(one)
        return answer if isinstance(answer, web.Response) else await answer

    async def received(self, count: int, seconds: float = 60.0) -> list[Came]:
        """As soon as so many have come."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(lambda: len(self.came) >= count)
        return self.came


def statuses(*each: int) -> Answering:
    """These, one after the other, and the last one from then on."""
    left = list(each)

    def answer(_came: Came) -> web.Response:
        return web.Response(status=left.pop(0) if len(left) > 1 else left[0])

    return answer


@contextlib.asynccontextmanager
async def receiving(answer: Answering | None = None) -> AsyncIterator[Receiver]:
    """One that listens; it accepts everything unless it is told otherwise."""
    receiver = Receiver(0, answer or statuses(204))
    runner = web.ServerRunner(web.Server(receiver.add), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        receiver.port = runner.addresses[0][1]
        yield receiver
    finally:
        await runner.cleanup()
