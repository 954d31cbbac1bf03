"""A model on all cores of this machine, without a queue: the in-process way in.

The same bytes go in and come out as on the queue, so that answers are the same.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Final, Self

from lmaas.broker_config.errors import ModelError
from lmaas.broker_config.messages import MSGPACK, Reply, Request, decode_reply, encode
from lmaas.broker_config.settings import Settings
from lmaas.workers import cores
from lmaas.workers.answering import Answerer, read
from lmaas.workers.repository import Manifest, silence
from lmaas.workers.starting import end_with_parent, signals_held

#: Named in replies where a worker on the queue has its own name.
NAME: Final = "in-process"


class Pool:
    """Runs packs of one model in `settings.processes` processes (0: one a core).

    A single process is this one: a few texts are answered sooner than a process starts.
    """

    def __init__(self, settings: Settings, model: str, version: str | None = None) -> None:
        """Raises ModelNotFound or ModelDamaged before anything is started."""
        self.settings = settings
        self._version = version
        self.processes = settings.processes or cores.usable()
        self._answerer = Answerer(settings, NAME)
        self.manifest: Manifest = self._found(model)
        self._executor: Executor | None = None

    async def __aenter__(self) -> Self:
        if self.processes == 1:
            self._executor = ThreadPoolExecutor(1, initializer=_use, initargs=(self._answerer,))
        else:
            self._executor = ProcessPoolExecutor(
                self.processes,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_start,
                initargs=(self.settings,),
            )
            with signals_held(signal.SIGINT):
                for _ in range(self.processes):  # each starts a process, as none is idle yet
                    self._executor.submit(_loaded, self.manifest.name, self._version)
        return self

    def _found(self, model: str) -> Manifest:
        """Of the version that answers: it is loaded here when one of several has to be chosen."""
        repository = self._answerer.repository
        several = self._version is None and len(repository.paths(model)) > 1
        if several or self.processes == 1:
            return self._answerer.load(model, self._version).manifest
        return repository.find(model, self._version).manifest

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._executor is not None:
            await asyncio.to_thread(self._executor.shutdown, cancel_futures=True)

    async def run(self, request: Request) -> Reply:
        """The reply to a pack. Raises ModelError when a process died over it."""
        assert self._executor is not None, "enter the pool first"
        loop = asyncio.get_running_loop()
        try:
            body = await loop.run_in_executor(self._executor, _answer, encode(request))
        except BrokenProcessPool as error:
            raise ModelError(
                f"a process died while it ran model {request.model!r}: out of memory, or killed; "
                "try fewer --processes"
            ) from error
        return decode_reply(body, MSGPACK)


_answerer: Answerer | None = None


def _use(answerer: Answerer) -> None:
    global _answerer  # noqa: PLW0603 - an executor's initializer has no other place
    _answerer = answerer


def _start(settings: Settings) -> None:
    """Begin a process of the pool, which ends with its parent."""
    end_with_parent(signal.SIGKILL)
    silence()
    _use(Answerer(settings, NAME))


def _loaded(model: str, version: str | None) -> None:
    """Load the model before the first pack comes."""
    assert _answerer is not None
    _answerer.load(model, version)


def _answer(body: bytes) -> bytes:
    assert _answerer is not None
    pack = read(body, MSGPACK, _answerer.settings)
    return encode(_answerer.answer([pack])[0])
