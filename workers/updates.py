"""New versions of what a worker serves: seen, loaded beside the old one, and switched to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from lmaas.broker_config.errors import ModelError
from lmaas.broker_config.estimator import Estimator
from lmaas.workers.models import Models
from lmaas.workers.runtime import Runtime

log = logging.getLogger(__name__)

#: Seconds between two looks at the folders. Two that find the same show that nobody is copying.
INTERVAL: Final = 1.0


class Updates:
    """Of the models that a worker serves; what it does not serve it does not load."""

    def __init__(self, models: Models, estimators: MutableMapping[str, Estimator]) -> None:
        """`estimators` has the models that are served, with what their packs cost."""
        self._models = models
        self._estimators = estimators
        # Neither the event loop nor the inference thread waits for a disk.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="updates")

    async def run(self) -> None:
        """Looks for ever."""
        try:
            while True:
                await asyncio.sleep(INTERVAL)
                for model in self._estimators:
                    await self._look(model)
        finally:
            self._executor.shutdown(wait=False, cancel_futures=True)

    async def _look(self, model: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            runtime = await loop.run_in_executor(self._executor, self._models.newer, model)
        except (ModelError, OSError, MemoryError) as error:
            version = self._models.current[model]
            self._models.repository.tell(f"model {model!r} stays at version {version}: {error}")
            return
        if runtime is not None:
            self._switch(model, runtime)

    def _switch(self, model: str, runtime: Runtime) -> None:
        before = self._models.current[model]
        self._models.switch(runtime)
        self._estimators[model] = Estimator(runtime.manifest.cost.calibration)
        log.info(
            "model %r: version %s answers, after %s", model, runtime.manifest.version, before,
            extra={"action": "model_switched"},
        )  # fmt: skip
