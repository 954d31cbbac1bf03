"""ONNX Runtime, kept from sending anything anywhere. Everybody imports it from here.

From 1.29 on it has telemetry on Linux that is on by default, and reads the variable that turns it
off when it is loaded. A value that the user has set stands; child processes inherit it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Mapping, Sequence
from typing import Final

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime  # noqa: TID251

__all__ = ["onnxruntime", "session"]

#: Where ONNX Runtime looks for weights that it was not given: no such folder can be made.
_NOWHERE: Final = "/proc/not-listed-in-the-manifest"


def session(
    model: bytes,
    others: Mapping[str, bytes],
    options: onnxruntime.SessionOptions,
    providers: Sequence[str],
) -> onnxruntime.InferenceSession:
    """A session of a graph whose weights, where it does not have them itself, are in `others`.

    It reads no file, and keeps none of these bytes: ONNX Runtime copies what it needs of them. So
    it takes twice their memory for the moment in which it is made. Raises what ONNX Runtime raises.
    """
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", _NOWHERE
    )
    files = list(others.values())
    if files:
        options.add_external_initializers_from_files_in_memory(
            list(others), files, list(map(len, files))
        )
    made = onnxruntime.InferenceSession(
        model, options, providers=list(providers), enable_fallback=0
    )
    # It keeps the graph, so that it can be made anew with another provider when a run fails. A
    # worker reports that instead, and the graph would double what a model takes of memory.
    made.disable_fallback()
    made._model_bytes = None
    _give_back()
    return made


def _give_back() -> None:
    """To the system, what loading has freed: the allocator would keep it, a fourth of a model."""
    with contextlib.suppress(OSError, AttributeError):  # of glibc alone
        ctypes.CDLL(None).malloc_trim(0)
