"""Numbers of 8 or 16 bits in the place of those of 32: smaller, and faster on some machines.

They change answers, so that a quantized graph is compared with the one that it was made of, on the
user's own items, and timed beside it; what loses too much, or gains nothing, is refused.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import onnx

from lmaas.broker_config.errors import ModelDamaged, TrainingError
from lmaas.broker_config.messages import Item
from lmaas.training.measuring import NEARLY, affordable, measured, timed
from lmaas.training.recipe import Numbers, Quantize
from lmaas.workers.heads import Scores
from lmaas.workers.manifest import MODEL, THRESHOLD, Manifest
from lmaas.workers.model_version import ModelVersion
from lmaas.workers.runtime import Runtime

T = TypeVar("T")
#: What is made of 8 bits: of convolutions ONNX Runtime has no fast ones on a CPU.
_OPERATORS: Final = ["MatMul", "Gemm", "Attention", "LSTM", "Gather"]
#: Items that are compared, and timed, at most; and how often each of the two is timed in turn.
COMPARED: Final = 2048
TIMED: Final = 512
ROUNDS: Final = 3
#: Bytes of a graph that protobuf takes with its weights inside.
_ONE_FILE: Final = 2**31 - 2**20


class Quantized(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it, on this machine, for the manifest's record."""

    kind: Numbers
    #: Items that it was compared on; the share of them whose label stayed; and by how much a score
    #: differs at most.
    items: int
    agreement: float
    difference: float
    #: Right answers before and after, where they are known.
    accuracy: tuple[float, float] | None
    #: Items a second before and after, and bytes of the files.
    speed: tuple[float, float]
    bytes: tuple[int, int]

    @property
    def lost(self) -> float:
        if self.accuracy is None:
            return 1 - self.agreement
        return self.accuracy[0] - self.accuracy[1]

    @property
    def faster(self) -> float:
        return self.speed[1] / self.speed[0]

    def __str__(self) -> str:
        right = "" if self.accuracy is None else (
            "; accuracy {:.4f}, it was {:.4f}".format(*reversed(self.accuracy))
        )  # fmt: skip
        before, after = (size / 1e6 for size in self.bytes)
        return (
            f"{self.kind}: {self.faster:.2f} times as fast on this machine; of {self.items:,} "
            f"items {self.agreement:.2%} keep their label{right}; scores differ by up to "
            f"{self.difference:.2g}; {after:.1f} MB, it was {before:.1f}"
        )


def quantized(
    version: ModelVersion,
    items: Sequence[Item],
    how: Quantize,
    truth: npt.NDArray[np.int32] | None = None,
) -> tuple[ModelVersion, Quantized]:
    """The same version with a smaller graph, and what that changed.

    `items` are such as the model will get, at least one; `truth` has what each one's label is, or
    labels are.
    Raises TrainingError when more is lost than may be, or it is no faster, and `force` is not said.
    """
    smaller = _with(version, _converted(version, how.kind))
    try:
        Runtime(smaller)
    except ModelDamaged as error:
        raise TrainingError(f"--quantize {how.kind}: it does not run: {error}") from error
    told = measured(smaller, _some(items, TIMED))
    smaller = dataclasses.replace(smaller, manifest=told.in_(smaller.manifest))
    found = _compared((version, smaller), items, truth, how.kind)
    if not how.force:
        _check(found, how)
    return smaller, found


def _compared(
    versions: tuple[ModelVersion, ModelVersion],
    items: Sequence[Item],
    truth: npt.NDArray[np.int32] | None,
    kind: Numbers,
) -> Quantized:
    runtimes = [Runtime(version) for version in versions]
    compared = _some(range(len(items)), COMPARED)
    scores = [runtime.scores([items[at] for at in compared]) for runtime in runtimes]
    chosen = [_chosen(found, versions[0].manifest) for found in scores]
    accuracy = None
    if truth is not None:
        known = truth[list(compared)].reshape(len(compared), -1)
        right = [float((labels == known).all(axis=1).mean()) for labels in chosen]
        accuracy = (right[0], right[1])
    how = versions[0].manifest.batching
    timed_ = affordable(runtimes[0], _some(items, TIMED), how)
    times = [
        [
            timed(one, timed_, version.manifest.batching)
            for one, version in zip(runtimes, versions, strict=True)
        ]
        for _ in range(ROUNDS)
    ]
    speed = [len(timed_) / min(column) for column in zip(*times, strict=True)]
    return Quantized(
        kind=kind,
        items=len(compared),
        agreement=float((chosen[0] == chosen[1]).all(axis=1).mean()),
        difference=float(np.abs(scores[0] - scores[1]).max()),
        accuracy=accuracy,
        speed=(speed[0], speed[1]),
        bytes=(runtimes[0].size, runtimes[1].size),
    )


def _chosen(scores: Scores, manifest: Manifest) -> npt.NDArray[np.int64]:
    """The place of each item's label, [items, 1]; of several which it gets, [items, labels]."""
    if manifest.multi_label:
        found = scores >= np.float32(manifest.min_score or THRESHOLD)
    else:
        found = scores.argmax(axis=1)[:, None]
    return found.astype(np.int64)


def _check(found: Quantized, how: Quantize) -> None:
    """Raises TrainingError."""
    if found.lost > how.limit:
        what = "labels change" if found.accuracy is None else "right answers are lost"
        raise TrainingError(
            f"{found}. {found.lost:.2%} of the {what}, more than {how.limit:.2%}: nothing was "
            "written; --quantize-limit says how many may, and --force keeps it"
        )
    if found.faster < NEARLY:  # what is less may be chance
        raise TrainingError(
            f"{found}. It is not faster here: nothing was written; --force keeps it"
        )


def _some(of: Sequence[T], most: int) -> Sequence[T]:
    """From everywhere."""
    return of[:: max(1, len(of) // most)][:most]


# ------------------------------------------------------------------- graphs

# The tools of onnxruntime are imported where they are used: they are slow to import, and by then
# `lmaas.workers.ort` has turned its telemetry off.


def _with(version: ModelVersion, graph: Mapping[str, bytes]) -> ModelVersion:
    """The version with another graph, and its weights, in the place of its own."""
    external = _weights(version.contents[MODEL]) | {MODEL}
    others = {name: one for name, one in version.contents.items() if name not in external}
    contents = {**others, **graph}
    files = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    manifest = msgspec.structs.replace(version.manifest, files=files)
    return dataclasses.replace(version, manifest=manifest, contents=contents)


def _weights(graph: bytes) -> set[str]:
    """Names of the files with its weights."""
    tensors = onnx.load_model_from_string(graph).graph.initializer
    return {
        entry.value
        for tensor in tensors
        for entry in tensor.external_data
        if tensor.data_location == onnx.TensorProto.EXTERNAL and entry.key == "location"
    }


def _converted(version: ModelVersion, kind: Numbers) -> dict[str, bytes]:
    """Files of the graph with smaller numbers. Raises TrainingError."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            return _converted_in(Path(folder), version.contents, kind)
    except OSError as error:
        raise TrainingError(
            f"--quantize {kind}: {tempfile.gettempdir()}: {error.strerror or error}; the variable "
            "TMPDIR names another folder for temporary files"
        ) from error


def _converted_in(folder: Path, contents: Mapping[str, bytes], kind: Numbers) -> dict[str, bytes]:
    """The same, by way of files in an empty folder. Raises TrainingError and OSError."""
    source, target = folder / "before" / MODEL, folder / "after" / MODEL
    target.parent.mkdir()
    for name, content in contents.items():
        (source.parent / name).parent.mkdir(parents=True, exist_ok=True)
        (source.parent / name).write_bytes(content)
    source.write_bytes(_with_one_opset(contents[MODEL]))
    try:
        with _quietly():
            _CONVERTERS[kind](source, target)
    except OSError:
        raise
    except Exception as error:  # the tools raise what they like
        told = " ".join(str(error).split())
        raise TrainingError(f"--quantize {kind}: this graph cannot be: {told}") from error
    return {path.name: path.read_bytes() for path in target.parent.iterdir()}


def _with_one_opset(graph: bytes) -> bytes:
    """Graphs that were merged may say twice which operators they have (the domain is called "", or
    "ai.onnx"), which the tools do not take."""
    model = onnx.load_model_from_string(graph)
    versions: dict[str, int] = {}
    for one in model.opset_import:
        domain = "" if one.domain == "ai.onnx" else one.domain
        versions[domain] = max(one.version, versions.get(domain, 0))
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(*one) for one in versions.items())
    return bytes(model.SerializeToString())


def _int8(source: Path, target: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: TID251

    quantize_dynamic(
        source,
        target,
        op_types_to_quantize=_operators(source),
        per_channel=True,
        weight_type=QuantType.QInt8,
        use_external_data_format=_is_large(source.parent, 4),
    )


def _operators(path: Path) -> list[str]:
    """Those that can be of 8 bits: of rows of 16 bits the tool would make an invalid graph."""
    graph = onnx.load(path, load_external_data=False).graph
    halves = {one.name for one in graph.initializer if one.data_type == onnx.TensorProto.FLOAT16}
    looked_up = {node.input[0] for node in graph.node if node.op_type == "Gather"}
    return [one for one in _OPERATORS if one != "Gather" or not looked_up & halves]


def _fp16(source: Path, target: Path) -> None:
    from onnxruntime.transformers.float16 import convert_float_to_float16  # noqa: TID251

    graph = convert_float_to_float16(onnx.load(source), keep_io_types=True)
    large = _is_large(source.parent, 2)
    onnx.save(graph, target, save_as_external_data=large, location=f"{MODEL}.data")


_CONVERTERS: Final[dict[Numbers, Callable[[Path, Path], None]]] = {"int8": _int8, "fp16": _fp16}


def _is_large(folder: Path, smaller: int) -> bool:
    """Whether the graph is too large for one file when its weights are so many times smaller."""
    return sum(path.stat().st_size for path in folder.rglob("*.*")) / smaller > _ONE_FILE


@contextmanager
def _quietly() -> Iterator[None]:
    """onnxruntime's tools write advice for their own users to the log of all."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
