"""Models that are loaded once, before worker processes are forked, which then share their memory.

What ONNX Runtime has made of the weights, its packed copies too, is written by nobody afterwards,
so that the kernel keeps one copy of it for all processes (copy on write). The bytes that were
verified are what it was made of, whatever becomes of the files meanwhile.

The process that workers are forked from imports this module, and finds in its environment what to
load: `multiprocessing` has no other way to tell it. Threads do not survive a fork, nor does what is
on a GPU: only sessions of one thread on the CPU are made.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
from collections.abc import Mapping
from typing import Final

import msgspec

from lmaas.broker_config.settings import Settings
from lmaas.service import cores
from lmaas.workers import parallelism

#: What to load, as JSON. It is no setting, so that its name does not begin with LMAAS_.
_VARIABLE: Final = "_LMAAS_PRELOADED"
#: Settings that loading needs. Others may be secrets, as the broker's password is.
_NEEDED: Final = (
    *("models", "model_keys", "model_marks", "model_memory", "max_model_bytes"),
    *("processes", "threads", "providers", "batch_units"),
)


class _Wanted(msgspec.Struct):
    """What workers will serve."""

    settings: Settings
    #: Names of models; none: all.
    served: tuple[str, ...]


def variables(settings: Settings, served: tuple[str, ...]) -> Mapping[str, str]:
    """For the environment of the process that workers with these settings are forked from."""
    needed = Settings(**{name: getattr(settings, name) for name in _NEEDED})
    wanted = _Wanted(settings=needed, served=served)
    return {_VARIABLE: msgspec.json.encode(wanted).decode()}


def _load(wanted: _Wanted) -> None:
    """What cannot be loaded is left to the workers, who say why."""
    from lmaas.workers.models import INHERITED, Models

    settings = wanted.settings
    if not parallelism.on_cpu(settings):
        return
    models = Models(settings)
    for model in wanted.served or models.repository.models():
        manifests = models.repository.manifests([model])
        if any(parallelism.threads(settings, one, cores.usable()) > 1 for one in manifests):
            continue
        with contextlib.suppress(Exception):
            runtime = models.load(model)
            INHERITED[model, runtime.manifest.version] = runtime
    gc.freeze()  # what is collected by a child is written by it


if _found := os.environ.pop(_VARIABLE, None):
    logging.disable(logging.CRITICAL)  # the workers say it again
    with contextlib.suppress(Exception):
        _load(msgspec.json.decode(_found, type=_Wanted))
    logging.disable(logging.NOTSET)
