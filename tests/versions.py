"""Versions of models that are made up, in memory or on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import onnx
from onnx import helper

from lmaas.workers.manifest import MODEL, PROBABILITIES, Batching, Input, Manifest
from lmaas.workers.model_version import MANIFEST, ModelVersion


def manifest(
    preprocessing: Mapping[str, Any],
    inputs: Sequence[Input],
    batching: Batching,
    *files: str,
    labels: Sequence[str] = ("x", "y"),
    head: Mapping[str, Any] = PROBABILITIES,
    **more: Any,
) -> Manifest:
    """With the names of the `files` beside the graph, and of nothing a checksum."""
    described: dict[str, Any] = {
        "name": "m",
        "version": "1",
        "architecture": "made up",
        "dataset": {},
        "metrics": {},
        "code_version": "0",
        "created": "2026-01-01T00:00:00Z",
        **more,
    }
    return Manifest(
        labels=list(labels),
        inputs=list(inputs),
        preprocessing=dict(preprocessing),
        head=dict(head),
        batching=batching,
        files=dict.fromkeys((MODEL, *files), ""),
        **described,
    )


def in_memory(made: Manifest, **contents: bytes) -> ModelVersion:
    """Of which no file is on disk; contents by their names, without the suffix."""
    named = {name: contents[name.partition(".")[0]] for name in made.files if name != MODEL}
    return ModelVersion(Path("/m/1"), made, named)


def save_graph(folder: Path, graph: onnx.GraphProto, **how: Any) -> None:
    """As the model of a new folder, for any ONNX Runtime that we support; `how` as onnx.save."""
    folder.mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / MODEL, **how)


def describe(folder: Path, made: Manifest) -> None:
    """Write the manifest of the folder NAME/VERSION, with the checksums of its files."""
    files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in made.files}
    named = msgspec.structs.replace(made, name=folder.parent.name, version=folder.name, files=files)
    (folder / MANIFEST).write_bytes(msgspec.json.encode(named))
