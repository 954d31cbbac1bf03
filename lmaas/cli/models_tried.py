"""Versions of models, tried as a worker tries them, where that can be."""

from __future__ import annotations

import importlib.util

from lmaas.workers.model_version import ModelVersion


def can_run() -> bool:
    """Whether models can be tried here: who only sends work needs no ONNX Runtime."""
    return importlib.util.find_spec("onnxruntime") is not None


def tried(version: ModelVersion) -> ModelVersion:
    """The same, if it can be served, as far as that can be tried. Raises ModelDamaged."""
    if can_run():
        from lmaas.workers.runtime import Runtime

        Runtime(version)
    return version
