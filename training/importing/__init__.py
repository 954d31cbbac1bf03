"""Models from elsewhere as versions of ours: looked at, probed, measured.

TensorFlow is imported for models of Keras alone.

An origin is a module with `recognises(path)` and `proposed(path, options)`; the first that
recognises a path is asked.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Final

from lmaas.broker_config.errors import DataError
from lmaas.training.importing.proposal import Options, Proposal

#: The more special ones first: a graph of scikit-learn is an ONNX file, too.
ORIGINS: Final = ("hugging_face", "of_keras", "scikit_learn", "bare")


def imported(path: Path, options: Options) -> Proposal:
    """What can be made of the file or folder, before it was tried. Raises DataError."""
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder")
    for name in ORIGINS:
        origin = importlib.import_module(f"{__name__}.{name}")
        if origin.recognises(path):
            found: Proposal = origin.proposed(path, options)
            return found
    raise DataError(
        f"{path}: no model that is known here: give a version of ours, a folder from the Hugging "
        "Face hub (config.json and model.onnx), an ONNX file, or a model of Keras (.keras, .h5, "
        "or a SavedModel's folder)"
    )
