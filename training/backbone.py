"""A network of pictures from elsewhere without its classifier: what it makes of a picture, in
numbers, is learnt from.

It is a folder from the Hugging Face hub with model.onnx, or a version of LMaaS that takes pictures.
No TensorFlow in here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from lmaas.broker_config.errors import TrainingError
from lmaas.broker_config.messages import Item
from lmaas.training import hub
from lmaas.training.importing import hugging_face
from lmaas.workers.batcher import batches
from lmaas.workers.manifest import MODEL, Batching, Input
from lmaas.workers.model_version import MANIFEST, read_manifest
from lmaas.workers.ort import onnxruntime
from lmaas.workers.preprocess.image import EncodedImages, Images

Floats = npt.NDArray[np.float32]

BATCHING: Final = Batching(unit="pixels", most=2**15)
#: Of transformers: one row a picture, and one for each of its patches.
_POOLED: Final = ("pooler_output", "image_embeds")
_PATCHES: Final = "last_hidden_state"
#: Models without a row for [CLS].
_WITHOUT_CLS: Final = frozenset({"swin", "swinv2", "siglip_vision_model", "pvt", "segformer"})
#: Names of outputs with scores, the likeliest first.
_SCORES: Final = ("logits", "scores", "probabilities", "output")
#: What comes between a dense layer and the scores.
_AFTER: Final = frozenset({"Softmax", "Sigmoid", "Identity", "Cast", "Reshape", "Squeeze", "Add"})
_DENSE: Final = frozenset({"Gemm", "MatMul"})


class Backbone:
    """Its graph up to the features, [pictures, numbers], and how a picture is prepared for it."""

    def __init__(self, folder: Path, pooling: str | None = None) -> None:
        """`pooling` (mean, cls) is for a graph with a row for each patch.

        Raises TrainingError or DataError when there is no such graph, or it has no features.
        """
        self.name, path, told, config, self.input = _read(folder)
        self.images = msgspec.convert(told, Images)
        graph = onnx.load(path)
        name, how = _chosen(graph, config, pooling, path)
        rows = self.input.shape[0]
        self.batching = msgspec.structs.replace(BATCHING, rows=rows)
        _end_with(graph, name)
        self._ours = ours = _prefix(graph)
        shape = self._tried(graph, path)
        #: How the rows of a picture's patches become one; None where there are none.
        self.pooling = how if len(shape) == 3 else None
        self._features = f"{ours}features"
        graph.graph.node.extend(_pooled(graph, name, len(shape), self.pooling, path, ours))
        _output(graph, self._features, [None, None])
        self._graph = graph
        self._session = _session(graph, path)

    def rows(self, items: Sequence[Item]) -> Floats:
        """[items, numbers]. Raises TrainingError for what is no picture."""
        encoded = self._encoded(items)
        found: list[tuple[list[int], Floats]] = []
        for batch in batches(encoded.lengths, self.batching):
            (rows,) = self._session.run([self._features], encoded.arrays(batch))
            found.append((batch.positions, rows[: len(batch.positions)]))
        if encoded.faults:
            place, error = min(encoded.faults.items())
            raise TrainingError(f"{items[place].id}: {error.message}; mend or delete it")
        whole = np.empty((len(items), found[0][1].shape[1]), np.float32)
        for positions, rows in found:
            whole[positions] = rows
        return whole

    def with_classifier(self, weights: Floats, bias: Floats) -> onnx.ModelProto:
        """From pixels to probabilities: one graph."""
        model = onnx.ModelProto()
        model.CopyFrom(self._graph)
        graph, ours = model.graph, self._ours
        graph.initializer.extend(
            [
                numpy_helper.from_array(weights, f"{ours}weights"),
                numpy_helper.from_array(bias, f"{ours}bias"),
            ]
        )
        graph.node.extend(
            [
                helper.make_node("MatMul", [self._features, f"{ours}weights"], [f"{ours}product"]),
                helper.make_node("Add", [f"{ours}product", f"{ours}bias"], [f"{ours}logits"]),
                helper.make_node("Softmax", [f"{ours}logits"], [f"{ours}scores"], axis=1),
            ]
        )
        _output(model, f"{ours}scores", [None, len(bias)])
        return model

    def _encoded(self, items: Sequence[Item]) -> EncodedImages:
        height, width = self.images.size
        pictures = [item.data or b"" for item in items]
        return EncodedImages(pictures, self.images, self.input, height * width)

    def _tried(self, graph: onnx.ModelProto, path: Path) -> tuple[int, ...]:
        """Shape of what it makes of a black picture."""
        shape = (self.input.shape[0] or 1, *self.images.shape)
        black = np.zeros(shape, self.input.dtype)
        try:
            (made,) = _session(graph, path).run(None, {self.input.name: black})
        except Exception as error:  # ONNX Runtime's own, of many classes
            raise TrainingError(f"{path}: it fails its first run: {_line(error)}") from error
        found: tuple[int, ...] = made.shape
        return found


def _read(folder: Path) -> tuple[str, Path, dict[str, Any], dict[str, Any], Input]:
    """Name, graph, preprocessing, config and input. Raises DataError or TrainingError."""
    if (folder / MANIFEST).is_file():
        manifest = read_manifest(folder)
        if manifest.preprocessing.get("kind") != "image":
            raise TrainingError(f"{folder}: a model of {manifest.preprocessing.get('kind')}")
        name = f"{manifest.name}/{manifest.version}"
        return name, folder / MODEL, manifest.preprocessing, manifest.head, manifest.inputs[0]
    if not hugging_face.recognises(folder):
        raise TrainingError(
            f"{folder}: no backbone for pictures: give a folder from the Hugging Face hub with "
            "config.json, preprocessor_config.json and model.onnx, or a version of LMaaS"
        )
    found = hugging_face.pictures(folder)
    return hub.called(found.folder), found.path, found.preprocessing, found.config, found.input


def _chosen(
    model: onnx.ModelProto, config: dict[str, Any], pooling: str | None, path: Path
) -> tuple[str, str]:
    """The tensor that has the features, and how patches are pooled. Raises TrainingError."""
    outputs = [one.name for one in model.graph.output]
    default = "mean" if config.get("model_type") in _WITHOUT_CLS else "cls"
    pooled = next((name for name in _POOLED if name in outputs), None)
    if pooled and not (pooling and _PATCHES in outputs):
        return pooled, default
    if _PATCHES in outputs:
        return _PATCHES, pooling or default
    named = config.get("output") or next((name for name in _SCORES if name in outputs), outputs[0])
    made = {name: node for node in model.graph.node for name in node.output}
    constant = {one.name for one in model.graph.initializer}
    constant |= {node.output[0] for node in model.graph.node if node.op_type == "Constant"}
    name = named
    while (node := made.get(name)) is not None:
        if node.op_type in _DENSE:
            return node.input[0], default
        free = [one for one in node.input if one and one not in constant]
        if node.op_type not in _AFTER or not free:
            break
        name = free[0]
    what = node.op_type if node is not None else "its input"
    raise TrainingError(
        f"{path}: it has none of the outputs {', '.join((*_POOLED, _PATCHES))}, and before the "
        f"scores ({named}) there is no dense layer whose input could be learnt from, but {what}; "
        "export it without its classifier"
    )


def _end_with(model: onnx.ModelProto, name: str) -> None:
    """Make a tensor the only output, and leave out whatever it does not need."""
    graph = model.graph
    needed, kept = {name}, []
    for node in reversed(graph.node):
        if needed & set(node.output):
            kept.append(node)
            needed |= set(_taken(node))
    nodes = [node for node in graph.node if any(node is one for one in kept)]
    weights = [one for one in graph.initializer if one.name in needed]
    for field, left in ((graph.node, nodes), (graph.initializer, weights)):
        copies = [type(one).FromString(one.SerializeToString()) for one in left]
        del field[:]
        field.extend(copies)
    del graph.value_info[:]
    del graph.output[:]
    graph.output.append(onnx.ValueInfoProto(name=name))


def _taken(node: onnx.NodeProto) -> Iterator[str]:
    """Names that a node, or a graph inside of it, takes."""
    yield from node.input
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs):
            for one in inner.node:
                yield from _taken(one)
            yield from (one.name for one in inner.output)


def _prefix(model: onnx.ModelProto) -> str:
    """Of the names of what is added, which nothing in the graph has: it can be ours already."""
    names = {name for node in model.graph.node for name in (*node.input, *node.output)}
    found = (f"lmaas{number}." for number in itertools.count(1))
    return next(prefix for prefix in found if not any(name.startswith(prefix) for name in names))


def _pooled(
    model: onnx.ModelProto, name: str, rank: int, pooling: str | None, path: Path, ours: str
) -> Iterator[onnx.NodeProto]:
    """What makes the features, float32 [pictures, numbers], of a tensor of so many dimensions:
    [pictures, numbers], [pictures, patches, numbers] or [pictures, numbers, height, width]."""
    pooled = f"{ours}pooled"
    if rank == 2:
        pooled = name
    elif rank == 3 and pooling == "cls":
        first = numpy_helper.from_array(np.array(0, np.int64), f"{ours}first")
        model.graph.initializer.append(first)
        yield helper.make_node("Gather", [name, first.name], [pooled], axis=1)
    elif rank == 3:
        yield _mean(model, name, pooled, ours)
    elif rank == 4:
        yield helper.make_node("GlobalAveragePool", [name], [f"{ours}average"])
        yield helper.make_node("Flatten", [f"{ours}average"], [pooled], axis=1)
    else:
        raise TrainingError(f"{path}: {name!r} has {rank} dimensions; there can be 2, 3 or 4")
    yield helper.make_node("Cast", [pooled], [f"{ours}features"], to=TensorProto.FLOAT)


def _mean(model: onnx.ModelProto, name: str, made: str, ours: str) -> onnx.NodeProto:
    """Over the second dimension; where that is said has changed with opset 18."""
    opset = max(one.version for one in model.opset_import if not one.domain)
    if opset < 18:
        return helper.make_node("ReduceMean", [name], [made], axes=[1], keepdims=0)
    axes = numpy_helper.from_array(np.array([1], np.int64), f"{ours}axes")
    model.graph.initializer.append(axes)
    return helper.make_node("ReduceMean", [name, axes.name], [made], keepdims=0)


def _output(model: onnx.ModelProto, name: str, shape: list[int | None]) -> None:
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))


def _session(model: onnx.ModelProto, path: Path) -> Any:
    """Raises TrainingError."""
    try:
        return onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's own, and protobuf's for graphs above 2 GB
        raise TrainingError(f"{path}: ONNX Runtime cannot load it: {_line(error)}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
