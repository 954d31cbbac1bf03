"""An ONNX file, looked at without running it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import onnx
from onnx import TensorProto

from lmaas.broker_config.errors import DataError
from lmaas.workers.manifest import MODEL
from lmaas.workers.plain_files import is_plain_name
from lmaas.workers.preprocess.strings import STRING

#: What changes neither the values of a tensor nor what they mean.
_PASSING: Final = frozenset({"Identity", "Cast", "Squeeze", "Reshape", "Flatten"})
#: What a quantized graph has.
_INTEGER: Final = frozenset(
    {"MatMulInteger", "DynamicQuantizeLinear", "QLinearMatMul", "QLinearConv", "QuantizeLinear"}
)
#: How a file begins that Git LFS has put into the place of a large one.
_POINTER: Final = b"version https://git-lfs"


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a graph."""

    name: str
    #: As a manifest calls it; "map" for what is no tensor.
    dtype: str
    #: None for a dimension that is free; None altogether when nothing is said.
    shape: list[int | None] | None

    def __str__(self) -> str:
        shape = "of any shape" if self.shape is None else str(self.shape).replace("None", "?")
        return f"{self.name!r} ({self.dtype} {shape})"


class Graph:
    """Inputs, outputs, and what is in between."""

    def __init__(self, path: Path, content: bytes | None = None) -> None:
        """`content` is that of the file, where it is known. Raises DataError when it is no ONNX
        file, or its weights are not where it says.
        """
        self.path = path
        self.content = read(path) if content is None else content
        try:
            self.model = onnx.load_model_from_string(self.content)
        except Exception as error:  # protobuf's own, which is a part of onnx
            raise DataError(
                f"{path}: no ONNX file, or a part of one ({len(self.content):,} bytes): {error}; "
                "copy it again"
            ) from error
        graph = self.model.graph
        if not graph.node or not graph.output:
            raise DataError(f"{path}: no ONNX file: there is no graph in it")
        self._look()
        if not self.inputs:
            raise DataError(f"{path}: it has no inputs, so that its output is always the same")

    def changed(self) -> None:
        """Somebody has changed its model."""
        self.content = self.model.SerializeToString()
        self._look()

    def _look(self) -> None:
        graph = self.model.graph
        weights = {one.name for one in graph.initializer}
        self.inputs = [_port(one) for one in graph.input if one.name not in weights]
        self.outputs = [_port(one) for one in graph.output]
        self._made = {name: node for node in graph.node for name in node.output}

    @property
    def opset(self) -> int:
        """Of ONNX's own operators."""
        return max((one.version for one in self.model.opset_import if not one.domain), default=0)

    def warnings(self) -> list[str]:
        """What its numbers mean for who serves it."""
        graph = self.model.graph
        found = []
        if any(one.data_type == TensorProto.FLOAT16 for one in graph.initializer):
            found.append("its weights are of 16 bits, which is slow on a CPU; float32 is faster")
        if any(node.op_type in _INTEGER for node in graph.node):
            found.append("it computes in int8, whose answers differ a little between processors")
        return found

    def files(self) -> dict[str, bytes]:
        """The graph and its external weights, by their names in a version. Raises DataError."""
        found = {MODEL: self.content}
        for name, size in self._external().items():
            if not is_plain_name(name) or name == MODEL:
                raise DataError(
                    f"{self.path}: its weights are in {name!r}, which is no name of a file beside "
                    "it; save it anew with onnx.save(onnx.load(PATH), OTHER)"
                )
            if not (self.path.parent / name).is_file():
                raise DataError(
                    f"{self.path}: its weights are in {name!r}, which is not there; copy that file "
                    "into the same folder"
                )
            found[name] = read(self.path.parent / name)
            if len(found[name]) < size:
                raise DataError(
                    f"{self.path.parent / name}: cut: {len(found[name]):,} bytes, of which there "
                    f"should be {size:,}; copy it again"
                )
        return found

    def ends_in(self, output: str) -> str:
        """The operator that makes an output, but for those that only pass values on."""
        node = self._made.get(output)
        while node is not None and node.op_type in _PASSING and node.input[0] in self._made:
            node = self._made[node.input[0]]
        return node.op_type if node is not None else ""

    def rows_of_embedding(self, ids: str) -> int | None:
        """How many ids there are, of an input that looks up its rows; None when nobody can say."""
        same = {ids}
        sizes = {one.name: one.dims for one in self.model.graph.initializer}
        for node in self.model.graph.node:  # in the order in which they run
            if node.op_type in _PASSING and node.input[0] in same:
                same.add(node.output[0])
            elif node.op_type == "Gather" and node.input[1] in same and node.input[0] in sizes:
                return int(sizes[node.input[0]][0])
        return None

    def _external(self) -> dict[str, int]:
        """The files of its weights, and how many bytes each has at least."""
        found: dict[str, int] = {}
        for tensor in _tensors(self.model.graph):
            if tensor.data_location == TensorProto.EXTERNAL:
                told = {one.key: one.value for one in tensor.external_data}
                name = told.get("location", "")
                end = sum(int(told.get(key) or 0) for key in ("offset", "length"))
                found[name] = max(found.get(name, 0), end)
        return found


def _tensors(graph: Any) -> Iterator[Any]:
    """All of a graph and of those inside it."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("g"):
                yield from _tensors(attribute.g)
            for inner in attribute.graphs:
                yield from _tensors(inner)


def _port(told: Any) -> Port:
    kind = told.type.tensor_type
    if not told.type.HasField("tensor_type"):
        return Port(told.name, "map", None)
    shape = None
    if kind.HasField("shape"):
        shape = [one.dim_value if one.dim_value > 0 else None for one in kind.shape.dim]
    if kind.elem_type == TensorProto.STRING:
        return Port(told.name, STRING, shape)
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
    except KeyError:
        dtype = f"type {kind.elem_type}"
    return Port(told.name, dtype, shape)


def read(path: Path) -> bytes:
    """All of a file that a user has named, or that belongs to it. Links are followed: what the hub
    has downloaded is full of them. Raises DataError."""
    try:
        if not path.is_file():  # a pipe is waited for
            raise DataError(f"{path}: {'not a file' if path.exists() else 'there is no such file'}")
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if content.startswith(_POINTER):
        raise DataError(
            f"{path}: only what Git LFS has in the place of the file; run `git lfs pull` in its "
            "folder, or download it again"
        )
    return content
