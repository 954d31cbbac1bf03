"""The model versions that a process has loaded, and which one answers when none is named.

That is decided when a pack arrives, and goes with it: a newer version that is switched to meanwhile
answers what comes later. Whoever loads waits for the disk and for ONNX Runtime, so it is called off
the event loop; what is only looked up is not.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from lmaas.broker_config.settings import Settings
from lmaas.service import cores
from lmaas.workers import parallelism, providers
from lmaas.workers.marks import Marks
from lmaas.workers.model_version import ModelVersion
from lmaas.workers.repository import Fingerprint, opened
from lmaas.workers.runtime import Runtime

#: Of models and versions: loaded before this process was forked; see lmaas.workers.preloading.
INHERITED: Final[dict[tuple[str, str], Runtime]] = {}


class Models:
    """Runtimes: of each model the current one, and others of up to `model_memory` bytes."""

    def __init__(self, settings: Settings) -> None:
        self.repository = opened(settings)
        self._settings = settings
        self._providers = providers.named(settings.providers)
        providers.check(self._providers)
        self._marks = Marks(Path(settings.model_marks) if settings.model_marks else None)
        #: The one that was not asked for the longest time first.
        self._loaded: OrderedDict[tuple[str, str], Runtime] = OrderedDict()
        self._current: dict[str, str] = {}
        #: What there was of a model at the last look, and whether it was tried.
        self._seen: dict[str, tuple[Fingerprint, bool]] = {}
        #: Held by who changes what is loaded, and never while something is being loaded.
        self._changing = threading.Lock()

    @property
    def current(self) -> Mapping[str, str]:
        """The version of each model that answers when none is named, of those that are loaded."""
        return MappingProxyType(self._current)

    def load(self, model: str, version: str | None = None) -> Runtime:
        """The runtime of a version, loaded once; without one, of the version that is current.

        Raises ModelNotFound or ModelDamaged.
        """
        version = version or self._current.get(model)
        if version is not None:
            runtime = self._loaded.get((model, version))
            if runtime is None:
                runtime = self.repository.load(model, version, self._made)
        else:
            self._seen[model] = self.repository.fingerprint(model), True
            runtime = self.repository.load(model, None, self._answering)
            self._current[model] = runtime.manifest.version
        self._keep(runtime)
        return runtime

    def newer(self, model: str) -> Runtime | None:
        """The version that should be current and is not, loaded beside the one that is.

        None while somebody is still copying: a version is looked at when nothing of it has changed
        since the call before. Raises ModelNotFound or ModelDamaged, once for what is there, and
        OSError or MemoryError.
        """
        found = self.repository.fingerprint(model)
        before, tried = self._seen.get(model, (None, False))
        self._seen[model] = found, found == before
        if found != before or tried:
            return None
        try:
            runtime = self.repository.load(model, None, self._answering)
        except (OSError, MemoryError):  # it may go better at the next look
            self._seen[model] = found, False
            raise
        self._keep(runtime)
        return None if runtime.manifest.version == self._current.get(model) else runtime

    def switch(self, runtime: Runtime) -> None:
        """It answers from now on what names no version."""
        self._current[runtime.manifest.name] = runtime.manifest.version

    def _answering(self, found: ModelVersion) -> Runtime:
        """Of what is to answer who names no version. Raises ModelDamaged for what is older than
        what did before, where versions are signed."""
        if found.signed is None:
            return self._made(found)
        self._marks.check(found.manifest.name, found.manifest.version, found.signed.time)
        runtime = self._made(found)
        self._marks.advance(found.manifest.name, found.signed.time)
        return runtime

    def _made(self, found: ModelVersion) -> Runtime:
        key = found.manifest.name, found.manifest.version
        loaded = self._loaded.get(key) or INHERITED.get(key)
        if loaded is not None and loaded.manifest == found.manifest:
            return loaded
        return Runtime(
            found,
            providers=self._providers,
            threads=parallelism.threads(self._settings, found.manifest, cores.usable()),
            batch_units=self._settings.batch_units,
        )

    def _keep(self, runtime: Runtime) -> None:
        """As the one that was asked for last; the others make room."""
        key = runtime.manifest.name, runtime.manifest.version
        with self._changing:
            self._loaded[key] = runtime
            self._loaded.move_to_end(key)
            others = [one for one in self._loaded if self._current.get(one[0]) != one[1]]
            size = sum(self._loaded[one].size for one in others)
            for one in others:
                if size <= self._settings.model_memory or one == key:
                    break
                size -= self._loaded.pop(one).size
