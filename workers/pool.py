"""A model on all cores of this machine, without a queue: the in-process way in.

The same bytes go in and come out as on the queue, so that answers are the same.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Final, Self

import msgspec

from lmaas.broker_config.estimator import Estimator
from lmaas.broker_config.messages import MSGPACK, Reply, Request, encode
from lmaas.broker_config.replies import decoded_reply
from lmaas.broker_config.settings import Settings
from lmaas.service import cores
from lmaas.workers import parallelism
from lmaas.workers.answering import Answerer
from lmaas.workers.manifest import Manifest
from lmaas.workers.pack import read
from lmaas.workers.preprocess import media_types, preprocessor
from lmaas.workers.processes import Answering, Processes
from lmaas.workers.repository import Repository, silence, trusted

#: Named in replies where a worker on the queue has its own name.
NAME: Final = "in-process"


class Pool:
    """Runs packs of one model in up to `settings.processes` processes (0: as it is fastest).

    A single process is this one: a few texts are answered sooner than a process starts.
    """

    def __init__(self, settings: Settings, model: str, version: str | None = None) -> None:
        """Raises ModelNotFound or ModelDamaged before anything is started."""
        # No more packs than `window` are on their way.
        self.processes = min(_wanted(settings, model, version), settings.window)
        self.settings = msgspec.structs.replace(settings, processes=self.processes)
        self._version = version
        self._answerer = Answerer(self.settings, NAME)
        self.manifest: Manifest = self._found(model)
        self._estimator = Estimator(self.manifest.cost.calibration)
        self._thread: ThreadPoolExecutor | None = None
        self._processes: Processes | None = None

    async def __aenter__(self) -> Self:
        if self.processes == 1:
            self._thread = ThreadPoolExecutor(1)
        else:
            self._processes = Processes(self.processes, _begin, self.settings)
        return self

    def _found(self, model: str) -> Manifest:
        """Of the version that answers: it is loaded here when one of several has to be chosen."""
        repository = self._answerer.models.repository
        several = self._version is None and len(repository.paths(model)) > 1
        if several or self.processes == 1:
            return self._answerer.models.load(model, self._version).manifest
        return repository.find(model, self._version).manifest

    def media_types(self) -> list[str]:
        """Of the bytes that the model takes; none of a model that takes no bytes.

        Loads what prepares its items. Raises ModelDamaged.
        """
        version = self._answerer.models.repository.find(self.manifest.name, self.manifest.version)
        return media_types(preprocessor(version))

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._thread is not None:
            await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)
        if self._processes is not None:
            await self._processes.close()

    def seconds(self, model: str, items: int, size: int) -> float:
        """What a pack of `items` of `size` bytes is expected to take, by what was measured."""
        return self._estimator.seconds(items, size)

    async def run(self, request: Request) -> Reply:
        """The reply to a pack, of one version whatever is added meanwhile.

        Raises ModelError when a process has ended.
        """
        if request.version is None and request.model == self.manifest.name:
            request = msgspec.structs.replace(request, version=self.manifest.version)
        body = encode(request)
        reply = await decoded_reply(await self._answered(body), MSGPACK)
        if reply.timings is not None and reply.timings.cost > 0:
            self._estimator.observe([(len(request.items), len(body))], reply.timings.cost)
        return reply

    async def _answered(self, body: bytes) -> bytes:
        if self._processes is not None:
            return await self._processes.run(body)
        assert self._thread is not None, "enter the pool first"
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, _answer, self._answerer, body)


def _wanted(settings: Settings, model: str, version: str | None) -> int:
    """Processes for a version of a model, before it is known whether it can be used."""
    repository = Repository(*settings.model_folders, trust=trusted(settings))
    manifests = repository.manifests([model], version)
    return parallelism.processes(settings, manifests, cores.usable())


def _begin(settings: Settings) -> Answering:
    """Begin a process of the pool."""
    silence()
    answerer = Answerer(settings, NAME)
    return lambda body: _answer(answerer, body)


def _answer(answerer: Answerer, body: bytes) -> bytes:
    pack = read(body, MSGPACK, answerer.settings)
    return encode(answerer.answer([pack])[0])
