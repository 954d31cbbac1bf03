"""ONNX Runtime, kept from sending anything anywhere. Everybody imports it from here.

From 1.29 on it has telemetry on Linux that is on by default, and reads the variable that turns it
off when it is loaded. A value that the user has set stands; child processes inherit it.
"""

from __future__ import annotations

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime  # noqa: TID251

__all__ = ["onnxruntime"]
