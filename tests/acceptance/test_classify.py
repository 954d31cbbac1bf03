"""The real `lmaas classify`, in processes of its own, with a tiny model whose answers are known."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lmaas.cli.exits import Exit
from producer.bulk import CHECKPOINT_ROWS
from workers.repository import MODEL, Calibration, Manifest, Preprocessing

#: A good word speaks for "positive", a bad one against it, any other for neither.
WORDS = ("good", "bad")
VOTES = [[0.0, 0.0], [0.0, 0.0], [-2.0, 2.0], [2.0, -2.0]]

Command = Callable[..., subprocess.CompletedProcess[str]]


def save_tiny_model(root: Path, version: str = "1") -> None:
    """A model "sentiment" that counts the words of WORDS."""
    folder = root / "sentiment" / version
    folder.mkdir(parents=True)
    nodes = [
        helper.make_node("Gather", ["votes", "ids"], ["each"]),
        helper.make_node("ReduceSum", ["each", "words"], ["sum"], keepdims=0),
        helper.make_node("Softmax", ["sum"], ["scores"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("ids", TensorProto.INT32, ["rows", "words_"])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["rows", 2])],
        [
            numpy_helper.from_array(np.array(VOTES, np.float32), "votes"),
            numpy_helper.from_array(np.array([1], np.int64), "words"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / MODEL)
    (folder / "vocabulary.txt").write_text("".join(f"{word}\n" for word in WORDS))
    manifest = Manifest(
        name="sentiment",
        version=version,
        labels=["negative", "positive"],
        preprocessing=Preprocessing(kind="words", file="vocabulary.txt", max_tokens=512),
        architecture="gap",
        dataset={},
        metrics={},
        calibration=Calibration(fixed_seconds=0.001, seconds_per_byte=1e-8),
        code_version="0",
        created="2026-01-01T00:00:00Z",
        files={
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
            for name in (MODEL, "vocabulary.txt")
        },
    )
    (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest))
