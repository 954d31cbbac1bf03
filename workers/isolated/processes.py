"""The isolated processes of a worker: one, and a second while the first is held up.

An item that never ends holds a process for its time limit, and what came back with it would wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, ParamSpec, TypeVar

from lmaas.broker_config.messages import Reply
from lmaas.broker_config.seals import Seal
from lmaas.broker_config.settings import Settings
from lmaas.workers.isolated.process import SHARE, IsolatedProcess
from lmaas.workers.pack import Pack

P = ParamSpec("P")
T = TypeVar("T")

PROCESSES: Final = 2


@dataclass(frozen=True, slots=True)
class _Place:
    """A process and the thread that talks to it."""

    process: IsolatedProcess
    thread: ThreadPoolExecutor


class Isolation:
    """For one event loop."""

    def __init__(self, settings: Settings, worker: str, versions: Mapping[str, str]) -> None:
        """As for IsolatedProcess."""
        self._places = [
            _Place(
                IsolatedProcess(settings, worker, versions),
                ThreadPoolExecutor(1, thread_name_prefix=f"isolated-{number}"),
            )
            for number in range(PROCESSES)
        ]
        #: The one that was freed last is taken first: the second is rarely started.
        self._free: asyncio.LifoQueue[_Place] = asyncio.LifoQueue()
        for place in reversed(self._places):
            self._free.put_nowait(place)
        #: Seconds after which what runs counts as held up: then its items are run one by one.
        self._patience = SHARE * settings.pack_timeout
        self._running: set[asyncio.Task[None]] = set()

    async def answer(
        self,
        pack: Pack,
        body: bytes,
        content_type: str | None,
        model: str,
        seal: Seal | None = None,
    ) -> tuple[Pack, Reply]:
        """As `IsolatedProcess.answer`."""
        return await self._run(IsolatedProcess.answer, pack, body, content_type, model, seal)

    async def read(
        self, body: bytes, content_type: str | None, model: str, seal: Seal | None = None
    ) -> Pack:
        """As `IsolatedProcess.read`."""
        return await self._run(IsolatedProcess.read, body, content_type, model, seal)

    async def _run(self, method: Callable[..., T], *arguments: object) -> T:
        place = await self._free.get()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(place.thread, method, place.process, *arguments)
        finally:
            self._free.put_nowait(place)

    async def do(self, work: asyncio.Task[None]) -> None:
        """Returns when the work is done, or held up while there is another process for the next.

        Raises what it raises, or what was held up before has raised.
        """
        self._running.add(work)
        await asyncio.wait([work], timeout=self._patience)
        self._take_results()
        if len(self._running) == PROCESSES:
            await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
            self._take_results()

    async def done(self) -> None:
        """Waits for what is held up. Raises as `do`."""
        while self._running:
            await asyncio.wait(self._running)
            self._take_results()

    def _take_results(self) -> None:
        for work in [work for work in self._running if work.done()]:
            self._running.discard(work)
            work.result()

    async def rest(self) -> None:
        """Ends the processes that have nothing to do."""
        idle = [self._free.get_nowait() for _ in range(self._free.qsize())]
        loop = asyncio.get_running_loop()
        for place in idle:
            await loop.run_in_executor(place.thread, place.process.close)
        for place in reversed(idle):
            self._free.put_nowait(place)

    def stop(self) -> None:
        """Ends all of them; what runs is left to itself."""
        for work in self._running:
            work.cancel()
        for place in self._places:
            place.process.stop()
            place.thread.shutdown(wait=False, cancel_futures=True)
